"""Other names for the same operators: equal results, and the name that the converter knows."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.programs import Lambda, emit_one, operators, program_of, run
from tm_export.exporters.graph.rule import apply_rules
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import Signature, find_target
from tm_export.exporters.targets.coreml.spelling import SPELLING
from tm_export.runtime.engines import engines_for

G = torch.Generator().manual_seed(0)
X = torch.randn(2, 6, 4, generator=G)
WHOLE = torch.randint(-9, 9, (2, 6), generator=G)
BITS = WHOLE > 0

WRITTEN: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, str]] = {
    "type_as": (lambda x: x.type_as(torch.ones(1, dtype=torch.int64)), X, "type_as"),
    "or": (lambda x: (x > 0) | (x < -1), X, "__or__"),
    "bitwise_or": (lambda x: torch.bitwise_or(x > 0, x < -1), X, "bitwise_or"),
    "not": (lambda x: ~(x > 0), X, "bitwise_not"),
    "clamp_min": (lambda x: x.clamp_min(0), X, "clamp_min"),
    "clamp_max": (lambda x: x.clamp_max(0), X, "clamp_max"),
    "clamp of whole numbers": (lambda x: x.clamp(-2, 5), WHOLE, "clamp"),
    "clamp of whole numbers at one side": (lambda x: x.clamp(max=5), WHOLE, "clamp"),
    "cosine": (lambda x: F.cosine_similarity(x, x.flip(1)), X, "cosine_similarity"),
    "cosine of zeros": (lambda x: F.cosine_similarity(0 * x, x, dim=-1, eps=0.5), X, "cosine_similarity"),
    "cosine of short rows": (lambda x: F.cosine_similarity(x / 4, x.flip(0), -1, 0.9), X, "cosine_similarity"),
    "pad with true": (lambda x: F.pad(x, (3, 0), value=True), BITS, "pad"),
    "pad with false": (lambda x: F.pad(x, (0, 2)), BITS, "pad"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_result_stays_and_the_operator_goes(name: str) -> None:
    function, x, operator = WRITTEN[name]
    program = program_of(function, x)
    assert operators(program)[operator] > 0
    after, _ = apply_rules(program, SPELLING)
    assert operators(after)[operator] == 0
    (result,) = run(after, x)
    assert result.dtype == function(x).dtype
    torch.testing.assert_close(result, function(x))


LEFT: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, str]] = {
    "clamp of floats": (lambda x: x.clamp(-1, 1), X, "clamp"),
    "pad of floats": (lambda x: F.pad(x, (1, 1)), X, "pad"),
    "or of whole numbers": (lambda x: x | 3, WHOLE, "__or__"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_the_converter_knows_is_left(name: str) -> None:
    function, x, operator = LEFT[name]
    after, _ = apply_rules(program_of(function, x), SPELLING)
    assert operators(after)[operator] > 0


def masked_attention(x: Tensor) -> Tensor:
    """Attention that hides some of the first tokens; three more, all to be seen, stand behind them."""
    mask = F.pad(x[:, :3, 0] > 0, (0, 3), value=True)
    return F.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, None, :])


def test_a_padded_mask_is_added_by_coremltools_and_hides_with_us(tmp_path: Path) -> None:
    """coremltools 9.0 pads truth values as numbers; attention then adds 0 and 1 to its logits, and hides nothing."""
    import coremltools as ct

    expected, options, target = masked_attention(X), ExportOptions(precision="fp32"), find_target("coreml")
    as_captured = torch.export.export(Lambda(masked_attention), (X,)).run_decompositions({})
    theirs = ct.convert(
        as_captured,
        convert_to="mlprogram",
        inputs=[ct.TensorType(name="x", shape=X.shape)],
        outputs=[ct.TensorType(name="y")],
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    theirs.save(str(tmp_path / "theirs.mlpackage"))
    legal = target.legalize(program_of(masked_attention, X), options).program
    ours, variant = emit_one(target, legal, Signature(("x",), ("y",)), tmp_path, options, (X,), (expected,))

    def result(path: Path) -> Tensor:
        with engines_for("coreml")[-1].open(path, variant) as session:
            return torch.from_numpy(session.run({"x": X.numpy()})["y"])

    assert (result(tmp_path / "theirs.mlpackage") - expected).abs().max() > 0.1
    torch.testing.assert_close(result(ours), expected, rtol=1e-5, atol=1e-6)
