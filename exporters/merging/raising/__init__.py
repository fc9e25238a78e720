"""The rewrite rules, one to a file, and the order in which they run."""

from importlib.metadata import entry_points
from typing import Any, Final

from tm_export.exporters.graph.rule import Rule
from tm_export.exporters.merging.raising.raise_best import RaiseBest
from tm_export.exporters.merging.raising.raise_gather import RaiseGather
from tm_export.exporters.merging.raising.raise_indexing import RaiseIndexPut, RaiseIndexSelect
from tm_export.exporters.merging.raising.raise_order import RaiseOrder
from tm_export.exporters.merging.raising.raise_pairs import RaisePairMean, RaisePairRepeat
from tm_export.exporters.merging.raising.raise_scatter import RaiseScatter

RAISING: Final = (
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


def raising_rules() -> tuple[Rule[Any], ...]:
    """The rules of installed packages (entry points in the group `tm_export.rules`), in front of our own.

    In front, because the first rule that fires at a node is the one that rewrites it.
    """
    others = sorted(entry_points(group="tm_export.rules"), key=lambda entry: entry.name)
    return (*(rule for entry in others for rule in entry.load()), *RAISING)
