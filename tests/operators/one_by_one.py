"""Rules in ordinary PyTorch: each operator of a call computed as the first rule that fires there says, nothing else.

No program is exported for it, so all calls can be tried in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from calls import Call, module_of
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from tm_export.exporters.graph.retrace import Values
from tm_export.exporters.graph.rule import No, Rule


class _Noting(fx.Interpreter):
    """Notes the value of each node, which rules look at."""

    def run_node(self, n: fx.Node) -> Any:
        n.meta["val"] = super().run_node(n)
        return n.meta["val"]


class _ByRules(fx.Interpreter):
    """Runs a graph, computing the nodes at which a rule fires by it."""

    def __init__(self, graph: fx.GraphModule, rules: Sequence[Rule[Any]]) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self._rules = rules

    def run_node(self, n: fx.Node) -> Any:
        for rule in self._rules:
            if n.op == "call_function" and n.target in rule.pattern and not isinstance(match := rule.check(n), No):
                return rule.rewrite(n, match, Values(self.env))
        return super().run_node(n)


def graph_of(each: Call, inputs: Sequence[Tensor]) -> fx.GraphModule:
    """The operators that a call comes to on these inputs, as an export shows them: none is taken apart."""
    module = module_of((each,))
    with torch.no_grad():
        graph: fx.GraphModule = make_fx(lambda *given: module(*given), pre_dispatch=True)(*inputs)
        _Noting(graph, garbage_collect_values=False).run(*inputs)
    return graph


def run_by_rules(graph: fx.GraphModule, rules: Sequence[Rule[Any]], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What the graph computes, each node by the first of these rules that fires at it."""
    with torch.no_grad():
        return tuple(pytree.tree_leaves(_ByRules(graph, rules).run(*inputs)))
