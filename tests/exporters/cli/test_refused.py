"""What cannot be made static is refused, with the user's own line and what to do."""

import inspect
import re

import pytest

from tests.zoo import REFUSED, data_dependent
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.errors import ConversionRefused, ExitCode

LINES = {
    "threshold": "x[:, score > 0.5]",
    "rate": "int(score.sum())",
    "unique": "int(place.max())",
    "nonzero": "torch.nonzero(",
    "masked_select": "torch.masked_select(",
    "branch": "if self.score(x).mean() > 0",
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_message_names_the_line_and_what_to_do(name: str) -> None:
    module, inputs = REFUSED[name]()
    with pytest.raises(ConversionRefused) as refused:
        capture(module, inputs)
    message = str(refused.value)
    found = re.search(r"at data_dependent\.py:(\d+): ", message)
    assert found is not None, message
    line = inspect.getsource(data_dependent).splitlines()[int(found[1]) - 1]
    assert LINES[name] in line
    assert line.strip() in message
    assert "a fixed number of tokens (topk with a constant k)" in message
    selects = name in ("threshold", "nonzero", "masked_select")
    assert (f"(--capacity data_dependent.py:{found[1]}=48)" in message) == selects
    assert refused.value.exit_code is ExitCode.REFUSED


@pytest.mark.parametrize("name", REFUSED)
def test_the_module_still_runs_after_it_was_refused(name: str) -> None:
    module, inputs = REFUSED[name]()
    expected = module(*inputs)
    with pytest.raises(ConversionRefused):
        capture(module, inputs)
    assert module(*inputs).equal(expected)
