"""Core ML: an ML program for iOS 18, in a package whose bytes depend on nothing but the model."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, Final

from torch import fx
from torch._ops import OpOverload
from torch.export import ExportedProgram

from tm_export.exporters.decompose import decompose
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.lowering.cost import COREML, CostModel
from tm_export.exporters.options import ExportOptions, Precision
from tm_export.exporters.retrace import value_of
from tm_export.exporters.rules.base import apply_rules
from tm_export.exporters.rules.gelu import GeluByTanh
from tm_export.exporters.simplify import simplify
from tm_export.exporters.source import source_line
from tm_export.exporters.targets.base import Placement, Signature

OFF_NEURAL_ENGINE: Final = frozenset({
    "topk", "gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd", "argsort",
    "cumsum", "non_zero", "one_hot",
})  # fmt: skip
"""Operators that others measured off the Neural Engine; they run, on the CPU or GPU."""


class CoremlTarget:
    """Converts through coremltools' torch.export front end."""

    name = "coreml"
    suffix = ".mlpackage"

    def precision(self, options: ExportOptions) -> Precision:
        """fp16 unless fp32 is asked for."""
        return options.precision or "fp16"

    def costs(self, options: ExportOptions) -> CostModel:
        """Costs on the Neural Engine, from published measurements."""
        return COREML

    def legalize(self, program: ExportedProgram, options: ExportOptions) -> ExportedProgram:
        """Take apart what coremltools does not know, and write out what it gets wrong."""
        program, _ = apply_rules(program, (GeluByTanh(),))
        return decompose(simplify(program), _coremltools_knows)

    def emit(self, program: ExportedProgram, signature: Signature, path: Path, options: ExportOptions) -> None:
        """Write the package at `path`."""
        os.environ["TQDM_DISABLE"] = "1"  # coremltools has no other way to be quiet
        import coremltools as ct

        logging.getLogger("coremltools").setLevel(logging.ERROR)
        half = self.precision(options) == "fp16"
        try:
            model = ct.convert(
                program,
                convert_to="mlprogram",
                outputs=[ct.TensorType(name=name) for name in signature.outputs],
                minimum_deployment_target=ct.target.iOS18,
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                skip_model_load=True,
            )
        except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
            raise _refusal(program, error) from error
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / path.name
            model.save(str(saved))
            _make_deterministic(saved)
            if path.exists():
                shutil.rmtree(path)
            shutil.move(saved, path)

    def placement(self, path: Path) -> Placement:
        """Count operators; those that leave the Neural Engine are outside, and cut the rest into regions."""
        operators = [name for name in _operators(path) if name != "const"]
        regions, inside = 0, False
        for name in operators:
            now = name not in OFF_NEURAL_ENGINE
            regions += now and not inside
            inside = now
        counts = Counter(operators)
        outside = {name: counts[name] for name in sorted(counts) if name in OFF_NEURAL_ENGINE}
        return Placement(regions=regions, operators=dict(sorted(counts.items())), outside=outside)


def _coremltools_knows(op: OpOverload) -> bool:
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    return sanitize_op_kind(op.name()) in _TORCH_OPS_REGISTRY


def _refusal(program: ExportedProgram, error: Exception) -> ConversionRefused:
    """Name the operator that coremltools refuses, and the user's line that it stands in."""
    text = str(error).strip().splitlines()
    for node in program.graph.nodes:
        if isinstance(node, fx.Node) and node.op == "call_function" and f"node {node.name}," in (text[0] if text else ""):
            return ConversionRefused(
                f"Core ML has no operator for {node.target} at {source_line(node)}: write it in other operators"
            )
    return ConversionRefused(f"Core ML conversion failed: {text[0] if text else type(error).__name__}")


def _operators(path: Path) -> list[str]:
    """The names of all operators of all functions, in order, those inside nested blocks after their owner."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model()
    model.ParseFromString((path / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())
    names: list[str] = []

    def visit(block: Any) -> None:
        for operation in block.operations:
            names.append(operation.type)
            for nested in operation.blocks:
                visit(nested)

    for function in model.mlProgram.functions.values():
        for block in function.block_specializations.values():
            visit(block)
    return names


def _make_deterministic(package: Path) -> None:
    """Write the specification with sorted maps, and derive the package's identifiers from its contents."""
    from coremltools.proto import Model_pb2

    data = package / "Data" / "com.apple.CoreML"
    specification = data / "model.mlmodel"
    model = Model_pb2.Model()
    model.ParseFromString(specification.read_bytes())
    model.description.metadata.ClearField("userDefined")
    specification.write_bytes(model.SerializeToString(deterministic=True))
    manifest_path = package / "Manifest.json"
    manifest = json.loads(manifest_path.read_text())
    renamed = {}
    for old, entry in manifest["itemInfoEntries"].items():
        item = package / "Data" / entry["path"]
        files = [item] if item.is_file() else sorted(f for f in item.rglob("*") if f.is_file())
        digest = hashlib.sha256(entry["path"].encode())
        for file in files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        renamed[old] = str(uuid.UUID(digest.hexdigest()[:32])).upper()
    manifest["itemInfoEntries"] = {renamed[old]: manifest["itemInfoEntries"][old] for old in sorted(renamed, key=renamed.__getitem__)}
    manifest["rootModelIdentifier"] = renamed[manifest["rootModelIdentifier"]]
    manifest_path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")


TARGET: Final = CoremlTarget()
