"""Find the merge sites of a raised program: the decisions that belong together, and the rows they move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import fx
from torch.export import ExportedProgram

from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.dialect import BEST, DECISIONS, GATHER_ROWS, ORDER, PAIR_MEAN, PAIR_REPEAT, SCATTER_ROWS
from tm_export.exporters.graph.nodes import arguments, is_float, value_of
from tm_export.exporters.graph.user_line import source_line
from tm_export.exporters.merging.moves import (
    PRODUCTS,
    WEIGHED_SUMS,
    Move,
    move_of,
    product_move_of,
    view_origin,
    weighed_move_of,
)
from tm_export.exporters.merging.savings import Shortening, macs_saved
from tm_export.exporters.merging.work import Work, work_of


@dataclass(frozen=True)
class Site:
    """Operations of the dialect that follow from the same decisions.

    `moves` are the rows merged (or unmerged) here; a site that merges and later unmerges is two sites over
    the same decisions.
    """

    nodes: tuple[fx.Node, ...]
    kind: str
    source: str
    tokens_before: int
    tokens_after: int
    macs_saved: int
    work: Work

    @property
    def has_choice(self) -> bool:
        """Whether there is more than one form: a mean of neighbours has one for all targets, and a product is one."""
        return self.nodes[0].target not in (PAIR_MEAN, PAIR_REPEAT, *PRODUCTS, *WEIGHED_SUMS)

    @property
    def own_form(self) -> str:
        """What the one form is called."""
        if self.nodes[0].target in PRODUCTS:
            return "product"
        return "sum" if self.nodes[0].target in WEIGHED_SUMS else "pairs"


def find_sites(program: ExportedProgram) -> list[Site]:
    """All sites in graph order."""
    position = {node: i for i, node in enumerate(program.graph.nodes)}
    found: list[_Found] = []
    for group in groups_of(program):
        decisions = [node for node in group if node.target in DECISIONS]
        batch = max((value_of(node).shape[0] for node in decisions), default=1)
        moves = [move for node in group if (move := move_of(node, batch)) is not None]
        for expands in (False, True):
            some = tuple(move for move in moves if (move.after > move.before) is expands and _is_merge(move))
            if some:
                nodes = frozenset([*(() if expands else decisions), *(move.node for move in some)])
                found.append(_Found(nodes, some, expands, (group,)))
    products = [move for node in program.graph.nodes if (move := _move_of_one(node))]
    found += [_Found(frozenset([move.node]), (move,), move.after > move.before, ()) for move in products]
    joined = [site for site in _joined(found) if site.changes_tokens]
    joined.sort(key=lambda site: min(position[move.node] for move in site.moves))
    saved = macs_saved(program, [site.shortening for site in joined])
    in_order = [tuple(sorted(site.nodes, key=position.__getitem__)) for site in joined]
    return [
        Site(
            nodes,
            _kind(site),
            _source(nodes),
            site.before,
            site.after,
            macs,
            work_of([node for group in site.groups for node in group]),
        )
        for site, nodes, macs in zip(joined, in_order, saved, strict=True)
    ]


@dataclass(frozen=True)
class _Found:
    """A site in the making."""

    nodes: frozenset[fx.Node]
    moves: tuple[Move, ...]
    expands: bool
    groups: tuple[tuple[fx.Node, ...], ...]

    @property
    def ends(self) -> frozenset[fx.Node]:
        return frozenset(node for move in self.moves for node, _ in move.ends)

    @property
    def before(self) -> int:
        return max(move.before for move in self.moves)

    @property
    def after(self) -> int:
        return max(move.after for move in self.moves)

    @property
    def shortening(self) -> Shortening:
        origins = tuple(axis for move in self.moves for axis in move.origins)
        return Shortening(origins, tuple(axis for move in self.moves for axis in move.ends), self.before, self.after)

    def follows_from(self, other: _Found) -> bool:
        """Whether the other site's rows had a part in this one's decisions."""
        moved, seen = {move.node for move in other.moves}, set(self.nodes)
        stack = [node for node in self.nodes if node.target in DECISIONS]
        while stack:
            for source in stack.pop().all_input_nodes:
                if source in moved:
                    return True
                if source not in seen:
                    seen.add(source)
                    stack.append(source)
        return False

    @property
    def changes_tokens(self) -> bool:
        """A choice that leaves as many rows as there were merges nothing."""
        return self.before != self.after


def _joined(found: list[_Found]) -> list[_Found]:
    """Sites that end in the same tensor are one: people also order twice, once for each half of a merge."""
    result: list[_Found] = []
    for site in found:
        same = [
            other
            for other in result
            if other.expands == site.expands and other.ends & site.ends and not site.follows_from(other)
        ]
        for other in same:
            result.remove(other)
            site = _Found(
                other.nodes | site.nodes, (*other.moves, *site.moves), site.expands, (*other.groups, *site.groups)
            )
        result.append(site)
    return result


def _move_of_one(node: fx.Node) -> Move | None:
    """The move that one operator is by itself, if it is."""
    return product_move_of(node) or weighed_move_of(node)


def decided_origins(site: Site) -> list[fx.Node]:
    """The tensors whose rows a site moves, as they were computed."""
    moves = [move_of(node, 1) or _move_of_one(node) for node in site.nodes if node.target not in DECISIONS]
    return [origin for move in moves if move is not None for origin, _ in move.origins]


def decisions_of(program: ExportedProgram) -> list[fx.Node]:
    """The decision nodes in graph order."""
    return [node for node in program.graph.nodes if node.target in DECISIONS]


def groups_of(program: ExportedProgram) -> list[tuple[fx.Node, ...]]:
    """Dialect nodes that share decisions: each group is lowered in one form.

    Rows moved by an index that is known at export follow from no decision, and are in no group.
    """
    graph = program.graph
    dialect = [node for node in graph.nodes if node.target in (ORDER, BEST, GATHER_ROWS, SCATTER_ROWS)]
    pairs = [(node,) for node in graph.nodes if node.target in (PAIR_MEAN, PAIR_REPEAT)]
    parent: dict[fx.Node, fx.Node] = {node: node for node in dialect}

    def root(node: fx.Node) -> fx.Node:
        while parent[node] is not node:
            node = parent[node]
        return node

    for node in dialect:
        for source in _index_sources(node):
            parent[root(source)] = root(node)
    groups: dict[fx.Node, list[fx.Node]] = {}
    for node in dialect:
        groups.setdefault(root(node), []).append(node)
    decided = [group for group in groups.values() if any(_is_decided(node) for node in group)]
    return [tuple(group) for group in decided] + pairs


def _is_decided(node: fx.Node) -> bool:
    """Whether the operation is a decision, or moves rows by an index that is not known at export."""
    return node.target in DECISIONS or constant_of(arguments(node)[1]) is None


def _is_merge(move: Move) -> bool:
    """Whether the rows that move follow from what the program computes, and not from its integer inputs alone.

    A row of a table that is looked up, the last position of a text, a write into a cache merge nothing. Nor does a
    repeat, unless it brings back what a mean of pairs has made fewer: heads of attention are repeated, too.
    """
    if move.node.target is PAIR_MEAN or move.node.target in PRODUCTS:
        return True  # a mean of neighbours, and a matrix that follows from decisions
    if move.node.target is PAIR_REPEAT:
        return _brings_back_pairs(move.node)
    return _follows_from_floats(bound_arguments(move.node)["index_BK"])


def _follows_from_floats(index: fx.Node) -> bool:
    """Whether a number that is no constant has a part in an index."""
    stack, seen = [index], {index}
    while stack:
        node = stack.pop()
        if is_float(node) and constant_of(node) is None:
            return True
        stack += [source for source in node.all_input_nodes if source not in seen]
        seen.update(node.all_input_nodes)
    return False


def _brings_back_pairs(repeat: fx.Node) -> bool:
    """Whether a mean of pairs, somewhere before, has left half of as many rows as the repeat makes."""
    rows = value_of(repeat).shape[1]
    stack, seen = [repeat], {repeat}
    while stack:
        node = stack.pop()
        if node.target is PAIR_MEAN and value_of(node).shape[1] * 2 == rows:
            return True
        stack += [source for source in node.all_input_nodes if source not in seen]
        seen.update(node.all_input_nodes)
    return False


def _index_sources(node: fx.Node) -> Iterator[fx.Node]:
    """Dialect nodes whose integers reach `node` through operators on integers."""
    stack = [source for source in node.all_input_nodes if not is_float(source)]
    seen = set(stack)
    while stack:
        source = stack.pop()
        if source.target in (ORDER, BEST, GATHER_ROWS, SCATTER_ROWS):
            yield source
            continue
        for further in source.all_input_nodes:
            if further not in seen and not is_float(further):
                seen.add(further)
                stack.append(further)


def _kind(site: _Found) -> str:
    if site.expands:
        return "unmerge"
    if any(move.node.target in (PAIR_MEAN, *PRODUCTS, *WEIGHED_SUMS) for move in site.moves):
        return "merge"
    scatters = [
        bound_arguments(move.node)
        for move in site.moves
        if move.node.target is SCATTER_ROWS and bound_arguments(move.node)["reduce"] != "set"
    ]
    if not scatters:
        return "prune"
    return "cluster" if any(constant_of(view_origin(given["base_BMC"])) is not None for given in scatters) else "merge"


def _source(nodes: Iterable[fx.Node]) -> str:
    """The user's line at which most of the site's rows move; of several, the first."""
    lines = Counter(source_line(node) for node in nodes if node.target not in DECISIONS)
    return lines.most_common(1)[0][0]
