"""Follow every original token through a raised program: which row holds it after each merge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.dialect import GATHER_ROWS, SCATTER_ROWS
from tm_export.exporters.graph.nodes import arguments, slice_of, value_of
from tm_export.exporters.merging.raise_merges import Raised
from tm_export.exporters.merging.sites import decided_origins
from tm_export.exporters.reference.replay import flat_inputs

aten = torch.ops.aten

NOWHERE = -1
"""The label of a token that no row holds."""

_REORDERS = (aten.permute.default, aten.transpose.int, aten.t.default)


def token_labels(raised: Raised, inputs: Sequence[Tensor]) -> Tensor | None:
    """Return the row that holds each original token where they are fewest: [B, N] int64.

    The original tokens are those that the program's first site chooses from. Every operator that keeps the number
    of rows is taken to keep their order; attention mixes what rows say, not what they stand for.

    Args:
        raised: a program in the merge dialect, with its sites.
        inputs: what the program takes.

    Returns:
        None where nothing merges, or where rows move in a way that is not followed (a flattened batch, say).
    """
    merging = [site for site in raised.sites if site.kind == "merge"]
    starts = [origin for site in merging[:1] for origin in decided_origins(site) if value_of(origin).dim() == 3]
    if not starts:
        return None
    tracer = _Tracer(raised, starts[0])
    with torch.no_grad():
        tracer.run(*flat_inputs(raised.program, inputs))
    return tracer.fewest


class _Tracer(fx.Interpreter):
    """Runs the program, and keeps beside each tensor of token rows [B, n, …] the labels [B, N] of its rows."""

    def __init__(self, raised: Raised, start: fx.Node) -> None:
        super().__init__(raised.program.graph_module)
        self._start, self._rows = start, value_of(start).shape[1]
        self._labels: dict[fx.Node, Tensor] = {}
        self.fewest: Tensor | None = None

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n is self._start:
            self._labels[n] = torch.arange(result.shape[1]).expand(result.shape[0], -1)
        elif isinstance(result, Tensor) and result.dim() >= 3 and (labels := self._followed(n, result)) is not None:
            self._labels[n] = labels
            if result.shape[1] < self._rows and bool((labels != NOWHERE).all()):
                self._rows, self.fewest = result.shape[1], labels
        return result

    def _followed(self, node: fx.Node, result: Tensor) -> Tensor | None:
        if node.target is GATHER_ROWS:
            x, index = arguments(node)
            return None if x not in self._labels else _gathered(self._labels[x], self.env[index], value_of(x).shape[1])
        if node.target is SCATTER_ROWS:
            return self._scattered(node)
        if node.target is aten.cat.default:
            return self._put_together(node)
        if node.target is aten.slice.Tensor and slice_of(node).dim == 1:
            cut = slice_of(node)
            index = torch.arange(cut.start, cut.end, cut.step).expand(result.shape[0], -1)
            return (
                None
                if cut.source not in self._labels
                else _gathered(self._labels[cut.source], index, value_of(cut.source).shape[1])
            )
        if node.target is aten.index_select.default and int(arguments(node)[1]) % result.dim() == 1:
            x, _, chosen = arguments(node)
            index = self.env[chosen].expand(result.shape[0], -1)
            return None if x not in self._labels else _gathered(self._labels[x], index, value_of(x).shape[1])
        if node.target in _REORDERS:
            return None
        return next(
            (
                self._labels[source]
                for source in node.all_input_nodes
                if source in self._labels and value_of(source).shape[:2] == result.shape[:2]
            ),
            None,
        )

    def _scattered(self, node: fx.Node) -> Tensor | None:
        base, index, src, reduce, _ = arguments(node)
        if base not in self._labels and src not in self._labels:
            return None
        into, rows = self.env[index], value_of(base).shape[1]
        held = self._labels.get(base)
        moved = self._labels.get(src)
        if held is None:
            assert moved is not None
            held = torch.full_like(moved, NOWHERE)
        elif reduce == "set":
            overwritten = torch.zeros(held.shape[0], rows, dtype=torch.bool).scatter(1, into, True)
            held = torch.where(overwritten.gather(1, held.clamp(min=0)), NOWHERE, held)
        if moved is None:
            return held
        arrived = torch.where(moved == NOWHERE, NOWHERE, into.gather(1, moved.clamp(min=0)))
        return torch.where(held == NOWHERE, arrived, held)

    def _put_together(self, node: fx.Node) -> Tensor | None:
        parts = arguments(node)[0]
        dim = arguments(node)[1] if len(arguments(node)) > 1 else 0
        if dim % value_of(node).dim() != 1 or not any(part in self._labels for part in parts):
            return None
        whole, before = None, 0
        for part in parts:
            if part in self._labels:
                labels = self._labels[part]
                shifted = torch.where(labels == NOWHERE, NOWHERE, labels + before)
                whole = shifted if whole is None else torch.where(whole == NOWHERE, shifted, whole)
            before += value_of(part).shape[1]
        return whole


def _gathered(labels_BN: Tensor, index_BK: Tensor, rows: int) -> Tensor:
    """The labels after rows were chosen: the place of each row among those chosen."""
    B, K = index_BK.shape
    places = torch.full((B, rows), NOWHERE).scatter(1, index_BK, torch.arange(K).expand(B, -1))
    return torch.where(labels_BN == NOWHERE, NOWHERE, places.gather(1, labels_BN.clamp(min=0)))
