"""ExecuTorch: a `.pte`, with as much of it as possible in one delegate."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import fx
from torch.export import ExportedProgram

from tm_export.exporters.errors import ConversionRefused, UsageError
from tm_export.exporters.graph.rule import apply_rules
from tm_export.exporters.graph.user_line import source_line
from tm_export.exporters.lowering.cost import COREML, COREML_HALF, PORTABLE, XNNPACK, CostModel
from tm_export.exporters.options import ExportOptions, Precision
from tm_export.exporters.targets.base import Function, Legalized, Placement, refusal
from tm_export.exporters.targets.executorch.conv3d import CONVOLUTIONS
from tm_export.exporters.targets.executorch.packed_constants import refuse_unpacked_constants
from tm_export.exporters.targets.executorch.rules import EXECUTORCH_RULES
from tm_export.exporters.targets.executorch.xnnpack.passes import legalize_for_xnnpack
from tm_export.exporters.targets.shared.integers import INTEGERS

RULES: Final = (CONVOLUTIONS, *INTEGERS, *EXECUTORCH_RULES)


class ExecutorchTarget:
    """Lowers through `to_edge_transform_and_lower` with the chosen backend's partitioner."""

    name = "executorch"
    suffix = ".pte"
    least_rank = 0
    warm = ("tm_export.exporters.targets.executorch.xnnpack.warm",)
    libraries = ("executorch",)

    def precision(self, options: ExportOptions) -> Precision:
        """fp32, but for the Core ML backend, which computes in fp16 unless told otherwise."""
        if options.weights == "fp16" and options.backend != "coreml":
            raise UsageError(
                f"ExecuTorch's {options.backend} backend has no products of fp32 with fp16: leave out --weights fp16"
            )
        if options.backend == "coreml":
            return options.precision or "fp16"
        if options.precision == "fp16":
            raise UsageError(
                f"ExecuTorch's {options.backend} backend computes in fp32: leave out --precision fp16, "
                "or choose --backend coreml"
            )
        return "fp32"

    def costs(self, options: ExportOptions) -> CostModel:
        """Costs by backend."""
        coreml = COREML_HALF if self.precision(options) == "fp16" else COREML
        return {"xnnpack": XNNPACK, "portable": PORTABLE, "coreml": coreml}[options.backend]

    def dtype(self, dtype: torch.dtype) -> str:
        """As in PyTorch."""
        return str(dtype).removeprefix("torch.")

    def legalize(self, program: ExportedProgram, options: ExportOptions) -> Legalized:
        """What its kernels take; for XNNPACK, the forms that its partitioner takes."""
        program, _ = apply_rules(program, RULES)
        return legalize_for_xnnpack(program) if options.backend == "xnnpack" else Legalized(program)

    def artifact(self, stem: str, variant: str) -> str:
        """One file for all variants."""
        return f"{stem}{self.suffix}"

    def function(self, variant: str, variants: int) -> str:
        """`forward`, or the variant's name."""
        return "forward" if variants == 1 else variant

    def emit(self, functions: Mapping[str, Function], folder: Path, stem: str, options: ExportOptions) -> None:
        """Write one file with a method for each variant, having checked that the runtime has all their kernels."""
        from executorch.exir import to_edge_transform_and_lower

        logging.getLogger("executorch").setLevel(logging.ERROR)
        programs = {self.function(name, len(functions)): each.program for name, each in functions.items()}
        first = next(iter(programs.values()))
        try:
            edge = to_edge_transform_and_lower(
                programs, partitioner={name: _partitioners(options) for name in programs}
            )
            lowered = edge.to_executorch()
        except Exception as error:
            raise refusal("ExecuTorch", first, error) from error
        for name in programs:
            refuse_unpacked_constants(edge.exported_program(name).graph_module)
            if options.backend != "coreml":  # that delegate loads on Apple's systems only
                _refuse_missing_kernels(lowered.exported_program(name).graph_module)
        with (folder / self.artifact(stem, "")).open("wb") as file:
            lowered.write_to_file(file)

    def seal(self, folder: Path) -> None:
        """Nothing in a file depends on the bytes of its weights, but for names by digest, which are slots."""

    def placement(self, path: Path, function: str) -> Placement:
        """Count the delegates of the method's plan, and the kernel calls between them."""
        from executorch.exir._serialize._program import deserialize_pte_binary

        plans = deserialize_pte_binary(path.read_bytes()).program.execution_plan
        plan = next(plan for plan in plans if plan.name == function)
        calls = [instruction.instr_args for chain in plan.chains for instruction in chain.instructions]
        kernels = Counter(
            f"{plan.operators[call.op_index].name}.{plan.operators[call.op_index].overload}".rstrip(".")
            for call in calls
            if type(call).__name__ == "KernelCall"
        )
        regions = sum(type(call).__name__ == "DelegateCall" for call in calls)
        operators = dict(sorted(kernels.items()))
        return Placement(regions=regions, operators={**operators, "delegate": regions}, outside=operators)


def _partitioners(options: ExportOptions) -> list[Any]:
    if options.backend == "xnnpack":
        from tm_export.exporters.targets.executorch.xnnpack.partition import LoadablePartitioner

        return [LoadablePartitioner()]
    if options.backend == "coreml":
        return [_coreml_partitioner(options)]
    return []


def _coreml_partitioner(options: ExportOptions) -> Any:
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    from tm_export.runtime.coremltools_alone import coremltools as ct

    half = TARGET.precision(options) == "fp16"
    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
    )
    return CoreMLPartitioner(compile_specs=specs)


def _refuse_missing_kernels(graph_module: fx.GraphModule) -> None:
    """Raise `ConversionRefused` for an operator that the runtime has no kernel for.

    ExecuTorch itself writes such a program, and fails when it is loaded (error 0x14).
    """
    from executorch.runtime import Runtime

    kernels = set(Runtime.get().operator_registry.operator_names)
    for module in graph_module.modules():
        if not isinstance(module, fx.GraphModule):
            continue
        for node in module.graph.nodes:
            schema = getattr(node.target, "_schema", None)
            if node.op != "call_function" or schema is None:
                continue
            name = f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name
            if name.startswith(("aten::", "dim_order_ops::")) and name not in kernels:
                raise ConversionRefused(
                    f"ExecuTorch's runtime has no kernel for {name} at {source_line(node) or node.name}: "
                    "write it in other operators (the file would not load: error 0x14)"
                )


TARGET: Final = ExecutorchTarget()
