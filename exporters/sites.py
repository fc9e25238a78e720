"""Find the merge sites of a raised program: the decisions that belong together, and the rows they move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import fx
from torch.export import ExportedProgram

from tm_export.exporters.constants import constant_of
from tm_export.exporters.dialect import (
    BEST,
    DECISIONS,
    GATHER_ROWS,
    ORDER,
    PAIR_MEAN,
    PAIR_REPEAT,
    SCATTER_ROWS,
)
from tm_export.exporters.lowering.cost import Work
from tm_export.exporters.macs import products_of
from tm_export.exporters.retrace import arguments, is_float, value_of
from tm_export.exporters.source import source_line

aten = torch.ops.aten

_MOVEMENT = {
    aten.slice.Tensor, aten.reshape.default, aten.view.default, aten._unsafe_view.default, aten.unsqueeze.default,
    aten.squeeze.dim, aten.select.int, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int,
    aten.clone.default, aten.contiguous.default, aten.alias.default, aten.index.Tensor, aten.index_select.default,
    aten.permute.default, aten.transpose.int, aten.chunk.default, aten.narrow.default, aten.flatten.using_ints,
}  # fmt: skip
_JOINING = _MOVEMENT | {
    aten.cat.default,
    aten.div.Tensor,
    aten.mul.Tensor,
    aten.where.self,
    aten.stack.default,
}


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
        """Whether there is more than one form: a mean of neighbours has one for all targets."""
        return self.nodes[0].target not in (PAIR_MEAN, PAIR_REPEAT)


def find_sites(program: ExportedProgram) -> list[Site]:
    """All sites in graph order."""
    position = {node: i for i, node in enumerate(program.graph.nodes)}
    found: list[_Found] = []
    for group in groups_of(program):
        decisions = [node for node in group if node.target in DECISIONS]
        batch = max((value_of(node).shape[0] for node in decisions), default=1)
        moves = [(node, *_tokens(node, batch)) for node in group if _moves_tokens(node)]
        by_direction: dict[bool, list[tuple[fx.Node, int, int]]] = {}
        for move in moves:
            by_direction.setdefault(move[2] > move[1], []).append(move)
        for expands, some in sorted(by_direction.items()):
            ends = frozenset(end for node, _, _ in some for end in _ends(node))
            nodes = frozenset([*(() if expands else decisions), *(node for node, _, _ in some)])
            found.append(_Found(nodes, ends, tuple(some), expands, (group,)))
    joined = [site for site in _joined(found) if site.changes_tokens]
    # A site begins with the first rows that it moves; what follows, up to the next site, is what it makes cheaper.
    starts = {site: min(position[node] for node, _, _ in site.moves) for site in joined}
    joined.sort(key=starts.__getitem__)
    limits = [starts[site] for site in joined] + [len(position)]
    order = list(program.graph.nodes)
    return [
        Site(
            tuple(sorted(site.nodes, key=position.__getitem__)),
            _kind(site.moves, site.expands),
            _source(site.nodes),
            site.before,
            site.after,
            _saved(order[limits[i] : limits[i + 1]], site.before, site.after),
            work_of([node for group in site.groups for node in group]),
        )
        for i, site in enumerate(joined)
    ]


@dataclass(frozen=True)
class _Found:
    """A site in the making: its moves with the tokens before and after each, and the tensors that they end in."""

    nodes: frozenset[fx.Node]
    ends: frozenset[fx.Node]
    moves: tuple[tuple[fx.Node, int, int], ...]
    expands: bool
    groups: tuple[tuple[fx.Node, ...], ...]

    @property
    def before(self) -> int:
        return max(before for _, before, _ in self.moves)

    @property
    def after(self) -> int:
        return max(after for _, _, after in self.moves)

    def follows_from(self, other: _Found) -> bool:
        """Whether the other site's rows had a part in this one's decisions."""
        moved, seen = {node for node, _, _ in other.moves}, set(self.nodes)
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
        """What merges by ordinary products makes a choice, but leaves no move of rows that changes their number."""
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
                other.nodes | site.nodes,
                other.ends | site.ends,
                (*other.moves, *site.moves),
                site.expands,
                (*other.groups, *site.groups),
            )
        result.append(site)
    return result


def decided_origins(site: Site) -> list[fx.Node]:
    """The tensors whose rows a site moves, as they were computed."""
    moves = [node for node in site.nodes if node.target not in DECISIONS]
    return [origin for node in moves for origin in _origins(node) if constant_of(origin) is None]


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


def _moves_tokens(node: fx.Node) -> bool:
    """Whether rows of tokens move here, not indices, scores or sizes of a single channel, nor rows of a constant."""
    return (
        node.target in (GATHER_ROWS, SCATTER_ROWS, PAIR_MEAN, PAIR_REPEAT)
        and is_float(node)
        and value_of(node).shape[-1] > 1
        and any(constant_of(origin) is None for origin in _origins(node))
    )


def _tokens(node: fx.Node, batch: int) -> tuple[int, int]:
    """Tokens in a batch row where the rows that move here come from, and where they end up.

    A batch may be flattened into the rows; the decisions tell how large it is.
    """
    B, _, C = value_of(node).shape
    if node.target in (PAIR_MEAN, PAIR_REPEAT):
        before = value_of(arguments(node)[0]).shape[1]
        return before, value_of(node).shape[1]
    before = max(value_of(origin).numel() for origin in _origins(node) if constant_of(origin) is None)
    after = max(value_of(end).numel() for end in _ends(node))
    one = max(B, batch) * C
    return before // one, after // one


def _origins(node: fx.Node) -> list[fx.Node]:
    """Where the rows that move come from; rows that are overwritten go nowhere."""
    sources = [arguments(node)[0]]
    if node.target is SCATTER_ROWS:
        base, _, written, reduce, _ = arguments(node)
        sources = [written] if reduce == "set" else [written, base]
    return [_origin(source) for source in sources if isinstance(source, fx.Node)]


def _origin(node: fx.Node) -> fx.Node:
    """Go back over views, slices and selections of rows to where a tensor was computed."""
    while node.target in _MOVEMENT or node.target is GATHER_ROWS or "getitem" in str(node.target):
        source = arguments(node)[0]
        assert isinstance(source, fx.Node)
        is_several = isinstance(source.meta.get("val"), list | tuple)
        if source.target not in _MOVEMENT if is_several else not is_float(source):
            break  # computed here, if as one of several results
        node = source
    return node


def _ends(node: fx.Node) -> Iterable[fx.Node]:
    """Go on over concatenations, views and divisions by size to the tensors that the rows end up in."""
    ends, stack, seen = [], [node], {node}
    while stack:
        current = stack.pop()
        onward = [
            user
            for user in current.users
            if (user.target in _JOINING or user.target is SCATTER_ROWS) and is_float(user) and user not in seen
        ]
        seen.update(onward)
        stack += onward
        if not onward or any(user not in onward for user in current.users):
            ends.append(current)
    return ends


def _kind(moves: Iterable[tuple[fx.Node, int, int]], expands: bool) -> str:
    if expands:
        return "unmerge"
    scatters = [node for node, _, _ in moves if node.target is SCATTER_ROWS and arguments(node)[3] != "set"]
    if any(node.target is PAIR_MEAN for node, _, _ in moves):
        return "merge"
    if not scatters:
        return "prune"
    return "cluster" if any(constant_of(_origin(arguments(n)[0])) is not None for n in scatters) else "merge"


def _source(nodes: Iterable[fx.Node]) -> str:
    """The user's line at which most of the site's rows move."""
    lines = Counter(source_line(node) for node in nodes if node.target not in DECISIONS)
    return lines.most_common(1)[0][0]


def _saved(interval: list[fx.Node], before: int, after: int) -> int:
    """Multiply-adds that the operators up to the next site would need more with the tokens of before.

    A product grows with each of its sides that is the number of tokens: a linear layer once, attention twice.
    """
    if after >= before:
        return 0
    saved = 0.0
    for node in interval:
        for product in products_of(node):
            sides = (product.rows * product.batch % after == 0) + (after in (product.columns, product.inner))
            saved += product.macs * ((before / after) ** sides - 1)
    return round(saved)


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
