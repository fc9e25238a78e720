"""What a rewrite rule is: pattern, check, rewrite; and the record of what a rule did."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from torch import fx
from torch._ops import OpOverload
from torch.export import ExportedProgram

from tm_export.exporters.graph.retrace import Values, retrace
from tm_export.exporters.graph.simplify import simplified
from tm_export.exporters.graph.user_line import source_line


@dataclass(frozen=True)
class No:
    """Why a rule does not fire at a node."""

    reason: str


@dataclass(frozen=True)
class Firing:
    """That a rule fired at a node, or the reason why it did not."""

    rule: str
    op: str
    source: str
    fired: bool
    reason: str = ""


M = TypeVar("M")


class Rule(ABC, Generic[M]):
    """Replaces nodes of certain operators.

    `pattern` names the operators at which the rule looks. `check` looks at the graph around one of them and
    answers with what the rewrite needs to know, or with `No(reason)`. `rewrite` computes the node's value
    another way, in ordinary PyTorch, from `values(node)` of the nodes that it reads.
    """

    name: ClassVar[str]
    pattern: ClassVar[frozenset[OpOverload]]

    @abstractmethod
    def check(self, node: fx.Node) -> M | No:
        """Say what `rewrite` needs to know, or why the rule does not fire at `node`."""

    @abstractmethod
    def rewrite(self, node: fx.Node, match: M, values: Values) -> Any:
        """Compute the value of `node`."""


def apply_rules(program: ExportedProgram, rules: Sequence[Rule[Any]]) -> tuple[ExportedProgram, list[Firing]]:
    """Apply the first rule that fires at each node, and simplify what no rule touches, in one pass.

    Returns the rewritten program and a record for every rule that looked at a node.
    """
    by_op: dict[Any, list[Rule[Any]]] = {}
    for rule in rules:
        for op in rule.pattern:
            by_op.setdefault(op, []).append(rule)
    if not any(node.target in by_op for node in program.graph.nodes):
        return program, []
    firings: list[Firing] = []

    def translate(node: fx.Node, values: Values) -> Any:
        for rule in by_op.get(node.target, ()):
            match = rule.check(node)
            fired = not isinstance(match, No)
            reason = match.reason if isinstance(match, No) else ""
            firings.append(Firing(rule.name, str(node.target), source_line(node), fired, reason))
            if fired:
                return rule.rewrite(node, match, values)
        return simplified(node, values)

    return retrace(program, translate), firings
