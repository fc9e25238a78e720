"""Core ML: an ML program for iOS 18, in a package whose bytes depend on nothing but the model."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, Final

import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

from tm_export.exporters.decompose import decompose
from tm_export.exporters.lowering.cost import COREML, CostModel
from tm_export.exporters.options import ExportOptions, Precision
from tm_export.exporters.retrace import arguments, is_float, placeholders_of, with_graph
from tm_export.exporters.rules.base import apply_rules
from tm_export.exporters.rules.gelu import GeluByTanh
from tm_export.exporters.rules.spelling import SPELLING
from tm_export.exporters.targets.base import Placement, Signature, refusal

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

    def dtype(self, dtype: torch.dtype) -> str:
        """As in PyTorch, but that integers have 32 bits."""
        return "int32" if dtype in (torch.int64, torch.int16, torch.bool) else str(dtype).removeprefix("torch.")

    def legalize(self, program: ExportedProgram, options: ExportOptions) -> ExportedProgram:
        """Write out what coremltools gets wrong."""
        program, _ = apply_rules(program, (GeluByTanh(), *SPELLING))
        return program

    def emit(self, program: ExportedProgram, signature: Signature, path: Path, options: ExportOptions) -> None:
        """Write the package at `path`."""
        import coremltools as ct

        logging.getLogger("coremltools").setLevel(logging.ERROR)
        half = self.precision(options) == "fp16"
        program, _ = apply_rules(decompose(program, _coremltools_knows), SPELLING)
        program = _named_inputs(program, signature.inputs)
        try:
            model = ct.convert(
                program,
                convert_to="mlprogram",
                outputs=_output_types(program, signature.outputs),
                minimum_deployment_target=ct.target.iOS18,
                compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
                skip_model_load=True,
            )
        except Exception as error:  # coremltools raises whatever comes, bare AssertionErrors among it
            raise refusal("Core ML", program, error) from error
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

    return (
        sanitize_op_kind(op._schema.name + (f".{op._overloadname}" if op._overloadname != "default" else ""))
        in _TORCH_OPS_REGISTRY
    )


def _named_inputs(program: ExportedProgram, names: tuple[str, ...]) -> ExportedProgram:
    """Give the user's inputs their public names: coremltools takes them from the graph, which has them in small."""
    specs = list(program.graph_signature.input_specs)
    nodes = {node.name: node for node in placeholders_of(program.graph)}
    public = iter(names)
    for i, spec in enumerate(specs):
        if spec.kind is InputKind.USER_INPUT:
            node, name = nodes[spec.arg.name], next(public)
            for other in program.graph.nodes:
                if other.name == name and other is not node:
                    other._rename(f"{name}_value")
            node.name = node.target = name
            specs[i] = InputSpec(spec.kind, TensorArgument(name), spec.target)
    return with_graph(program, program.graph_module, specs, program.graph_signature.output_specs)


def _output_types(program: ExportedProgram, names: tuple[str, ...]) -> list[Any]:
    """Outputs by name; floats leave in fp32, whatever the precision inside."""
    import coremltools as ct
    import numpy as np

    (output,) = (node for node in program.graph.nodes if node.op == "output")
    return [
        ct.TensorType(name=name, dtype=np.float32) if is_float(node) else ct.TensorType(name=name)
        for name, node in zip(names, arguments(output)[0], strict=True)
    ]


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

    (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)  # names of our graph; no use on a phone
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
    manifest["itemInfoEntries"] = {
        renamed[old]: manifest["itemInfoEntries"][old] for old in sorted(renamed, key=renamed.__getitem__)
    }
    manifest["rootModelIdentifier"] = renamed[manifest["rootModelIdentifier"]]
    manifest_path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n")


TARGET: Final = CoremlTarget()
