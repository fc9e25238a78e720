"""The user's module as the reference: what it decides is read and exchanged, and it is left as it was."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tm_export
from tm_export.exporters.errors import UsageError
from tm_export.exporters.reference.eager import run_eager


class Calls(nn.Module):
    """Runs a function, and counts in a buffer how often."""

    def __init__(self, function) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.function, self.dropout = function, nn.Dropout(0.5)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, *inputs: Tensor):  # type: ignore[no-untyped-def]
        self.count += 1
        return self.dropout(self.function(*inputs))


X = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))

DECIDING = {
    "topk": lambda x: x.gather(1, x.topk(2, dim=1).indices),
    "topk_values": lambda x: x.topk(2, dim=-2, largest=False).values,
    "sort": lambda x: x.sort(1, descending=True).values,
    "stable": lambda x: x.gather(1, x.sort(dim=1, stable=True).indices),
    "argsort": lambda x: x.gather(-1, x.argsort()),
    "max": lambda x: x.max(1).values,
    "min_index": lambda x: x.gather(1, x.min(1, keepdim=True).indices),
    "argmax": lambda x: x.gather(-1, x.argmax(-1, keepdim=True)),
    "argmin": lambda x: x[torch.arange(2)[:, None], x.argmin(1)],
}


@pytest.mark.parametrize("name", DECIDING)
def test_a_forced_decision_is_what_the_module_goes_on_with(name: str) -> None:
    """Forced to decide what it decides of other inputs, the module gives these inputs' rows in those places."""
    module = Calls(DECIDING[name])
    plain, other = run_eager(module, (X,), 0), run_eager(module, (X.flip(0) * -1,), 0)
    (call,), (wanted,) = plain.calls, other.calls
    assert not torch.equal(call.index_RK, wanted.index_RK)
    forced = run_eager(module, (X,), 0, {0: wanted.index_RK})
    assert torch.equal(forced.calls[0].index_RK, call.index_RK)  # what it would have decided
    # In its own decisions' places the module puts sorted scores: forced, those of the other order.
    assert not torch.equal(forced.outputs[0], plain.outputs[0])
    again = run_eager(module, (X,), 0, {0: call.index_RK})
    assert torch.equal(again.outputs[0], plain.outputs[0])
    assert set(forced.outputs[0].flatten().tolist()) <= set(X.flatten().tolist())


@pytest.mark.parametrize("name", DECIDING)
def test_scores_and_indices_are_rows(name: str) -> None:
    (call,) = run_eager(Calls(DECIDING[name]), (X,), 0).calls
    best = call.scores_RN.gather(1, call.index_RK[:, :1])[:, 0]
    assert torch.equal(best, call.scores_RN.amax(1)) or torch.equal(best, call.scores_RN.amin(1))
    assert call.is_stable is (name in ("stable", "max", "min_index", "argmax", "argmin"))


def test_a_choice_over_everything_is_no_decision() -> None:
    assert run_eager(Calls(lambda x: x + x.argmax() + x.max()), (X,), 0).calls == ()


def test_the_module_and_its_inputs_are_left_as_they_were() -> None:
    module = Calls(lambda x: x.mul_(2)).train()
    module.dropout.eval()
    kept = X.clone()
    (output,) = run_eager(module, (X,), 0).outputs
    assert torch.equal(output, kept * 2) and torch.equal(X, kept)
    assert module.count == 0
    assert module.training and not module.dropout.training


def test_random_numbers_come_from_the_seed_and_are_noted() -> None:
    generator = torch.Generator().manual_seed(99)
    module = Calls(lambda x: x + torch.rand(3) + torch.randn(3, generator=generator))
    state = torch.get_rng_state()
    one, same, other = (run_eager(module, (X,), seed) for seed in (5, 5, 6))
    assert torch.equal(one.outputs[0], same.outputs[0]) and not torch.equal(one.outputs[0], other.outputs[0])
    assert torch.equal(torch.get_rng_state(), state)
    own = torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    assert torch.equal(one.outputs[0], X + torch.rand(3) + torch.randn(3, generator=own))
    torch.set_rng_state(state)
    assert [draw.split(" at ")[0] for draw in one.draws] == ["rand", "randn"]
    assert "test_eager.py" in one.draws[0]


def test_attention_draws_nothing() -> None:
    heads = X[:, None]
    attention = Calls(lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x))
    assert run_eager(attention, (heads,), 0).draws == ()


def test_outputs_are_flat_tensors() -> None:
    module = nn.Module()
    module.forward = lambda x: {"a": x, "b": [x + 1, (None, 3, x[:, 0])]}  # type: ignore[method-assign]
    assert [tuple(output.shape) for output in run_eager(module, (X,), 0).outputs] == [(2, 5, 3), (2, 5, 3), (2, 3)]


def test_a_module_that_differs_from_run_to_run_is_told_with_its_first_operator(tmp_path: Path) -> None:
    class Counts(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            y = x * 2
            return (y + self.calls).relu()

    with pytest.raises(UsageError, match=r"output 0 of Counts differs .* \(it begins with add at .*self\.calls\)"):
        tm_export.export(Counts(), X, out=tmp_path)


def test_a_module_that_gives_nan_alone_is_told_with_its_first_operator(tmp_path: Path) -> None:
    class Logarithm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.abs() + 1
            return (-y).log().softmax(-1)

    with pytest.raises(UsageError, match=r"output 0 of Logarithm is NaN .* \(it begins with log at .*\(-y\)\.log\(\)"):
        tm_export.export(Logarithm(), X, out=tmp_path)
