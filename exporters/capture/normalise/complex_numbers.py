"""Complex numbers become two real ones each: what Core ML and ExecuTorch have, and ONNX in pieces only.

A complex tensor is a `Pair` while the graph is run anew, so that nothing is stacked that is taken apart again. Rotary
positions, `view_as_complex(x) * polar(1, angle)`, come out as four products and two sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.export import ExportedProgram

from tm_export.exporters.capture.normalise.stored import with_stored
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.arguments import bound_arguments
from tm_export.exporters.graph.nodes import arguments, operator_of
from tm_export.exporters.graph.retrace import KEEP, Values, retrace
from tm_export.exporters.graph.user_line import source_line

aten = torch.ops.aten


@dataclass(frozen=True)
class Pair:
    """The real and the imaginary part of a complex tensor, or of a number."""

    real: Any
    imag: Any


_ON_EACH_PART: Final = frozenset({
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.unsqueeze.default, aten.squeeze.dim,
    aten.squeeze.dims, aten.squeeze.default, aten.expand.default, aten.permute.default, aten.transpose.int,
    aten.slice.Tensor, aten.select.int, aten.narrow.default, aten.flatten.using_ints, aten.unflatten.int,
    aten.movedim.int, aten.movedim.intlist, aten.cat.default, aten.stack.default, aten.index_select.default,
    aten.index.Tensor, aten.gather.default, aten.clone.default, aten.contiguous.default, aten.alias.default,
    aten.detach.default, aten.roll.default, aten.flip.default, aten.repeat.default, aten.sum.default,
    aten.sum.dim_IntList, aten.mean.default, aten.mean.dim, aten.cumsum.default, aten.where.self, aten.neg.default,
    aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int, aten.lift_fresh_copy.default,
    aten.expand_as.default, aten.view_as.default, aten.t.default, aten.tril.default, aten.triu.default,
})  # fmt: skip
"""What moves or adds numbers does it with their parts."""

_SAME: Final = frozenset({aten.resolve_conj.default, aten.resolve_neg.default})


def complex_as_pairs(program: ExportedProgram) -> ExportedProgram:
    """Return the program with real arithmetic in place of complex.

    Raises `ConversionRefused` for an operator that has no such form here.
    """
    complex_nodes = frozenset(node for node in program.graph.nodes if _makes_complex(node))
    if not complex_nodes:
        return program

    concerned = complex_nodes | {user for node in complex_nodes for user in node.users}
    _refuse_unknown(node for node in program.graph.nodes if node in concerned)

    def translate(node: fx.Node, values: Values) -> Any:
        is_concerned = node in concerned and node.op == "call_function"
        return _computed(node, values, complex_nodes) if is_concerned else KEEP

    return retrace(with_stored(program, _is_complex, _stacked), translate)


def _makes_complex(node: fx.Node) -> bool:
    return any(_is_complex(leaf) for leaf in pytree.tree_leaves(node.meta.get("val")))


def _is_complex(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_complex()


def _stacked(value: Tensor) -> Tensor:
    return torch.view_as_real(value.detach().resolve_conj()).clone()


def _computed(node: fx.Node, values: Values, complex_nodes: frozenset[fx.Node]) -> Any:
    """The value of a node that takes or makes complex numbers."""
    if not isinstance(node.target, OpOverload):  # one of several results
        return operator_of(node)(*values(arguments(node)))

    def part(argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            value = values(argument)
            return _pair(value) if argument in complex_nodes else value
        return Pair(argument.real, argument.imag) if isinstance(argument, complex) else argument

    given = {name: fx.node.map_aggregate(value, part) for name, value in bound_arguments(node).items()}
    if node.target in _SAME:
        return given["self"]
    if node.target in _ON_EACH_PART:
        return _on_each_part(node.target, given)
    return _FORMULAS[node.target](**given)


def _refuse_unknown(nodes: Iterable[fx.Node]) -> None:
    for node in nodes:
        if isinstance(node.target, OpOverload) and node.target not in {*_SAME, *_ON_EACH_PART, *_FORMULAS}:
            raise ConversionRefused(
                f"targets have no complex numbers, and {node.target} at {source_line(node) or node.name} cannot be "
                "written in real ones: compute with the real and the imaginary part"
            )


def _pair(value: Any) -> Any:
    """An input of the graph holds its parts in the last dimension."""
    return Pair(value.select(-1, 0), value.select(-1, 1)) if isinstance(value, Tensor) else value


def _on_each_part(called: OpOverload, given: Mapping[str, Any]) -> Any:
    def of(name: str) -> Any:
        own = pytree.tree_map(lambda x: _part(x, name), dict(given), is_leaf=lambda x: isinstance(x, Pair))
        by_position = [own.pop(each.name) for each in called._schema.arguments if not each.kwarg_only]
        return called(*by_position, **own)

    real, imag = of("real"), of("imag")
    return [Pair(a, b) for a, b in zip(real, imag, strict=True)] if isinstance(real, list | tuple) else Pair(real, imag)


def _part(value: Any, name: str) -> Any:
    """A part of a complex value; real tensors beside it (an index, a condition) stay."""
    return getattr(value, name) if isinstance(value, Pair) else value


def _as_pair(value: Any) -> Pair:
    return value if isinstance(value, Pair) else Pair(value, 0)


def _sum(self: Any, other: Any, alpha: Any = 1) -> Pair:
    x, y = _as_pair(self), _as_pair(_product(other, alpha) if isinstance(alpha, Pair) or alpha != 1 else other)
    return Pair(x.real + y.real, _filled(x.imag + y.imag, x.real))


def _filled(value: Any, like: Any) -> Any:
    """A part that is a number as a tensor."""
    return value if isinstance(value, Tensor) else torch.full_like(like, value)


def _negated(value: Any) -> Any:
    return Pair(-value.real, -value.imag) if isinstance(value, Pair) else -value


def _difference(self: Any, other: Any, alpha: Any = 1) -> Pair:
    return _sum(self, _negated(other), alpha)


def _reverse_difference(self: Any, other: Any, alpha: Any = 1) -> Pair:
    return _sum(other, _negated(_product(self, alpha) if alpha != 1 else self))


def _product(self: Any, other: Any) -> Any:
    if not isinstance(other, Pair):
        self, other = other, self
    if not isinstance(other, Pair):
        return self * other
    if not isinstance(self, Pair):
        return Pair(other.real * self, other.imag * self)
    return Pair(
        self.real * other.real - self.imag * other.imag,
        self.real * other.imag + self.imag * other.real,
    )


def _quotient(self: Any, other: Any) -> Pair:
    if not isinstance(other, Pair):
        return Pair(self.real / other, self.imag / other)
    square = other.real * other.real + other.imag * other.imag
    made = _product(self, Pair(other.real, -other.imag))
    return Pair(made.real / square, made.imag / square)


def _matrix_product(called: OpOverload) -> Callable[..., Pair]:
    def product(self: Any, **second: Any) -> Pair:
        (other,) = second.values()
        x, y = self, other
        if not isinstance(x, Pair):
            return Pair(called(x, y.real), called(x, y.imag))
        if not isinstance(y, Pair):
            return Pair(called(x.real, y), called(x.imag, y))
        return Pair(
            called(x.real, y.real) - called(x.imag, y.imag),
            called(x.real, y.imag) + called(x.imag, y.real),
        )

    return product


def _polar(abs: Tensor, angle: Tensor) -> Pair:
    return Pair(abs * angle.cos(), abs * angle.sin())


def _exp(self: Pair) -> Pair:
    return _polar(self.real.exp(), self.imag)


def _size(self: Pair) -> Tensor:
    size: Tensor = (self.real * self.real + self.imag * self.imag).sqrt()
    return size


def _angle(self: Pair) -> Tensor:
    return torch.atan2(self.imag, self.real)


def _conjugated(self: Any) -> Any:
    return Pair(self.real, -self.imag) if isinstance(self, Pair) else self


def _cast(self: Any, dtype: torch.dtype | None = None, **_: Any) -> Any:
    if isinstance(self, Pair):
        return self if dtype is None or dtype.is_complex else self.real.to(dtype)
    plain = self.to(torch.float32)
    return Pair(plain, torch.zeros_like(plain))


_FORMULAS: Final[dict[OpOverload, Callable[..., Any]]] = {
    aten.view_as_complex.default: lambda self: _pair(self),
    aten.view_as_real.default: lambda self: torch.stack([self.real, self.imag], -1),
    aten.view_as_real_copy.default: lambda self: torch.stack([self.real, self.imag], -1),
    aten.complex.default: Pair,
    aten.polar.default: _polar,
    aten.real.default: lambda self: self.real,
    aten.imag.default: lambda self: self.imag,
    aten.abs.default: _size,
    aten.angle.default: _angle,
    aten.exp.default: _exp,
    aten._conj.default: _conjugated,
    aten.conj.default: _conjugated,
    aten._conj_physical.default: _conjugated,
    aten.conj_physical.default: _conjugated,
    aten.add.Tensor: _sum,
    aten.add.Scalar: _sum,
    aten.sub.Tensor: _difference,
    aten.sub.Scalar: _difference,
    aten.rsub.Tensor: _reverse_difference,
    aten.rsub.Scalar: _reverse_difference,
    aten.mul.Tensor: _product,
    aten.mul.Scalar: _product,
    aten.div.Tensor: _quotient,
    aten.div.Scalar: _quotient,
    aten.reciprocal.default: lambda self: _quotient(Pair(1.0, 0.0), self),
    aten.square.default: lambda self: _product(self, self),
    aten.matmul.default: _matrix_product(aten.matmul.default),
    aten.mm.default: _matrix_product(aten.mm.default),
    aten.bmm.default: _matrix_product(aten.bmm.default),
    aten._to_copy.default: _cast,
    aten.to.dtype: _cast,
}
