"""What merging saves: the multiply-adds that a program would need more if its tokens were not merged.

Tokens are followed from each site by the dimension that counts them, through all operators behind it. A product that
has it for a side would be larger by the ratio of tokens before the site to those after it; twice where two sides are
it, as in attention. Where several sites have shortened a dimension, each is given what it saves when those before it
have done their part, so that the savings of all sites add up to what the call would take more without any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, fx
from torch.export import ExportedProgram

from tm_export.exporters.graph.dialect import DECISIONS
from tm_export.exporters.graph.macs import products_of
from tm_export.exporters.graph.token_axis import Axis, axes_behind


@dataclass(frozen=True)
class Shortening:
    """One site: the dimensions that its rows come from, those that they end up in, and the tokens in both."""

    origins: tuple[Axis, ...]
    ends: tuple[Axis, ...]
    before: int
    after: int


_Label = tuple[tuple[int, float], ...]
"""The sites that have shortened a dimension, by their numbers, and by what ratio each did."""


def macs_saved(program: ExportedProgram, sites: Sequence[Shortening]) -> list[int]:
    """Multiply-adds that each site saves; sites in the order of the graph, those that bring tokens back among them."""
    labels: dict[Axis, _Label] = {}
    ends = {axis: number for number, site in enumerate(sites) for axis in site.ends}
    for node in program.graph.nodes:
        for dim in range(_rank(node)):
            number = ends.get((node, dim))
            if number is not None:
                labels[node, dim] = _behind_site(number, sites[number], labels)
                continue
            behind = [labels[axis] for axis in axes_behind(node, dim) if axis in labels]
            if behind:
                labels[node, dim] = max(behind, key=len)
    saved = [0.0] * len(sites)
    deciding = _deciding(program)
    for node in program.graph.nodes:
        if node in deciding:
            continue  # no program without merging would do this
        for product in products_of(node):
            sides = [labels[axis] for axis in product.sides if axis in labels]
            for number, macs in _by_site(product.macs, sides):
                saved[number] += macs
    return [round(macs) for macs in saved]


def _rank(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.dim() if isinstance(value, Tensor) and node.op == "call_function" else 0


def _behind_site(number: int, site: Shortening, labels: dict[Axis, _Label]) -> _Label:
    """What has shortened the tokens behind a site; one that brings tokens back takes the last ones off again."""
    label = max((labels.get(axis, ()) for axis in site.origins), key=len, default=())
    if 0 in (site.before, site.after):
        return label  # what has no rows costs nothing
    if site.after <= site.before:
        return (*label, (number, site.before / site.after))
    restored = site.after / site.before
    while label and restored > 1 + 1e-9:
        restored /= label[-1][1]
        label = label[:-1]
    return label


def _by_site(macs: int, sides: Sequence[_Label]) -> list[tuple[int, float]]:
    """What each site saves of a product with these sides: one after the other, the first site first."""
    ratios: dict[int, float] = {}
    for label in sides:
        for number, ratio in label:
            ratios[number] = ratios.get(number, 1.0) * ratio
    found, size = [], float(macs)
    for number in sorted(ratios, reverse=True):
        found.append((number, size * (ratios[number] - 1)))
        size *= ratios[number]
    return found


def _deciding(program: ExportedProgram) -> set[fx.Node]:
    """Operators that lead to decisions and nothing else: the match itself."""
    deciding: set[fx.Node] = set()
    for node in reversed(list(program.graph.nodes)):
        if node.op == "call_function" and (
            node.target in DECISIONS or (node.users and all(user in deciding for user in node.users))
        ):
            deciding.add(node)
    return deciding
