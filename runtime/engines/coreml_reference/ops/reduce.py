"""Reductions, and what orders or accumulates along an axis."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tm_export.runtime.engines.coreml_reference.ops.table import Operation, Table


def _over_axes(reduce: Callable[[Tensor, list[int], bool], Tensor]) -> Operation:
    """A MIL reduction over `axes` (default: all) from a torch one over a list of dimensions."""

    def operation(x: Tensor, keep_dims: Tensor, axes: Tensor | None = None) -> Tensor:
        dims = list(range(x.ndim)) if axes is None else axes.tolist()
        return reduce(x, dims, bool(keep_dims))

    return operation


def _prod(x: Tensor, dims: list[int], keep: bool) -> Tensor:
    for dim in sorted((d % x.ndim for d in dims), reverse=True):
        x = torch.prod(x, dim, keepdim=keep)
    return x


def _mean(x: Tensor, dims: list[int], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, dims, keep)
    return torch.mean(x.double(), dims, keep)


def _arg(find: Callable[..., Tensor]) -> Operation:
    """Among equal values the first index wins, as in torch and NumPy."""

    def operation(x: Tensor, axis: Tensor, keep_dims: Tensor, output_dtype: str = "int32") -> Tensor:
        return find(x, dim=int(axis), keepdim=bool(keep_dims))

    return operation


def _cumsum(x: Tensor, axis: Tensor, exclusive: Tensor, reverse: Tensor) -> Tensor:
    dim = int(axis)
    total = x.flip(dim) if reverse else x
    total = torch.cumsum(total, dim)
    if exclusive:
        total = total.roll(1, dim)
        total.select(dim, 0).zero_()
    return total.flip(dim) if reverse else total


def _topk(
    x: Tensor,
    k: Tensor,
    axis: Tensor,
    ascending: Tensor,
    sort: Tensor | None = None,
    return_indices: Tensor | None = None,
    output_indices_dtype: str = "int32",
) -> Tensor | tuple[Tensor, Tensor]:
    # Core ML leaves the order of equal values open (and all order, if sort is false): here the lower index
    # comes first.
    values, indices = torch.sort(x, dim=int(axis), descending=not ascending, stable=True)
    values = values.narrow(int(axis), 0, int(k))
    if return_indices is not None and not return_indices:
        return values
    return values, indices.narrow(int(axis), 0, int(k))


def _argsort(x: Tensor, axis: Tensor, ascending: Tensor) -> Tensor:
    return torch.sort(x, dim=int(axis), descending=not ascending, stable=True).indices


TABLE: Table = {
    "reduce_l1_norm": _over_axes(lambda x, dims, keep: torch.sum(x.abs(), dims, keep)),
    "reduce_l2_norm": _over_axes(lambda x, dims, keep: torch.sqrt(torch.sum(x * x, dims, keep))),
    "reduce_log_sum": _over_axes(lambda x, dims, keep: torch.log(torch.sum(x, dims, keep))),
    "reduce_log_sum_exp": _over_axes(lambda x, dims, keep: torch.logsumexp(x, dims, keep)),
    "reduce_max": _over_axes(lambda x, dims, keep: torch.amax(x, dims, keep)),
    "reduce_mean": _over_axes(_mean),
    "reduce_min": _over_axes(lambda x, dims, keep: torch.amin(x, dims, keep)),
    "reduce_prod": _over_axes(_prod),
    "reduce_sum": _over_axes(lambda x, dims, keep: torch.sum(x, dims, keep)),
    "reduce_sum_square": _over_axes(lambda x, dims, keep: torch.sum(x * x, dims, keep)),
    "reduce_argmax": _arg(torch.argmax),
    "reduce_argmin": _arg(torch.argmin),
    "argsort": _argsort,
    "cumsum": _cumsum,
    "topk": _topk,
}
