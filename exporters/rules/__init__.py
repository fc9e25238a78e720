"""The rewrite rules, one to a file, and the order in which they run."""

from tm_export.exporters.rules.raise_best import RaiseBest
from tm_export.exporters.rules.raise_gather import RaiseGather
from tm_export.exporters.rules.raise_indexing import RaiseIndexPut, RaiseIndexSelect
from tm_export.exporters.rules.raise_order import RaiseOrder
from tm_export.exporters.rules.raise_pairs import RaisePairMean, RaisePairRepeat
from tm_export.exporters.rules.raise_scatter import RaiseScatter

RAISING = (
    RaiseOrder(),
    RaiseBest(),
    RaiseGather(),
    RaiseScatter(),
    RaiseIndexSelect(),
    RaiseIndexPut(),
    RaisePairMean(),
    RaisePairRepeat(),
)
"""Raise to the merge dialect: no two look at the same operator, so one pass does them all."""
