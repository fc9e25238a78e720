"""Saves Core ML packages made of torch functions or MIL builders; runs them in the reference engine."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import torch
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Program, types

from tm_export.runtime.engines.coreml_reference import CoreMLReferenceEngine
from tm_export.runtime.engines.coreml_reference.program import load_program
from tm_export.runtime.manifest import TensorSpec, Variant

PRECISIONS = {"fp32": ct.precision.FLOAT32, "fp16": ct.precision.FLOAT16}
_MIL_TYPES = {torch.float32: types.fp32, torch.float16: types.fp16, torch.int32: types.int32}


class FunctionModule(torch.nn.Module):
    """A torch function as a module, so that it can be exported."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: torch.Tensor) -> Any:
        return self.function(*args)


def save_torch(module: torch.nn.Module, args: tuple[torch.Tensor, ...], precision: str, path: Path) -> Path:
    with torch.no_grad():
        exported = torch.export.export(module.eval(), args).run_decompositions({})
    model = ct.convert(
        exported,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=PRECISIONS[precision],
        skip_model_load=True,
    )
    model.save(str(path))
    return path


def save_mil(build: Callable[..., Any], args: Sequence[torch.Tensor], path: Path) -> Path:
    """Builds a program from MIL operations alone; no pass touches it. Inputs are called x0, x1, ..."""
    placeholders = {
        f"x{i}": mb.placeholder(shape=tuple(arg.shape), dtype=_MIL_TYPES[arg.dtype]) for i, arg in enumerate(args)
    }
    with Function(placeholders, opset_version=ct.target.iOS18) as function:
        outputs = build(*function.inputs.values())
        function.set_outputs(list(outputs) if isinstance(outputs, (tuple, list)) else [outputs])
    program = Program()
    program.add_function("main", function)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        pass_pipeline=ct.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))
    return path


def variant_of(package: Path, function: str = "main") -> Variant:
    program = load_program(package, function)

    def specs(values: Any) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name=v.name, dtype=str(v.dtype).removeprefix("torch."), shape=v.shape) for v in values)

    return Variant(
        name="full",
        artifact=package.name,
        function=function,
        inputs=specs(program.inputs),
        outputs=specs(declared for declared, _ in program.outputs),
        activation_bytes=0,
    )


def op_types(package: Path, function: str = "main") -> set[str]:
    return {step.op for step in load_program(package, function).steps}


def run_reference(package: Path, args: Sequence[torch.Tensor], function: str = "main") -> list[np.ndarray]:
    """Runs a package on arguments in order, cast to the types that it declares; outputs in order."""
    variant = variant_of(package, function)
    inputs: Mapping[str, np.ndarray] = {
        spec.name: arg.numpy().astype(spec.dtype) for spec, arg in zip(variant.inputs, args, strict=True)
    }
    with CoreMLReferenceEngine().open(package, variant) as session:
        outputs = session.run(inputs)
    return [outputs[spec.name] for spec in variant.outputs]


def assert_close(got: np.ndarray, expected: torch.Tensor, precision: str, roundings: int = 1) -> None:
    """Equal within what storage explains.

    fp32: 1e-5 of the largest value. fp16: one unit in the last place of each value if it is one operation
    (`roundings=1`) away from inputs that fp16 holds exactly; for a chain, that many of the largest value.
    """
    want = expected.numpy()
    assert got.shape == want.shape
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got.astype(np.int64), want.astype(np.int64))
        return
    scale = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
    if precision == "fp32":
        bound = np.full(want.shape, 1e-5 * max(scale, 1e-3))
    elif roundings == 1:
        bound = np.spacing(np.abs(want).astype(np.float16)).astype(np.float64)
    else:
        bound = np.full(want.shape, roundings * float(np.spacing(np.float16(scale))))
    same = (got.astype(np.float64) == want) | (np.isnan(got) & np.isnan(want))
    error = np.where(same, 0.0, np.abs(got.astype(np.float64) - want.astype(np.float64)))
    assert (error <= bound).all(), f"off by {error.max():.3g}, allowed {bound.flat[error.argmax()]:.3g}"
