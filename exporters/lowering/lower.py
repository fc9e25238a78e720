"""Lower the merge dialect: each site's operations become the ATen operators of the form chosen for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.export import ExportedProgram

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.bounds import bounds_of, exact_range
from tm_export.exporters.graph.constants import constant_of
from tm_export.exporters.graph.dialect import BEST, GATHER_ROWS, ORDER, PAIR_MEAN, PAIR_REPEAT, SCATTER_ROWS
from tm_export.exporters.graph.nodes import SliceOf, arguments, is_float, slice_of, value_of
from tm_export.exporters.graph.retrace import Values, retrace
from tm_export.exporters.graph.simplify import simplified
from tm_export.exporters.lowering.distinct import is_distinct
from tm_export.exporters.lowering.form import Form
from tm_export.exporters.lowering.gather_form import GatherForm
from tm_export.exporters.lowering.infinities import possibly_infinite
from tm_export.exporters.lowering.moved_rows import Addition, MovedRows, side_by_side
from tm_export.exporters.lowering.pairs import lower_pair_mean
from tm_export.exporters.lowering.repeated import Repeated
from tm_export.exporters.lowering.selection import Selection, joined, of_index
from tm_export.exporters.lowering.whole import best_whole, order_whole
from tm_export.exporters.merging.raising.uniform import narrow

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

    def fits(self, batch: int, rows: int, candidates: int) -> bool:
        """Whether the index, taken as [batch, rows] of so many candidates, is the selection as it was made."""
        return (self.batch, self.selection.rows, self.selection.candidates) == (batch, rows, candidates)

    def row_dim(self) -> int | None:
        """The dimension that counts the chosen rows, if all other dimensions count the batch or have size 1."""
        for dim, size in enumerate(self.shape):
            if size == self.selection.rows and math.prod(self.shape[:dim]) == self.batch:
                return dim
        return None


def lower(program: ExportedProgram, form_of: Mapping[fx.Node, Form]) -> ExportedProgram:
    """Return the program with every node of the dialect lowered, in the form given for it (else by index)."""
    fallback = GatherForm()
    infinite = possibly_infinite(program.graph)

    def translate(node: fx.Node, values: Values) -> Any:
        if node.op == "output":
            return tuple(_computed(value) for value in values(arguments(node)[0]))
        form = form_of.get(node, fallback)
        if node.target is ORDER:
            selection = _order(node, values, form)
            return Chosen(selection, value_of(node).shape[0], value_of(node).shape, torch.int64)
        if node.target is BEST:
            selection = _best(node, values, form)
            return Chosen(selection, value_of(node).shape[0], value_of(node).shape, torch.int64)
        if node.target is GATHER_ROWS:
            return _gather(node, values, fallback if arguments(node)[0] in infinite else form)
        if node.target is SCATTER_ROWS:
            is_infinite = not infinite.isdisjoint(node.all_input_nodes)
            return _scatter(node, values, fallback if is_infinite else form)
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


def _order(node: fx.Node, values: Values, form: Form) -> Selection:
    given = bound_arguments(node)
    keys = values(given["keys_BN"])
    if isinstance(keys, Chosen):
        keys = keys.selection.index_BK if keys.selection.has_index else keys.selection.position_BK
    bounds = bounds_of(given["keys_BN"])
    if bounds is None:
        return form.order(keys, given["k"], given["descending"])
    repeats = not is_distinct(given["keys_BN"], keys.shape[0])
    return order_whole(form, keys, bounds, given["k"], given["descending"], repeats=repeats)


def _best(node: fx.Node, values: Values, form: Form) -> Selection:
    given = bound_arguments(node)
    scores_BMN = _computed(values(given["scores_BMN"]))
    bounds = bounds_of(given["scores_BMN"])
    if bounds is None:
        return form.best(scores_BMN, given["largest"])
    return best_whole(form, scores_BMN, bounds, given["largest"])


def _on_tensors(node: fx.Node, values: Values) -> Any:
    assert callable(node.target)
    args, kwargs = _Computed(values)((arguments(node), node.kwargs))
    return node.target(*args, **kwargs)


def _selection(index: fx.Node, values: Values, candidates: int) -> Selection:
    """The selection that an index [B, K] of candidates is: the decision's own, if it was made over these."""
    batch, rows = value_of(index).shape
    chosen = values(index)
    if isinstance(chosen, Chosen) and chosen.fits(batch, rows, candidates):
        return chosen.selection
    return of_index(_computed(chosen), candidates)


def _gather(node: fx.Node, values: Values, form: Form) -> Any:
    """Rows of a float tensor by the form; rows of another selection by composing the two."""
    x_node, index_node = arguments(node)
    assert isinstance(x_node, fx.Node) and isinstance(index_node, fx.Node)
    batch, candidates = value_of(x_node).shape[:2]
    choice = _selection(index_node, values, candidates)
    if isinstance(form, GatherForm) and (cut := _strided(x_node)) is not None:
        rows = choice.index_BK * cut.step
        rows = rows + cut.start if cut.start else rows
        whole = _computed(values(cut.source))
        return MovedRows(whole, of_index(rows, whole.shape[1]), form)
    x = values(x_node)
    constant = constant_of(x_node)
    if constant is not None and _is_index_table(constant):
        known = of_index(x.reshape(batch, candidates), int(constant.max()) + 1)
        return Chosen(known.then(choice), batch, value_of(node).shape, x.dtype)
    if isinstance(x, Chosen) and value_of(x_node).shape[2] == 1 and x.selection.rows == candidates and x.batch == batch:
        return Chosen(x.selection.then(choice), batch, value_of(node).shape, x.dtype)
    x = _computed(x)
    if not x.is_floating_point() or constant_of(index_node) is not None:
        return GatherForm().gather(x, choice)
    return MovedRows(x, choice, form) if isinstance(form, GatherForm) else form.gather(x, choice)


def _is_index_table(constant: NDArray[Any]) -> bool:
    """Whether rows of a constant can be taken for choices: numbers of rows, that a float holds."""
    is_column = constant.dtype.kind == "i" and constant.shape[-1] == 1 and constant.size > 0
    return is_column and constant.min() >= 0 and int(constant.max()) < exact_range(torch.float32)[1]


def _strided(x_node: fx.Node) -> SliceOf | None:
    """The slice, where rows are gathered from every so-many-th row: an index can step itself."""
    if x_node.target is not aten.slice.Tensor or not is_float(x_node):
        return None
    cut = slice_of(x_node)
    return cut if cut.dim == 1 and cut.step != 1 and value_of(x_node).dim() == 3 else None


def _scatter(node: fx.Node, values: Values, form: Form) -> Tensor | MovedRows:
    given = bound_arguments(node)
    base_node, include_base = given["base_BMC"], given["include_base"]
    if not value_of(given["src_BKC"]).numel():
        untouched: Tensor = _computed(values(base_node))
        return untouched  # nothing arrives
    rows = value_of(base_node).shape[1]
    selection = _selection(given["index_BK"], values, rows)
    base, src = values(base_node), _computed(values(given["src_BKC"]))
    reduce = given["reduce"]
    if reduce == "set" and not _is_one_write(given["index_BK"], given["src_BKC"], form):
        reduce = "last"
    if isinstance(form, GatherForm) and _only_put_beside(node):
        cut = _strided(base_node)
        moved = _every(_computed(values(cut.source)), cut, form) if cut else base
        if isinstance(moved, MovedRows):
            return moved.plus(Addition(selection, src, reduce, include_base))
    base = _computed(base)
    if not base.is_floating_point():
        return GatherForm().scatter(base, selection, src, reduce, include_base)
    return form.scatter(base, selection, src, reduce, include_base)


def _is_one_write(index: fx.Node, src: fx.Node, form: Form) -> bool:
    """Whether it does not matter which of the rows that are written to one place stays: there is one, or all are alike.

    A product would sum rows that are alike.
    """
    batch = value_of(index).shape[0]
    return is_distinct(index, batch) or (isinstance(form, GatherForm) and narrow(src, 1) is not None)


def _every(x_BNC: Tensor, cut: SliceOf, form: GatherForm) -> MovedRows:
    """The rows of a slice, as rows to copy."""
    B, N, _ = x_BNC.shape
    return MovedRows(x_BNC, of_index(torch.arange(cut.start, cut.end, cut.step).expand(B, -1), N), form)


def _only_put_beside(node: fx.Node) -> bool:
    return all(user.target is aten.cat.default for user in node.users)


def _side_by_side(node: fx.Node, values: Values) -> MovedRows | None:
    """Rows put beside other rows of the same tensor, which nobody reads by themselves."""
    given = bound_arguments(node)
    nodes, dim = given["tensors"], from_front(given["dim"], value_of(node).dim())
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
    given = bound_arguments(node)
    parts, dim = values(given["tensors"]), from_front(given["dim"], value_of(node).dim())
    if not all(isinstance(part, Chosen) and part.row_dim() == dim for part in parts):
        return None
    if len({(part.selection.candidates, part.batch) for part in parts}) > 1:
        return None
    selection = joined([part.selection for part in parts])
    return Chosen(selection, parts[0].batch, value_of(node).shape, value_of(node).dtype)


def _on_repeated(node: fx.Node, values: Values) -> Repeated | Tensor | None:
    """Carry rows that stand for two through views and gates, up to the addition that ends them."""
    if node.target in _SAME_VIEW:
        return _repeated(values(arguments(node)[0])).viewed(value_of(node).shape)
    if node.target in (aten.mul.Tensor, aten.add.Tensor):
        given = bound_arguments(node)
        if given.get("alpha", 1) != 1:
            return None
        a, b = values((given["self"], given["other"]))
        repeated, other = (a, b) if isinstance(a, Repeated) else (b, a)
        if not isinstance(other, Tensor):
            return None
        return repeated.times(other) if node.target is aten.mul.Tensor else _repeated(repeated).plus(other)
    return None


def _repeated(value: Any) -> Repeated:
    assert isinstance(value, Repeated)
    return value


def _cast(node: fx.Node, values: Values) -> Chosen | None:
    """An index in another dtype of integers that holds it."""
    chosen: Chosen = values(arguments(node)[0])
    dtype = value_of(node).dtype
    if dtype not in (torch.int32, torch.int64):
        return None
    return Chosen(chosen.selection, chosen.batch, chosen.shape, dtype)


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
    aten.to.dtype: _cast,
    aten._to_copy.default: _cast,
    aten.clone.default: _same,
    aten.contiguous.default: _same,
    aten.alias.default: _same,
    aten.detach.default: _same,
}
