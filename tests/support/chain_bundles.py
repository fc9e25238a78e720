"""Makes small ONNX bundles of several blocks over external data, and says what they compute."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from tm_export.runtime.engines.base import Array
from tm_export.runtime.manifest import (
    Block,
    BlockRef,
    Call,
    Component,
    ComponentVariant,
    FileEntry,
    Golden,
    Manifest,
    TensorSpec,
    Variant,
    file_sha256,
    write_manifest,
)

COMPONENT = "net"
SCALES = {"full": 1.0, "merged": 0.5}


@dataclass(frozen=True)
class Chain:
    """Blocks h_i = relu(h_{i-1} @ w_i) * scale + x: each reads the value before and the component's input."""

    path: Path
    manifest: Manifest
    weights: tuple[Array, ...]

    def inputs(self, seed: int = 0) -> dict[str, Array]:
        (spec,) = self.manifest.component(COMPONENT).variant("full").inputs
        return {spec.name: np.random.default_rng(seed).standard_normal(spec.shape).astype(np.float32)}

    def expected(self, variant: str, inputs: Mapping[str, Array]) -> Array:
        value = first = inputs["tokens"].astype(np.float64)
        for weight in self.weights:
            value = np.maximum(value @ weight.astype(np.float64), 0) * SCALES[variant] + first
        return value


def make_chain(path: Path, blocks: int = 5, width: int = 16, tokens: int = 3) -> Chain:
    rng = np.random.default_rng(7)
    weights = tuple(rng.standard_normal((width, width), np.float32) / np.float32(np.sqrt(width)) for _ in range(blocks))
    folder = path / COMPONENT
    folder.mkdir(parents=True)
    spec = TensorSpec(name="x", dtype="float32", shape=(tokens, width))
    described = []
    for index, weight in enumerate(weights):
        name = f"{index:02d}"
        data = folder / f"{name}.bin"
        data.write_bytes(weight.tobytes())
        for variant, scale in SCALES.items():
            _save_block(folder / f"{name}_{variant}.onnx", data.name, weight.shape, tokens, scale)
        described.append(
            Block(
                name=name,
                weight_bytes=weight.nbytes,
                files=tuple(f"{COMPONENT}/{file}" for file in (data.name, *(f"{name}_{v}.onnx" for v in SCALES))),
                variants=tuple(
                    Variant(
                        name=variant,
                        artifact=f"{COMPONENT}/{name}_{variant}.onnx",
                        function="main",
                        inputs=(spec, spec.model_copy(update={"name": "skip"})),
                        outputs=(spec.model_copy(update={"name": "y"}),),
                        activation_bytes=4 * tokens * width * 4,
                    )
                    for variant in SCALES
                ),
            )
        )
    values = ["tokens", *(f"h{index}" for index in range(blocks))]
    calls = tuple(
        Call(block=f"{index:02d}", reads=(values[index], "tokens"), writes=(values[index + 1],))
        for index in range(blocks)
    )
    component = Component(
        name=COMPONENT,
        blocks=tuple(described),
        variants=tuple(
            ComponentVariant(
                name=variant,
                inputs=(spec.model_copy(update={"name": "tokens"}),),
                outputs=(spec.model_copy(update={"name": values[-1]}),),
                calls=calls,
            )
            for variant in SCALES
        ),
    )
    return _finished(path, component, weights)


def _finished(path: Path, component: Component, weights: tuple[Array, ...]) -> Chain:
    """Write golden files (by NumPy, not by the engine) and the manifest."""
    (path / "golden").mkdir()
    golden = tuple(
        Golden(
            component=COMPONENT,
            variant=variant,
            inputs=f"golden/{variant}_in.safetensors",
            outputs=f"golden/{variant}_out.safetensors",
        )
        for variant in SCALES
    )

    def manifest(files: tuple[FileEntry, ...]) -> Manifest:
        return Manifest(
            model="chain",
            target="onnx",
            weights="seeded",
            tool_versions={},
            components=(component,),
            files=files,
            golden=golden if len(files) > 1 else (),
            load_schedule=tuple(BlockRef(component=COMPONENT, block=block.name) for block in component.blocks),
        )

    for record in golden:
        variant = component.variant(record.variant)
        shape = variant.inputs[0].shape
        inputs = {"tokens": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
        value = first = inputs["tokens"].astype(np.float64)
        for weight in weights:
            value = np.maximum(value @ weight.astype(np.float64), 0) * SCALES[record.variant] + first
        save_file(inputs, path / record.inputs)
        save_file({variant.outputs[0].name: value.astype(np.float32)}, path / record.outputs)
    entries = tuple(
        FileEntry(path=str(file.relative_to(path)), bytes=file.stat().st_size, sha256=file_sha256(file))
        for file in sorted(path.rglob("*"))
        if file.is_file()
    )
    made = manifest(entries)
    write_manifest(path, made)
    return Chain(path, made, weights)


def _save_block(path: Path, data: str, shape: tuple[int, ...], tokens: int, scale: float) -> None:
    width = shape[0]
    weight = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape)
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", data), ("offset", "0"), ("length", str(4 * width * width))):
        weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["product"]),
            helper.make_node("Relu", ["product"], ["positive"]),
            helper.make_node("Mul", ["positive", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "skip"], ["y"]),
        ],
        "block",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [tokens, width]) for n in ("x", "skip")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [tokens, width])],
        [weight, onnx.numpy_helper.from_array(np.float32(scale), "scale")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
