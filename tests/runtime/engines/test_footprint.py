"""What engines say a block takes, against what a process that opens it really holds."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from onnx import TensorProto, helper
from torch import Tensor, nn

from tm_export.runtime.engines import choose_engine
from tm_export.runtime.manifest import Block, TensorSpec, Variant

MEASURE = Path(__file__).parents[2] / "support" / "measure_footprint.py"
WIDTH, TOKENS = 2048, 512
SLACK = 4 * 2**20
"""What a process's resident set may move for other reasons."""


def block_of(path: Path, weight_bytes: int, tensors: int) -> Block:
    """A block that holds so many tensors of its input's size at one time, its input and output among them."""
    spec = TensorSpec(name="x", dtype="float32", shape=(TOKENS, WIDTH))
    variant = Variant(
        name="full",
        artifact=path.name,
        function="forward",
        inputs=(spec,),
        outputs=(spec.model_copy(update={"name": "y"}),),
        activation_bytes=tensors * TOKENS * WIDTH * 4,
    )
    return Block(name="a", variants=(variant,), weight_bytes=weight_bytes, files=(path.name,))


def save_onnx(path: Path, layers: int, dtype: type) -> Block:
    """Products in a row, their weights stored in 32 bit or in 16 bit and widened by a Cast."""
    weight = (np.random.default_rng(0).standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)).astype(dtype)
    nodes, tensors, value = [], [], "x"
    with path.with_suffix(".bin").open("wb") as data:
        for layer in range(layers):
            tensor = onnx.TensorProto(name=f"w{layer}", dims=weight.shape)
            tensor.data_type = helper.np_dtype_to_tensor_dtype(weight.dtype)
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": path.with_suffix(".bin").name, "offset": data.tell(), "length": weight.nbytes}
            for key, entry in place.items():
                tensor.external_data.add(key=key, value=str(entry))
            data.write((weight + np.asarray(layer / 1000, dtype)).tobytes())
            tensors.append(tensor)
            result = "y" if layer == layers - 1 else f"h{layer}"
            factor = tensor.name
            if dtype is np.float16:
                factor = f"c{layer}"
                nodes.append(helper.make_node("Cast", [tensor.name], [factor], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("MatMul", [value, factor], [result]))
            value = result
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [TOKENS, WIDTH]) for name in "xy"]
    graph = helper.make_graph(nodes, "block", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return block_of(path, layers * weight.nbytes, 3)


def save_pte(path: Path, layers: int) -> Block:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    exported = torch.export.export(Products().eval(), (torch.zeros(TOKENS, WIDTH),))
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    with path.open("wb") as file:
        program.write_to_file(file)
    return block_of(path, layers * WIDTH * WIDTH * 4, layers + 1)  # XNNPACK keeps them all


def measure(target: str, path: Path, warm_up: Path, block: Block) -> dict[str, int]:
    arguments = [target, str(path.parent), str(warm_up), block.model_dump_json()]
    done = subprocess.run([sys.executable, str(MEASURE), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured: dict[str, int] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


@pytest.mark.parametrize(("dtype", "layers"), [(np.float32, 6), (np.float16, 12)])
def test_onnx_runtime_maps_weights_and_takes_what_its_footprint_says(tmp_path: Path, dtype: type, layers: int) -> None:
    path = tmp_path / "block.onnx"
    block = save_onnx(path, layers, dtype)
    assert block.weight_bytes == 96 * 2**20
    save_onnx(tmp_path / "small.onnx", 1, np.float32)
    got = measure("onnx", path, tmp_path / "small.onnx", block)
    footprint = choose_engine("onnx").footprint(block, block.variants[0])
    # The pages of the file, once; not a copy of them: an idle block holds nothing else.
    assert 0.95 * block.weight_bytes <= got["idle"] <= footprint.open_bytes + SLACK
    assert got["opening"] <= footprint.open_bytes + SLACK
    widened = WIDTH * WIDTH * 4 if dtype is np.float16 else 0
    assert got["running"] <= footprint.open_bytes + footprint.run_bytes + widened + SLACK
    assert got["closed"] <= SLACK


def test_executorch_takes_what_its_footprint_says_and_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "block.pte"
    block = save_pte(path, 3)
    save_pte(tmp_path / "small.pte", 1)
    got = measure("executorch", path, tmp_path / "small.pte", block)
    footprint = choose_engine("executorch").footprint(block, block.variants[0])
    workspace = footprint.run_bytes
    assert 0.95 * block.weight_bytes <= got["idle"] <= footprint.open_bytes + workspace + SLACK
    # Twice the weights while XNNPACK copies them: mapped pages and the copy.
    assert 1.8 * block.weight_bytes <= got["opening"] <= footprint.open_bytes + footprint.load_bytes + SLACK
    assert got["running"] <= footprint.open_bytes + footprint.run_bytes + SLACK
    assert got["closed"] <= SLACK
