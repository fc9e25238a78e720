"""MIL operations as functions on torch tensors, by operation type.

Parameters are named as in MIL, each a tensor (constants too), a string, or a sequence of tensors. To the
`ARITHMETIC` the evaluator gives fp32 in place of fp16, and it rounds the result; `MOVEMENT` only moves or
selects values, and gets them as stored.
"""

from tm_export.runtime.engines.coreml_reference.ops import (
    elementwise,
    image,
    index,
    linear,
    normalise,
    quantise,
    reduce,
    scatter,
    shape,
)
from tm_export.runtime.engines.coreml_reference.ops.table import Operation, Table

__all__ = ["ARITHMETIC", "MOVEMENT", "Operation"]

ARITHMETIC: Table = {
    **elementwise.TABLE,
    **image.TABLE,
    **linear.TABLE,
    **normalise.TABLE,
    **quantise.TABLE,
    **reduce.TABLE,
    **scatter.TABLE,
}
MOVEMENT: Table = {**index.TABLE, **shape.TABLE}
