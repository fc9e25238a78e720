"""What the operations of a merge do, counted: what a cost model puts prices to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx

from tm_export.exporters.graph.dialect import BEST, ORDER, PAIR_MEAN, PAIR_REPEAT
from tm_export.exporters.graph.nodes import arguments, value_of


@dataclass(frozen=True)
class Work:
    """What the operations of a site do, in the letters of the dialect, summed over its operations.

    `sorted_elements` and `compared_pairs` come from orders, `scored_elements` from choices of the best;
    `moved_elements` is rows × channels gathered or scattered, `matmul_macs` what the same moves cost as one-hot
    products, `onehot_elements` the sizes of those matrices; `candidates` the most rows that are chosen from.
    """

    sorted_elements: int
    compared_pairs: int
    scored_elements: int
    moved_elements: int
    matmul_macs: int
    onehot_elements: int
    operations: int
    candidates: int


def work_of(group: Sequence[fx.Node]) -> Work:
    """Add up what the group's operations do, for the cost model."""
    totals: Counter[str] = Counter()
    candidates = 1
    for node in group:
        if node.target in (PAIR_MEAN, PAIR_REPEAT):
            totals["moved"] += value_of(node).numel()
            continue
        shape = value_of(node).shape
        first = value_of(arguments(node)[0]).shape
        if node.target is ORDER:
            totals["sorted"] += first[0] * first[1]
            totals["pairs"] += first[0] * first[1] ** 2
            candidates = max(candidates, first[1])
        elif node.target is BEST:
            totals["scored"] += first[0] * first[1] * first[2]
            candidates = max(candidates, first[2])
        else:
            rows = value_of(arguments(node)[1]).shape[1]
            totals["moved"] += shape[0] * rows * shape[2]
            totals["macs"] += shape[0] * rows * first[1] * shape[2]
            totals["onehot"] += shape[0] * rows * first[1]
    return Work(
        sorted_elements=totals["sorted"],
        compared_pairs=totals["pairs"],
        scored_elements=totals["scored"],
        moved_elements=totals["moved"],
        matmul_macs=totals["macs"],
        onehot_elements=totals["onehot"],
        operations=len(group),
        candidates=candidates,
    )
