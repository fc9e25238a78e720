"""16-bit weights in an ML program that computes in 32: constants that Core ML widens when it compiles the model."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.pass_registry import register_pass

from tm_export.exporters.weights.narrow import MIN_ELEMENTS

NARROW_WEIGHTS: Final = "tm_export::narrow_weights"


@register_pass(namespace="tm_export")
class narrow_weights(AbstractGraphPass):  # type: ignore[misc]
    """Replace every large fp32 constant by an fp16 one behind a `constexpr_cast`."""

    def apply(self, program: Any) -> None:
        """Change all functions of the program in place."""
        for function in program.functions.values():
            for operation in list(function.operations):
                if operation.op_type == "const" and _is_wide(operation.outputs[0]):
                    _narrow(function, operation)


def _is_wide(constant: Any) -> bool:
    value = constant.val
    return isinstance(value, np.ndarray) and value.dtype == np.float32 and value.size >= MIN_ELEMENTS


def _narrow(block: Any, operation: Any) -> None:
    wide = operation.outputs[0]
    with block:
        widened = mb.constexpr_cast(
            source_val=wide.val.astype(np.float16), output_dtype="fp32", before_op=operation, name=f"{wide.name}_wide"
        )
    block.replace_uses_of_var_after_op(
        anchor_op=operation, old_var=wide, new_var=widened, force_replace=True, no_check_var_types=True
    )
    block.remove_ops([operation])
