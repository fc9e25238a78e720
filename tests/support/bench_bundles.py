"""Small bundles of several ONNX blocks, for what measures and loads them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tm_export.runtime.manifest import (
    Block,
    BlockRef,
    Call,
    Component,
    ComponentVariant,
    FileEntry,
    Manifest,
    TensorSpec,
    Variant,
    file_sha256,
    write_manifest,
)

VARIANTS = ("full", "merged")


def chain_bundle(root: Path, *, blocks: int = 3, width: int = 64, tokens: int = 4) -> Manifest:
    """Write a bundle of one component, `net`: so many products with a square matrix, one block each, one after another.

    Its two variants run the same blocks; `merged` does so on half of the tokens.
    """
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = {"full": tokens, "merged": tokens // 2}
    parts = []
    for number in range(blocks):
        weight = (rng.standard_normal((width, width)) / width**0.5).astype(np.float32)
        (root / f"{number:02d}.weights").write_bytes(weight.tobytes())
        for name in VARIANTS:
            save_product(root / f"{number:02d}_{name}.onnx", rows[name], width, f"{number:02d}.weights")
        parts.append(
            Block(
                name=f"block_{number}",
                variants=tuple(
                    Variant(
                        name=name,
                        artifact=f"{number:02d}_{name}.onnx",
                        function="main",
                        inputs=(spec("x", rows[name], width),),
                        outputs=(spec("y", rows[name], width),),
                        activation_bytes=2 * 4 * rows[name] * width,
                    )
                    for name in VARIANTS
                ),
                weight_bytes=weight.nbytes,
                files=(*(f"{number:02d}_{name}.onnx" for name in VARIANTS), f"{number:02d}.weights"),
            )
        )
    return save_manifest(root, parts, rows, width)


def save_product(path: Path, rows: int, width: int, weights: str) -> None:
    """Write x [rows, width] @ w, whose weights lie in a file beside it."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[width, width])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=weights)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "block",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, width])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())


def save_manifest(root: Path, parts: Sequence[Block], rows: dict[str, int], width: int) -> Manifest:
    """Write the manifest of blocks that run one after another."""
    values = [f"v{number}" for number in range(len(parts) + 1)]
    calls = tuple(
        Call(block=part.name, reads=(values[number],), writes=(values[number + 1],))
        for number, part in enumerate(parts)
    )
    manifest = Manifest(
        model="chain",
        target="onnx",
        weights="seeded",
        tool_versions={"onnx": onnx.__version__},
        components=(
            Component(
                name="net",
                blocks=tuple(parts),
                variants=tuple(
                    ComponentVariant(
                        name=name,
                        inputs=(spec(values[0], rows[name], width),),
                        outputs=(spec(values[-1], rows[name], width),),
                        calls=calls,
                    )
                    for name in VARIANTS
                ),
            ),
        ),
        files=tuple(
            FileEntry(path=path, bytes=(root / path).stat().st_size, sha256=file_sha256(root / path))
            for part in parts
            for path in part.files
        ),
        load_schedule=tuple(BlockRef(component="net", block=part.name) for part in parts),
    )
    write_manifest(root, manifest)
    return manifest


def spec(name: str, rows: int, width: int) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=(rows, width))
