"""Rules that put a program into operators that coremltools converts rightly."""

from typing import Any, Final

from tm_export.exporters.graph.rule import Rule
from tm_export.exporters.targets.coreml.rules.arithmetic import EARLY_LINES, FUNCTIONS, PRELUS, ROUNDED, SCALED_SUMS
from tm_export.exporters.targets.coreml.rules.choices import CHOICES, CLAMPS, NEW_TENSORS, OTHER_NAMES
from tm_export.exporters.targets.coreml.rules.integers import INTEGERS
from tm_export.exporters.targets.coreml.rules.linear import (
    ADDED_PRODUCTS,
    CONTRACTIONS,
    GROUPED_ATTENTION,
    SINGLE_IMAGES,
    VECTORS,
)
from tm_export.exporters.targets.coreml.rules.norms import GROUP_NORMS, NORMS, WIDE_NORMS
from tm_export.exporters.targets.coreml.rules.places import ADDITIONS, FOLDS, ROLLS, SINGLE_NUMBERS, WINDOWS
from tm_export.exporters.targets.coreml.rules.pooling import AVERAGES, MAX_POOLS
from tm_export.exporters.targets.coreml.rules.reductions import (
    BEST_OF_ALL,
    LOG_SOFTMAX,
    PRODUCTS,
    RUNNING_SUMS,
    SPREADS_OF_ALL,
)
from tm_export.exporters.targets.coreml.rules.truth_values import WHETHER_NUMBERS, TruthValuesAsNumbers
from tm_export.exporters.targets.shared.padding import COREML_PADDING
from tm_export.exporters.targets.shared.resizing import ResizeByProducts

COREML_RULES: Final[tuple[Rule[Any], ...]] = (
    TruthValuesAsNumbers(),
    WHETHER_NUMBERS,
    OTHER_NAMES,
    CHOICES,
    CLAMPS,
    ROLLS,
    ADDITIONS,
    ADDED_PRODUCTS,
    FOLDS,
    SCALED_SUMS,
    INTEGERS,
    ROUNDED,
    FUNCTIONS,
    EARLY_LINES,
    PRELUS,
    PRODUCTS,
    LOG_SOFTMAX,
    RUNNING_SUMS,
    BEST_OF_ALL,
    SPREADS_OF_ALL,
    NORMS,
    WIDE_NORMS,
    GROUP_NORMS,
    GROUPED_ATTENTION,
    WINDOWS,
    SINGLE_NUMBERS,
    CONTRACTIONS,
    SINGLE_IMAGES,
    VECTORS,
    NEW_TENSORS,
    COREML_PADDING,
    ResizeByProducts(),
    MAX_POOLS,
    AVERAGES,
)
"""Truth values first, for what is left to the rules behind them are numbers; integers before floats."""
