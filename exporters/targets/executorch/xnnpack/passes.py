"""The forms that XNNPACK's partitioner takes whole, in the order in which rules bring them about."""

from __future__ import annotations

from typing import Final

from torch.export import ExportedProgram
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from tm_export.exporters.graph.constants import fold_weights, lift_scalars
from tm_export.exporters.graph.recipe import Recipe
from tm_export.exporters.graph.rule import apply_rules
from tm_export.exporters.graph.simplify import simplify
from tm_export.exporters.targets.base import Legalized
from tm_export.exporters.targets.executorch.packed_constants import separate_packed_constants
from tm_export.exporters.targets.executorch.xnnpack.rules.batch_norm import BatchNormByFactor, ConvThenBatchNorm
from tm_export.exporters.targets.executorch.xnnpack.rules.chunked_mlp import ChunkedMlp
from tm_export.exporters.targets.executorch.xnnpack.rules.fill import FillByMask
from tm_export.exporters.targets.executorch.xnnpack.rules.interleave import StackBySelection
from tm_export.exporters.targets.executorch.xnnpack.rules.layer_norm import LayerNormByProducts, LinearAfterLayerNorm
from tm_export.exporters.targets.executorch.xnnpack.rules.prelu import PReluByClamps
from tm_export.exporters.targets.executorch.xnnpack.rules.products import AttentionByBmm, MatmulByBmm
from tm_export.exporters.targets.executorch.xnnpack.rules.reductions import ReductionByProduct
from tm_export.exporters.targets.executorch.xnnpack.rules.split_linear import SplitLinear, UnbindLinear
from tm_export.exporters.targets.executorch.xnnpack.rules.strided_slice import StridedSlice
from tm_export.exporters.targets.executorch.xnnpack.rules.views import SelectBySlice, UnbindBySlices, ViewByReshape
from tm_export.exporters.targets.shared.gelu import GeluBySigmoid

# Splitting looks for a linear layer behind a split, and the layer norm's rule for a layer norm behind a linear
# layer; both must still be there. What the first pass writes (products, means) the second puts into its final form.
FIRST: Final = (
    ConvThenBatchNorm(),
    BatchNormByFactor(),
    SplitLinear(),
    UnbindLinear(),
    UnbindBySlices(),
    AttentionByBmm(),
    GeluBySigmoid(),
    PReluByClamps(),
    StackBySelection(),
)
SECOND: Final = (
    LinearAfterLayerNorm(),
    LayerNormByProducts(),
    ReductionByProduct(),
    MatmulByBmm(),
    FillByMask(),
    StridedSlice(),
)
THIRD: Final = (ViewByReshape(), SelectBySlice(), ChunkedMlp())


def legalize_for_xnnpack(program: ExportedProgram) -> Legalized:
    """Rewrite what would fall out of the delegate."""
    program, _ = apply_rules(program, FIRST)
    program, _ = apply_rules(program, SECOND)
    program, _ = apply_rules(program, THIRD)
    program, step = fold_weights(program)
    CSEPass()(program.graph_module)
    program, copies = separate_packed_constants(lift_scalars(simplify(program)))
    return Legalized(program, Recipe(step, copies))
