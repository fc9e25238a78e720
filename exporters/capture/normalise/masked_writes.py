"""Writes through a mask: which rows it chooses is not known at export, what is written where is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule

aten = torch.ops.aten

_SAME_ALONG_LAST = {aten.expand.default, aten.expand_as.default, aten.clone.default, aten._to_copy.default}


@dataclass(frozen=True)
class Masked:
    """A write through the mask `mask`, of the dimensions of a tensor from the `first` on."""

    mask: fx.Node
    first: int


class WriteByChoice(Rule[Masked]):
    """Replaces `x[mask] = values`.

    Before::

        index_put(x_BNC, [mask_BN], value)              value: one number, one row [C]
        index_put(x_BNC, [mask_BN], rows_KC)            as many rows as the mask chooses, in order

    After::

        where(mask, value, x)
        where(mask, rows[cumsum(mask) - 1], x)          the n-th place that is chosen gets row n
    """

    name = "normalise::write_by_choice"
    pattern = frozenset({aten.index_put.default, aten._unsafe_index_put.default})

    def check(self, node: fx.Node) -> Masked | No:
        """One mask, and no other index."""
        indices = bound_arguments(node)["indices"]
        places = [i for i, index in enumerate(indices) if index is not None]
        masks = [i for i in places if value_of(indices[i]).dtype == torch.bool]
        if not masks:
            return No("no mask")
        return Masked(indices[masks[0]], masks[0]) if len(places) == 1 else No("not the only index")

    def rewrite(self, node: fx.Node, match: Masked, values: Values) -> Any:
        """What is written where the mask is true, and what was there elsewhere."""
        given = bound_arguments(node)
        x, mask, written = values(given["self"]), values(match.mask), values(given["values"])
        rest = x.shape[match.first + mask.dim() :]
        chosen = mask.reshape(*mask.shape, *[1] * len(rest))
        is_in_order = written.dim() == len(rest) + 1 + match.first and written.shape[match.first] != 1
        if is_in_order:
            written = _in_order(mask, written, match.first)
        elif written.dim() > len(rest):  # one row, written as a list of one
            fill = [1] * (mask.dim() - 1)
            at = written.dim() - len(rest)
            written = written.reshape(*written.shape[:at], *fill, *written.shape[at:])
        written = written.to(x.dtype)
        if given["accumulate"]:
            return torch.where(chosen, x + written, x)
        return torch.where(chosen, written, x)


def _in_order(mask: Tensor, rows: Tensor, dim: int) -> Tensor:
    """For each entry of a mask that is true the next of the rows along `dim`; for the others any of them."""
    position = mask.reshape(-1).to(torch.int64).cumsum(0) - 1
    taken = rows.index_select(dim, position.clamp(0, rows.shape[dim] - 1))
    return taken.reshape(*rows.shape[:dim], *mask.shape, *rows.shape[dim + 1 :])


class ScatterInOrder(Rule[None]):
    """Replaces `x.masked_scatter(mask, source)`, with which image tokens are put into a text.

    Before::

        masked_scatter(x_BNC, mask_BN1 expanded, source_KC)

    After::

        where(mask, source[cumsum(mask) - 1], x)        by rows, where the mask is the same for all of a row
    """

    name = "normalise::scatter_in_order"
    pattern = frozenset({aten.masked_scatter.default})

    def check(self, node: fx.Node) -> No | None:
        """Always."""
        return None

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """The n-th place that is chosen gets the source's row, or number, n."""
        given = bound_arguments(node)
        x, source = values(given["self"]), values(given["source"])
        shape = torch.broadcast_shapes(values(given["mask"]).shape, x.shape)  # type: ignore[no-untyped-call]
        mask, x = values(given["mask"]).expand(shape), x.expand(shape)
        narrow = _before_expansion(given["mask"])
        channels = x.shape[-1] if x.dim() else 1
        is_by_rows = value_of(narrow).shape[-1:] == (1,) and channels > 1 and source.numel() % channels == 0
        if is_by_rows:
            rows = values(narrow).expand(*x.shape[:-1], 1)[..., 0]
            return torch.where(rows.unsqueeze(-1), _in_order(rows, source.reshape(-1, channels), 0), x)
        return torch.where(mask, _in_order(mask, source.reshape(-1), 0), x)


def _before_expansion(mask: fx.Node) -> fx.Node:
    """The mask before it was repeated along its last dimension."""
    while mask.target in _SAME_ALONG_LAST and value_of(mask).dtype == torch.bool:
        source = bound_arguments(mask)["self"]
        if value_of(source).dtype != torch.bool:
            break
        mask = source
    return mask
