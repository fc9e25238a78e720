"""Lower the merge dialect: each site's operations become the ATen operators of the form chosen for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from tm_export.exporters.constants import constant_of
from tm_export.exporters.dialect import BEST, GATHER_ROWS, ORDER, PAIR_MEAN, PAIR_REPEAT, SCATTER_ROWS
from tm_export.exporters.lowering.form import Form
from tm_export.exporters.lowering.gather_form import GatherForm
from tm_export.exporters.lowering.moved_rows import Addition, MovedRows, side_by_side
from tm_export.exporters.lowering.pairs import lower_pair_mean
from tm_export.exporters.lowering.repeated import Repeated
from tm_export.exporters.lowering.selection import Selection, joined, of_index
from tm_export.exporters.retrace import Values, arguments, is_float, retrace, slice_of, value_of
from tm_export.exporters.simplify import simplified

aten = torch.ops.aten


class Chosen:
    """A selection in the shape that the graph gives it: the index tensor that it stands for, not yet computed."""

    def __init__(self, selection: Selection, batch: int, shape: Sequence[int], dtype: torch.dtype) -> None:
        assert math.prod(shape) == batch * selection.rows
        self.selection, self.batch, self.shape, self.dtype = selection, batch, tuple(shape), dtype

    def tensor(self) -> Tensor:
        """Compute the index after all, for an operator that knows nothing of selections."""
        return self.selection.index_BK.reshape(self.shape).to(self.dtype)

    def viewed(self, shape: Sequence[int]) -> Chosen:
        """The same in another shape."""
        return Chosen(self.selection, self.batch, shape, self.dtype)

    def row_dim(self) -> int | None:
        """The dimension that counts the chosen rows, if all other dimensions count the batch or have size 1."""
        for dim, size in enumerate(self.shape):
            if size == self.selection.rows and math.prod(self.shape[:dim]) == self.batch:
                return dim
        return None


def lower(program: ExportedProgram, form_of: Mapping[fx.Node, Form]) -> ExportedProgram:
    """Return the program with every node of the dialect lowered, in the form given for it (else by index)."""
    fallback = GatherForm()

    def translate(node: fx.Node, values: Values) -> Any:
        if node.op == "output":
            return tuple(_computed(value) for value in values(arguments(node)[0]))
        form = form_of.get(node, fallback)
        if node.target is ORDER:
            keys_BN, k, descending = values(arguments(node))
            selection = form.order(_float_keys(keys_BN), k, descending)
            return Chosen(selection, value_of(node).shape[0], value_of(node).shape, torch.int64)
        if node.target is BEST:
            scores_BMN, largest = values(arguments(node))
            selection = form.best(_computed(scores_BMN), largest)
            return Chosen(selection, value_of(node).shape[0], value_of(node).shape, torch.int64)
        if node.target is GATHER_ROWS:
            return _gather(node, values, form)
        if node.target is SCATTER_ROWS:
            return _scatter(node, values, form)
        if node.target is PAIR_MEAN:
            return lower_pair_mean(values(arguments(node)[0]))
        if node.target is PAIR_REPEAT:
            return Repeated(_computed(values(arguments(node)[0])), tuple(value_of(node).shape), 1)
        if any(isinstance(values(source), Repeated) for source in node.all_input_nodes):
            carried = _on_repeated(node, values)
            return carried if carried is not None else _on_tensors(node, values)
        if node.target is aten.cat.default and (rows := _side_by_side(node, values)):
            return rows
        if any(isinstance(values(source), Chosen | MovedRows) for source in node.all_input_nodes):
            chosen = isinstance(values(node.all_input_nodes[0]), Chosen)
            moved = _MOVES[node.target](node, values) if chosen and node.target in _MOVES else None
            return moved if moved is not None else _on_tensors(node, values)
        return simplified(node, _Computed(values))

    return retrace(program, translate)


class _Computed(Values):
    """The values, as tensors."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def __call__(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: _computed(self._values(node)))


def _computed(value: Any) -> Any:
    return value.tensor() if isinstance(value, Chosen | Repeated | MovedRows) else value


def _float_keys(keys: Any) -> Tensor:
    """Keys to sort by: an index that is sorted is compared by its numbers."""
    if isinstance(keys, Chosen):
        return keys.selection.position_BK
    assert isinstance(keys, Tensor)
    return keys if keys.is_floating_point() else keys.to(torch.float32)


def _on_tensors(node: fx.Node, values: Values) -> Any:
    assert callable(node.target)
    args, kwargs = _Computed(values)((arguments(node), node.kwargs))
    return node.target(*args, **kwargs)


def _as_selection(index: Any, candidates: int) -> Selection:
    return index.selection if isinstance(index, Chosen) else of_index(index, candidates)


def _gather(node: fx.Node, values: Values, form: Form) -> Any:
    """Rows of a float tensor by the form; rows of another selection by composing the two."""
    x_node, index_node = arguments(node)
    assert isinstance(x_node, fx.Node) and isinstance(index_node, fx.Node)
    if isinstance(form, GatherForm) and (strided := _strided(x_node, values)) is not None:
        whole, start, step = strided
        rows = _as_selection(values(index_node), value_of(x_node).shape[1]).index_BK * step
        rows = rows + start if start else rows
        return MovedRows(whole, of_index(rows, whole.shape[1]), form)
    x, index = values(x_node), values(index_node)
    batch, candidates = value_of(x_node).shape[:2]
    choice = _as_selection(index, candidates)
    constant = constant_of(x_node)
    if constant is not None and constant.dtype.kind == "i" and constant.shape[-1] == 1:
        known = of_index(x.reshape(batch, candidates), int(constant.max()) + 1)
        return Chosen(known.then(choice), batch, value_of(node).shape, x.dtype)
    if isinstance(x, Chosen) and x.selection.rows == candidates and x.batch == batch:
        return Chosen(x.selection.then(choice), batch, value_of(node).shape, x.dtype)
    x = _computed(x)
    if not x.is_floating_point() or constant_of(index_node) is not None:
        return GatherForm().gather(x, choice)
    return MovedRows(x, choice, form) if isinstance(form, GatherForm) else form.gather(x, choice)


def _strided(x_node: fx.Node, values: Values) -> tuple[Tensor, int, int] | None:
    """The tensor, start and step, where rows are gathered from every so-many-th row: an index can step itself."""
    if x_node.target is not aten.slice.Tensor or not is_float(x_node) or len(arguments(x_node)) < 5:
        return None
    source, dim, start, _, step = arguments(x_node)
    if dim != 1 or step == 1 or not isinstance(source, fx.Node) or value_of(source).dim() != 3:
        return None
    return _computed(values(source)), int(start or 0), int(step)


def _scatter(node: fx.Node, values: Values, form: Form) -> Tensor | MovedRows:
    base_node, index_node, src_node, reduce, include_base = arguments(node)
    assert isinstance(base_node, fx.Node)
    rows, src = value_of(base_node).shape[1], _computed(values(src_node))
    selection = _as_selection(values(index_node), rows)
    if selection.candidates != rows:
        selection = of_index(selection.index_BK, rows)
    base = values(base_node)
    if isinstance(form, GatherForm) and _only_put_beside(node):
        strided = _strided(base_node, values)
        moved = _every(*strided, form) if strided else base
        if isinstance(moved, MovedRows):
            return moved.plus(Addition(selection, src, reduce, include_base))
    base = _computed(base)
    if not base.is_floating_point():
        return GatherForm().scatter(base, selection, src, reduce, include_base)
    return form.scatter(base, selection, src, reduce, include_base)


def _every(x_BNC: Tensor, start: int, step: int, form: GatherForm) -> MovedRows:
    """Every so-many-th row, as rows to copy."""
    B, N, _ = x_BNC.shape
    return MovedRows(x_BNC, of_index(torch.arange(start, N, step).expand(B, -1), N), form)


def _only_put_beside(node: fx.Node) -> bool:
    return all(user.target is aten.cat.default for user in node.users)


def _side_by_side(node: fx.Node, values: Values) -> MovedRows | None:
    """Rows put beside other rows of the same tensor, which nobody reads by themselves."""
    nodes = arguments(node)[0]
    dim = (arguments(node)[1] if len(arguments(node)) > 1 else 0) % value_of(node).dim()
    parts = [values(part) for part in nodes]
    if dim != 1 or not all(isinstance(part, MovedRows) for part in parts):
        return None
    return side_by_side(parts) if all(len(part.users) == 1 for part in nodes) else None


def _view(node: fx.Node, values: Values) -> Chosen:
    chosen: Chosen = values(arguments(node)[0])
    return chosen.viewed(value_of(node).shape)


def _expand(node: fx.Node, values: Values) -> Chosen | None:
    chosen: Chosen = values(arguments(node)[0])
    shape = value_of(node).shape
    return chosen.viewed(shape) if math.prod(shape) == math.prod(chosen.shape) else None


def _slice(node: fx.Node, values: Values) -> Chosen | None:
    chosen: Chosen = values(arguments(node)[0])
    cut = slice_of(node)
    if cut.step != 1 or chosen.row_dim() != cut.dim:
        return None
    return Chosen(chosen.selection.cut(cut.start, cut.end), chosen.batch, value_of(node).shape, chosen.dtype)


def _cat(node: fx.Node, values: Values) -> Chosen | None:
    parts = values(arguments(node)[0])
    dim = (arguments(node)[1] if len(arguments(node)) > 1 else 0) % value_of(node).dim()
    if not all(isinstance(part, Chosen) and part.row_dim() == dim for part in parts):
        return None
    if len({(part.selection.candidates, part.batch) for part in parts}) > 1:
        return None
    selection = joined([part.selection for part in parts])
    return Chosen(selection, parts[0].batch, value_of(node).shape, parts[0].dtype)


def _on_repeated(node: fx.Node, values: Values) -> Repeated | Tensor | None:
    """Carry rows that stand for two through views and gates, up to the addition that ends them."""
    if node.target in _SAME_VIEW:
        return _repeated(values(arguments(node)[0])).viewed(value_of(node).shape)
    if node.target in (aten.mul.Tensor, aten.add.Tensor) and not node.kwargs:
        a, b = values(tuple(arguments(node)[:2]))
        repeated, other = (a, b) if isinstance(a, Repeated) else (b, a)
        if not isinstance(other, Tensor):
            return None
        return repeated.times(other) if node.target is aten.mul.Tensor else _repeated(repeated).plus(other)
    return None


def _repeated(value: Any) -> Repeated:
    assert isinstance(value, Repeated)
    return value


def _same(node: fx.Node, values: Values) -> Chosen:
    chosen: Chosen = values(arguments(node)[0])
    return chosen


_SAME_VIEW: Final = {
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.clone.default, aten.contiguous.default,
}  # fmt: skip

_MOVES: Final[Mapping[Any, Callable[[fx.Node, Values], Chosen | None]]] = {
    aten.view.default: _view,
    aten.reshape.default: _view,
    aten._unsafe_view.default: _view,
    aten.unsqueeze.default: _view,
    aten.squeeze.dim: _view,
    aten.squeeze.dims: _view,
    aten.squeeze.default: _view,
    aten.expand.default: _expand,
    aten.slice.Tensor: _slice,
    aten.cat.default: _cat,
    aten.clone.default: _same,
    aten.contiguous.default: _same,
    aten.alias.default: _same,
    aten.detach.default: _same,
}
