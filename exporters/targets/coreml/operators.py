"""Operators that coremltools' front end converts inexactly, converted anew."""

from __future__ import annotations

from typing import Any

from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.frontend.torch.ops import _get_inputs, promote_input_dtypes
from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op


@register_torch_op(override=True)  # type: ignore[untyped-decorator]
def floor_divide(context: Any, node: Any) -> None:
    """Integers stay integers: coremltools makes floats of them, which are exact to 2²⁴ alone."""
    x, y = promote_input_dtypes(_get_inputs(context, node, expected=2))
    context.add(mb.floor_div(x=x, y=y, name=node.name))


@register_torch_op(override=True)  # type: ignore[untyped-decorator]
def clone(context: Any, node: Any) -> None:
    """An operator of its own, so that an input can be an output, and one value two outputs."""
    x = _get_inputs(context, node, min_expected=1)[0]
    context.add(mb.identity(x=x, name=node.name))
