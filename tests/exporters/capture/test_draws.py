"""Random numbers become what eager draws with the same seed; what depends on data is refused."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.programs import run
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.errors import ConversionRefused

X = torch.linspace(-1, 1, 10).reshape(2, 5)


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "exponential": lambda x: F.gumbel_softmax(x),
    "normal": lambda x: x + torch.empty_like(x).normal_(1, 2),
    "uniform": lambda x: x + x.new_zeros(2, 5).uniform_(2, 3),
    "bernoulli": lambda x: x * torch.empty_like(x).bernoulli_(0.3),
    "several": lambda x: x + torch.rand(5) * torch.empty_like(x).exponential_() + torch.randn_like(x),
    "dropout first": lambda x: F.dropout(x, 0.5) + torch.randn_like(x),
    "dropout of channels": lambda x: F.dropout1d(x, 0.5, training=True),
    "permutation": lambda x: x[:, torch.multinomial(torch.ones(5), 3)],
}
OF_DATA: dict[str, Callable[[Tensor], Tensor]] = {
    "multinomial": lambda x: torch.multinomial(x.softmax(-1), 2),
    "bernoulli": lambda x: torch.bernoulli(x.sigmoid()),
    "normal": lambda x: torch.normal(x, 1.0),
}


@pytest.mark.parametrize("name", DRAWS)
def test_drawn_once_as_eager_draws(name: str) -> None:
    module = Applied(DRAWS[name]).eval()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = module(X)
    program = capture(module, (X,), seed=5)
    assert torch.equal(run(program, X)[0], expected)
    other = capture(module, (X,), seed=6)
    assert not torch.equal(run(other, X)[0], expected)


@pytest.mark.parametrize("name", OF_DATA)
def test_draws_of_data_are_refused_at_the_users_line(name: str) -> None:
    with pytest.raises(ConversionRefused, match=r"aten\.\w+.* at test_draws\.py:\d+: .*depends on the inputs"):
        capture(Applied(OF_DATA[name]), (X,))
