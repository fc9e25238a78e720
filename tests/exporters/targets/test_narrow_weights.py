"""`--weights fp16`: stored in 16 bits, computed with in 32, and what the manifest says that it takes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import tm_export
from tm_export.exporters.errors import UsageError
from tm_export.runtime.engines import choose_engine
from tm_export.runtime.manifest import read_manifest

IDS = torch.tensor([[3, 999, 0, 3]])
TABLE, WEIGHT = 1000 * 80, 80 * 1000


class Tied(nn.Module):
    """A table whose rows are read, and which is a factor too; a weight; biases, which stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(1000, 80)
        self.inner = nn.Linear(80, 1000)

    def forward(self, ids: Tensor) -> Tensor:
        return torch.relu(self.inner(self.table(ids))) @ self.table.weight


@pytest.fixture(scope="module", params=["onnx", "coreml"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("narrow")
    return tm_export.export(Tied(), (IDS,), target=request.param, out=out, precision="fp32", weights="fp16").path


@torch.no_grad()
def test_it_computes_with_the_rounded_weights_and_in_32_bits(bundle: Path) -> None:
    rounded = Tied()
    for parameter in rounded.parameters():
        if parameter.numel() > 60_000:
            parameter.copy_(parameter.half().float())
    manifest = read_manifest(bundle)
    (block,) = manifest.components[0].blocks
    (variant,) = block.variants
    (ids,) = variant.inputs
    with choose_engine(manifest.target).open(bundle / variant.artifact, variant) as session:
        (found,) = session.run({ids.name: IDS.numpy().astype(ids.dtype)}).values()
    expected = rounded(IDS).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(found - Tied()(IDS).numpy()).max() > 1e-4 * np.abs(expected).max()


def test_the_files_are_half_as_large(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    (block,) = manifest.components[0].blocks
    total = sum(entry.bytes for entry in manifest.files if entry.path in block.files)
    turned = TABLE if manifest.target == "coreml" else 0  # coremltools turns a factor, and keeps the table beside it
    assert 2 * (TABLE + WEIGHT) < total < 2.1 * (TABLE + WEIGHT + turned)
    assert 2 * (TABLE + WEIGHT) < block.weight_bytes < 2.1 * (TABLE + WEIGHT)


def test_the_copy_in_32_bits_is_in_the_activations(bundle: Path) -> None:
    (block,) = read_manifest(bundle).components[0].blocks
    activations = 4 * (1000 * 4 + 80 * 4)
    assert block.variants[0].activation_bytes == pytest.approx(4 * TABLE + activations, rel=0.1)


def test_rows_are_taken_before_they_are_widened(tmp_path: Path) -> None:
    path = tm_export.export(Tied(), (IDS,), target="onnx", out=tmp_path, weights="fp16").path
    graph = onnx.load(next(path.rglob("*.onnx")), load_external_data=False).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    (rows,) = (node for node in graph.node if node.op_type == "Gather" and node.input[0] in stored)
    assert stored[rows.input[0]].data_type == onnx.TensorProto.FLOAT16
    wide = [tensor for tensor in stored.values() if tensor.data_type == onnx.TensorProto.FLOAT]
    assert max(int(np.prod(tensor.dims)) for tensor in wide) <= 1000  # biases alone


def test_a_weight_that_16_bits_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    model = Tied()
    with torch.no_grad():
        model.inner.weight[0, 0] = 70_000.0
    with pytest.raises(UsageError, match=r"weight 'inner\.weight' has values beyond .65504.*leave out --weights fp16"):
        tm_export.export(model, (IDS,), target="onnx", out=tmp_path, weights="fp16")
    assert not list(tmp_path.glob("*"))
