"""Core ML: an ML program for iOS 18, in a package whose bytes depend on nothing but the model."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram

from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.constants import fold_weights
from tm_export.exporters.graph.decompose import decompose
from tm_export.exporters.graph.nodes import arguments, is_float, value_of
from tm_export.exporters.graph.recipe import Recipe
from tm_export.exporters.graph.rule import No, Rule, apply_rules
from tm_export.exporters.graph.user_line import source_line
from tm_export.exporters.lowering.cost import COREML, COREML_HALF, CostModel
from tm_export.exporters.options import ExportOptions, Precision
from tm_export.exporters.targets.base import Function, Legalized, Placement, refusal
from tm_export.exporters.targets.coreml.border import LEAST_RANK, border_dtype, with_border
from tm_export.exporters.targets.coreml.half import within_half
from tm_export.exporters.targets.coreml.integers import widened
from tm_export.exporters.targets.coreml.rules import COREML_RULES
from tm_export.exporters.targets.coreml.spelling import SPELLING
from tm_export.exporters.targets.shared.gelu import GeluByTanh

OFF_NEURAL_ENGINE: Final = frozenset({
    "topk", "gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd", "argsort",
    "cumsum", "non_zero", "one_hot",
})  # fmt: skip
"""Operators that others measured off the Neural Engine; they run, on the CPU or GPU."""

_MAX_RANK: Final = 5

_WAVES: Final = frozenset({"sin", "cos"})
_TO_AN_ANGLE: Final = frozenset({"mul", "add", "sub", "real_div", "expand_dims", "reshape", "squeeze", "cast"})


class CoremlTarget:
    """Converts through coremltools' torch.export front end."""

    name = "coreml"
    suffix = ".mlpackage"
    least_rank = LEAST_RANK
    warm = ()
    libraries = ("coremltools",)

    def precision(self, options: ExportOptions) -> Precision:
        """fp16 unless fp32 is asked for."""
        return options.precision or "fp16"

    def costs(self, options: ExportOptions) -> CostModel:
        """Costs on the Neural Engine, from published measurements."""
        return COREML_HALF if self.precision(options) == "fp16" else COREML

    def dtype(self, dtype: torch.dtype) -> str:
        """Floats and integers of 32 bits; a truth value is the integer 0 or 1."""
        return str(border_dtype(dtype)).removeprefix("torch.")

    def legalize(self, program: ExportedProgram, options: ExportOptions) -> Legalized:
        """Write out what coremltools gets wrong, and compute what follows from weights alone."""
        program = _spelled(widened(program), (GeluByTanh(), *RULES))
        program, step = fold_weights(program)
        return Legalized(program, Recipe(step))

    def artifact(self, stem: str, variant: str) -> str:
        """One package for all variants."""
        return f"{stem}{self.suffix}"

    def function(self, variant: str, variants: int) -> str:
        """`main`, or the variant's name in the letters that Core ML takes."""
        return "main" if variants == 1 else re.sub(r"\W", "_", variant)

    def emit(self, functions: Mapping[str, Function], folder: Path, stem: str, options: ExportOptions) -> None:
        """Write one package; its functions share their weights."""
        from tm_export.runtime.coremltools_alone import coremltools as ct

        logging.getLogger("coremltools").setLevel(logging.ERROR)
        path = folder / self.artifact(stem, "")
        names = [self.function(variant, len(functions)) for variant in functions]
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            saved = [Path(scratch) / f"{i}{self.suffix}" for i in range(len(functions))]
            for function, place in zip(functions.values(), saved, strict=True):
                self._convert(function, options).save(str(place))
            del function, functions  # and with them their weights: the packages have copies, which are read now
            whole = saved[0]
            if len(names) > 1:
                whole = Path(scratch) / path.name
                described = ct.utils.MultiFunctionDescriptor()
                for name, place in zip(names, saved, strict=True):
                    described.add_function(str(place), "main", name)
                described.default_function_name = names[0]
                ct.utils.save_multifunction(described, str(whole))
            _make_deterministic(whole)
            if path.exists():
                shutil.rmtree(path)
            shutil.move(whole, path)

    def _convert(self, function: Function, options: ExportOptions) -> Any:
        import tm_export.exporters.targets.coreml.operators  # noqa: F401  # registers them
        from tm_export.runtime.coremltools_alone import coremltools as ct

        half = self.precision(options) == "fp16"
        pipeline = ct.PassPipeline.DEFAULT
        pipeline.remove_passes(["common::use_reflection_padding"])  # takes `cat([x, x, x[:, :1]])` for padding of x
        if options.weights == "fp16" and not half:
            from tm_export.exporters.targets.coreml.narrow import NARROW_WEIGHTS

            pipeline.append_pass(NARROW_WEIGHTS)
        precision = ct.transform.FP16ComputePrecision(_may_be_half) if half else ct.precision.FLOAT32
        program = function.program
        try:
            program = _spelled(decompose(program, _coremltools_knows), RULES)
            program = with_border(within_half(program) if half else program, function.signature.inputs)
            return ct.convert(
                program,
                convert_to="mlprogram",
                outputs=_output_types(program, function.signature.outputs),
                minimum_deployment_target=ct.target.iOS18,
                compute_precision=precision,
                pass_pipeline=pipeline,
                skip_model_load=True,
            )
        except Exception as error:  # coremltools raises whatever comes, bare AssertionErrors among it
            raise _refusal(program, error) from error

    def seal(self, folder: Path) -> None:
        """Derive the identifiers of a package anew from its contents."""
        for package in sorted(folder.glob(f"*{self.suffix}")):
            _derive_identifiers(package)

    def placement(self, path: Path, function: str) -> Placement:
        """Count operators; those that leave the Neural Engine are outside, and cut the rest into regions."""
        operators = [name for name in _operators(path, function) if name != "const"]
        regions, inside = 0, False
        for name in operators:
            now = name not in OFF_NEURAL_ENGINE
            regions += now and not inside
            inside = now
        counts = Counter(operators)
        outside = {name: counts[name] for name in sorted(counts) if name in OFF_NEURAL_ENGINE}
        return Placement(regions=regions, operators=dict(sorted(counts.items())), outside=outside)


RULES: Final[tuple[Rule[Any], ...]] = (*SPELLING, *COREML_RULES)


def _spelled(program: ExportedProgram, rules: Sequence[Rule[Any]]) -> ExportedProgram:
    """Apply the rules as long as one fires: what one writes, another may have to write out further."""
    by_op = {op: [rule for rule in rules if op in rule.pattern] for rule in rules for op in rule.pattern}
    for _ in range(4):  # none is written in itself, and no chain is longer
        if all(isinstance(rule.check(node), No) for node in program.graph.nodes for rule in by_op.get(node.target, ())):
            break
        program, _ = apply_rules(program, rules)
    return program


def _refusal(program: ExportedProgram, error: Exception) -> ConversionRefused:
    """What coremltools stumbled over, in our words: the operator that it was converting when it raised.

    Its own text is left out: it speaks of operators that the user has not written.
    """
    nodes = {node.name: node for node in program.graph.nodes if node.op == "call_function"}
    trace = error.__traceback__
    at = None
    while trace is not None:
        local = trace.tb_frame.f_locals.get("node")
        at = nodes.get(getattr(local, "name", None) or "", at)
        trace = trace.tb_next
    if at is not None:
        return ConversionRefused(
            f"Core ML has no operator for {at.target} with these arguments at {source_line(at) or at.name}: "
            "write it in other operators"
        )
    ranked = [node for node in nodes.values() if isinstance(node.meta.get("val"), Tensor)]
    deepest = max(ranked, key=lambda node: value_of(node).dim(), default=None)
    if deepest is not None and value_of(deepest).dim() > _MAX_RANK:
        return ConversionRefused(
            f"Core ML has tensors of at most {_MAX_RANK} dimensions: {deepest.target} makes one of "
            f"{value_of(deepest).dim()} at {source_line(deepest) or deepest.name}: "
            "merge dimensions before it, with reshape or flatten"
        )
    return refusal("Core ML", program, error)


def _may_be_half(operation: Any) -> bool:
    """Whether an operation of Core ML's may compute in fp16: not what makes the angle of a sine or cosine.

    Between 512 and 1024, where a diffusion timestep lies, numbers of 16 bits are half a radian apart.
    """
    if operation.op_type in _WAVES:
        return False
    if operation.op_type not in _TO_AN_ANGLE:
        return True
    return all(_may_be_half(reader) for output in operation.outputs for reader in output.child_ops)


def _coremltools_knows(op: OpOverload) -> bool:
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    return (
        sanitize_op_kind(op._schema.name + (f".{op._overloadname}" if op._overloadname != "default" else ""))
        in _TORCH_OPS_REGISTRY
    )


def _output_types(program: ExportedProgram, names: tuple[str, ...]) -> list[Any]:
    """Outputs by name; floats leave in fp32, whatever the precision inside."""
    import numpy as np

    from tm_export.runtime.coremltools_alone import coremltools as ct

    (output,) = (node for node in program.graph.nodes if node.op == "output")
    return [
        ct.TensorType(name=name, dtype=np.float32 if is_float(node) else np.int32)
        for name, node in zip(names, arguments(output)[0], strict=True)
    ]


def _operators(path: Path, function: str) -> list[str]:
    """The names of all operators of a function, in order, those inside nested blocks after their owner."""
    from tm_export.runtime.coremltools_alone import coremltools as ct

    model = ct.proto.Model_pb2.Model()
    model.ParseFromString((path / "Data" / "com.apple.CoreML" / "model.mlmodel").read_bytes())
    names: list[str] = []

    def visit(block: Any) -> None:
        for operation in block.operations:
            names.append(operation.type)
            for nested in operation.blocks:
                visit(nested)

    for block in model.mlProgram.functions[function].block_specializations.values():
        visit(block)
    return names


def _make_deterministic(package: Path) -> None:
    """Write the specification with sorted maps, and derive the package's identifiers."""
    from tm_export.runtime.coremltools_alone import coremltools as ct

    (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)  # names of our graph; no use on a phone
    data = package / "Data" / "com.apple.CoreML"
    specification = data / "model.mlmodel"
    model = ct.proto.Model_pb2.Model()
    model.ParseFromString(specification.read_bytes())
    model.description.metadata.ClearField("userDefined")
    specification.write_bytes(model.SerializeToString(deterministic=True))
    _derive_identifiers(package)


def _derive_identifiers(package: Path) -> None:
    """Name the package's items by their contents, where coremltools draws random identifiers.

    The folder of weights is no item where there are none: an empty folder is lost when a package is copied as files.
    """
    manifest_path = package / "Manifest.json"
    manifest = json.loads(manifest_path.read_text())
    renamed = {}
    for old, entry in manifest["itemInfoEntries"].items():
        item = package / "Data" / entry["path"]
        files = [item] if item.is_file() else sorted(f for f in item.rglob("*") if f.is_file())
        if not files:
            item.rmdir()
            continue
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
