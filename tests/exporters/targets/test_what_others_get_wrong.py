"""What happens to token merging when it is exported without us, and that with us it does not happen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.support.programs import emit_one
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.lowering.cost import COREML
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.merging.work import work_of
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.base import Signature, find_target
from tm_export.runtime.manifest import Variant


class MeanMerge(nn.Module):
    """Rows 0 and 1 are merged into row 2 of a second tensor, chosen by their scores."""

    def forward(self, x_BNC: Tensor) -> Tensor:
        source, target = x_BNC[:, ::2], x_BNC[:, 1::2]
        order = source.sum(-1).argsort(dim=-1, descending=True)[:, :2, None].expand(-1, -1, x_BNC.shape[-1])
        index = torch.zeros_like(order)
        return target.scatter_reduce(1, index, source.gather(1, order), reduce="mean")


class ManyIndices(nn.Module):
    """Gathers rows far behind the last whole number that half precision holds."""

    def forward(self, x_BNC: Tensor) -> Tensor:
        index = x_BNC[..., 0].topk(3, dim=-1).indices
        return x_BNC.gather(1, index.unsqueeze(-1).expand(-1, -1, x_BNC.shape[-1]))


X = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0))


def ours(module: nn.Module, inputs: tuple[Tensor, ...], target: str, folder: Path) -> tuple[Path, Variant]:
    chosen, options = find_target(target), ExportOptions()
    raised = raise_merges(capture(module, inputs), 0).program
    half = chosen.precision(options) == "fp16"
    program = chosen.legalize(lower_merges(raised, chosen.costs(options), options, half=half), options).program
    return emit_one(chosen, program, Signature(("x",), ("y",)), folder, options, inputs, (module(*inputs),))


def test_onnx_of_a_mean_is_wrong_without_us_and_right_with_us(tmp_path: Path) -> None:
    expected = MeanMerge()(X).numpy()
    torch.onnx.export(MeanMerge(), (X,), tmp_path / "theirs.onnx", dynamo=True, verbose=False)
    path, _ = ours(MeanMerge(), (X,), "onnx", tmp_path)

    def run(path: Path) -> np.ndarray:
        session = onnxruntime.InferenceSession(path)
        return session.run(None, {session.get_inputs()[0].name: X.numpy()})[0]

    assert np.abs(run(tmp_path / "theirs.onnx") - expected).max() > 1e-2
    np.testing.assert_allclose(run(path), expected, atol=1e-6)


def test_executorch_without_us_writes_what_does_not_load(tmp_path: Path) -> None:
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    program = torch.export.export(MeanMerge(), (X,), strict=False)
    (tmp_path / "theirs.pte").write_bytes(to_edge_transform_and_lower(program).to_executorch().buffer)
    with pytest.raises(RuntimeError, match=r"0x:?14"):
        Runtime.get().load_program(tmp_path / "theirs.pte").load_method("forward")
    path, _ = ours(MeanMerge(), (X,), "executorch", tmp_path)
    method = Runtime.get().load_program(path).load_method("forward")
    torch.testing.assert_close(method.execute([X])[0], MeanMerge()(X), atol=1e-6, rtol=0)


def test_no_form_that_counts_in_half_precision_is_chosen_beyond_2048_rows() -> None:
    raised = raise_merges(capture(ManyIndices(), (torch.randn(1, 4096, 4),)), 0)
    work = raised.sites[0].work
    assert work.candidates == 4096
    costly_breaks = replace(COREML, prices=replace(COREML.prices, breaks=1e12))
    assert costly_breaks.cheapest(work, half=False) == "rank"
    assert costly_breaks.cheapest(work, half=True) != "rank"
    assert work == work_of(raised.sites[0].nodes)


def test_half_precision_really_loses_rows_beyond_2048() -> None:
    positions = torch.arange(4096).to(torch.float16)
    assert len(positions.unique()) < 4096
    assert len(positions[:2049].unique()) == 2049


def test_core_ml_in_half_precision_gathers_the_right_rows_beyond_2048(tmp_path: Path) -> None:
    from tm_export.runtime.engines import engines_for

    x_BNC = torch.rand(1, 4096, 4, generator=torch.Generator().manual_seed(0))
    x_BNC[0, [2049, 3071, 4095], 0] = torch.tensor([4.0, 3.0, 2.0])
    x_BNC[..., 1] = (torch.arange(4096) % 64) / 64  # exact in half precision
    expected = ManyIndices()(x_BNC)
    path, variant = ours(ManyIndices(), (x_BNC,), "coreml", tmp_path)
    with engines_for("coreml")[-1].open(path, variant) as session:
        found = session.run({"x": x_BNC.numpy()})["y"]
    np.testing.assert_array_equal(found[0, :, :2], expected[0, :, :2].numpy())
