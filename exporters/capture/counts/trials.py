"""Hold claims true: whatever the inputs are, is the condition true?

What follows from the inputs may be anything, but for what an operator guarantees of its result (`GUARANTEES`):

    topk, sort, argsort     along the dimension, the first k of some permutation
    argmax, max(dim), …     an index of some candidate

All else that is computed from such data is unknown, and a condition that needs it does not hold. A condition that
needs only constants, weights, permutations and candidates is computed, with permutations chosen against it: all
rotations, so that every position comes to be chosen and left out; all choices of the graph the same, so that they
overlap as far as they can; opposite ones, so that they do not; and independent ones.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from tm_export.exporters.capture.counts.claims import Claim, claims_of
from tm_export.exporters.capture.counts.guarantees import GUARANTEES, SHAPE_ONLY, UNKNOWN, Permutations
from tm_export.exporters.graph.nodes import placeholders_of

_ROTATIONS: Final = 1024
_DRAWS: Final = 48


def unproven(program: ExportedProgram) -> list[Claim]:
    """The claims of a captured program that do not hold for every input, in the order in which they were made."""
    claims = claims_of(program.graph)
    if not claims:
        return []
    fixed = _fixed_values(program)
    needed = _ancestors([claim.condition for claim in claims])
    nodes = [node for node in program.graph.nodes if node in needed and node.op == "call_function"]
    fixed |= _computed(nodes, fixed, None)
    open_claims = [claim for claim in claims if claim.condition not in fixed]
    refuted = {claim.condition for claim in claims if claim.condition in fixed and not bool(fixed[claim.condition])}
    if open_claims:
        varying = [node for node in nodes if node not in fixed]
        longest = max(
            (max(n.meta["val"].shape, default=1) for n in varying if isinstance(n.meta.get("val"), Tensor)), default=1
        )
        for permutations in _chosen_against(longest):
            values = fixed | _computed(varying, fixed, permutations)
            failed = {claim.condition for claim in open_claims if not _holds(values.get(claim.condition, UNKNOWN))}
            refuted |= failed
            open_claims = [claim for claim in open_claims if claim.condition not in failed]
            if not open_claims:
                break
    return [claim for claim in claims if claim.condition in refuted]


def _holds(condition: Any) -> bool:
    return isinstance(condition, Tensor) and bool(condition)


def _chosen_against(size: int) -> Iterator[Permutations]:
    """Permutations under which a condition that can fail is likely to."""
    step = max(1, -(-size // _ROTATIONS))
    for shift in range(0, max(size, 1), step):
        yield Permutations(partial(_rotated, shift))
    yield Permutations(lambda which, n: torch.arange(n) if which % 2 else torch.arange(n).flip(0))
    for seed in range(_DRAWS):
        yield Permutations(partial(_drawn, torch.Generator().manual_seed(seed)))
        yield Permutations(partial(_the_same, seed))


def _rotated(shift: int, _which: int, size: int) -> Tensor:
    return torch.arange(size).roll(shift)


def _drawn(generator: torch.Generator, _which: int, size: int) -> Tensor:
    return torch.randperm(size, generator=generator)


def _the_same(seed: int, _which: int, size: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


def _fixed_values(program: ExportedProgram) -> dict[fx.Node, Any]:
    """Values of the graph's inputs that the user does not give: weights that are there, and constants."""
    values: dict[fx.Node, Any] = {}
    mutated = set(program.graph_signature.buffers_to_mutate.values())
    for spec, node in zip(program.graph_signature.input_specs, placeholders_of(program.graph), strict=True):
        if spec.kind is InputKind.USER_INPUT or spec.target is None or spec.target in mutated:
            continue
        value = program.state_dict.get(spec.target, program.constants.get(spec.target))
        if isinstance(value, Tensor) and not isinstance(value, FakeTensor) and not value.is_meta:
            values[node] = value.detach()
    return values


def _ancestors(nodes: list[fx.Node]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.all_input_nodes
    return found


def _computed(
    nodes: list[fx.Node], given: Mapping[fx.Node, Any], permutations: Permutations | None
) -> dict[fx.Node, Any]:
    """The nodes' values as far as they are known; without permutations, what varies with them is not."""
    values: dict[fx.Node, Any] = {}

    def value_of(node: fx.Node) -> Any:
        return values.get(node, given.get(node, UNKNOWN))

    with torch.no_grad():
        for node in nodes:
            value = _value(node, value_of, permutations)
            if value is not UNKNOWN:
                values[node] = value
    return values


def _value(node: fx.Node, value_of: Callable[[fx.Node], Any], permutations: Permutations | None) -> Any:
    assert callable(node.target)
    if node.target in SHAPE_ONLY:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), _blank)
        return node.target(*args, **kwargs)
    values = [value_of(source) for source in node.all_input_nodes]
    if node.target is operator.getitem:
        made, position = values[0], node.args[1]
        assert isinstance(position, int)
        return made[position] if isinstance(made, tuple | list) else UNKNOWN
    if any(value is UNKNOWN for value in values):
        guarantee = GUARANTEES.get(node.target)
        return UNKNOWN if guarantee is None or permutations is None else guarantee(node, permutations)
    if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
        return UNKNOWN
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), value_of)
    return node.target(*args, **kwargs)


def _blank(node: fx.Node) -> Tensor:
    value = node.meta["val"]
    return torch.empty(tuple(value.shape), dtype=value.dtype)
