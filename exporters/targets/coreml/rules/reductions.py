"""Reductions and running sums in the forms that coremltools reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, fx

from tm_export.exporters.graph.arguments import bound_arguments, from_front
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.written_out import WrittenOut

aten = torch.ops.aten


def _halved(x: Tensor, dim: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """All of a dimension combined, by its halves: as deep as its length has bits."""
    while (size := x.shape[dim]) > 1:
        half = size // 2
        paired = combine(x.narrow(dim, 0, half), x.narrow(dim, half, half))
        x = torch.cat([paired, x.narrow(dim, 2 * half, 1)], dim) if size % 2 else paired
    return x


def _product(x: Tensor, dim: int | None, keepdim: bool, dtype: torch.dtype | None) -> Tensor:
    is_whole = not x.is_floating_point()
    x = x.to(dtype or (torch.int64 if is_whole else x.dtype))
    if dim is None:
        x, dim = x.reshape(-1), 0
    if x.dim() == 0:
        return x
    made = _halved(x, from_front(dim, x.dim()), torch.mul)
    return made if keepdim else made.squeeze(dim)


def _product_of_all(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    return _product(x, None, False, dtype)


PRODUCTS: Final = WrittenOut(
    "coreml::products",
    {
        aten.prod.default: _product_of_all,
        aten.prod.dim_int: _product,
    },
)
"""Products, which coremltools' front end lacks."""


def _log_softmax(x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
    centred = x.to(dtype or x.dtype) - x.amax(dim, keepdim=True)
    return centred - torch.log(torch.exp(centred).sum(dim, keepdim=True))


def _plain_log_softmax(x: Tensor, dim: int, _half_to_float: bool) -> Tensor:
    return _log_softmax(x, dim, None)


LOG_SOFTMAX: Final = WrittenOut(
    "coreml::log_softmax",
    {aten.log_softmax.int: _log_softmax, aten._log_softmax.default: _plain_log_softmax},
    unless=lambda node: "" if value_of(node).dim() else "a single number",
)
"""coremltools takes the logarithm of a softmax, which is 0 where it is small."""


def _running_sum(x: Tensor, dim: int, dtype: torch.dtype | None) -> Tensor:
    dtype = dtype or (x.dtype if x.is_floating_point() else torch.int64)
    x = x.to(dtype)
    return x if x.dim() == 0 else torch.cumsum(x, from_front(dim, x.dim()))


def _is_read(node: fx.Node) -> str:
    """Whether coremltools reads a running sum: along a dimension counted from the front or the last, of numbers."""
    given = bound_arguments(node)
    x = value_of(given["self"])
    same = x.dtype == value_of(node).dtype and x.dim() > 0
    return "is read as it is" if same and given["dim"] >= -1 else ""


RUNNING_SUMS: Final = WrittenOut("coreml::running_sums", {aten.cumsum.default: _running_sum}, unless=_is_read)
"""Running sums along any dimension, of truth values too."""


def _best_of_all(of: Callable[..., Tensor]) -> Callable[[Tensor, int | None, bool], Tensor]:
    def best(x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
        if dim is None or x.dim() == 0:
            found = of(x.reshape(-1), 0)
            return found.reshape([1] * x.dim()) if keepdim else found
        return of(x.to(torch.int32), dim, keepdim)

    return best


def _is_numbers_along_one(node: fx.Node) -> str:
    given = bound_arguments(node)
    x = value_of(given["self"])
    return "numbers, along a dimension" if given["dim"] is not None and x.dtype != torch.bool and x.dim() else ""


BEST_OF_ALL: Final = WrittenOut(
    "coreml::best_of_all",
    {aten.argmax.default: _best_of_all(torch.argmax), aten.argmin.default: _best_of_all(torch.argmin)},
    unless=_is_numbers_along_one,
)
"""The best of all entries: coremltools takes it along the last dimension."""


def _spread_of_all(of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def spread(x: Tensor, dim: list[int] | None, correction: float | None, keepdim: bool) -> Tensor:
        explicit = 1 if correction is None else correction
        if dim:
            return of(x, dim, correction=explicit, keepdim=keepdim)
        made = of(x.reshape(-1), [0], correction=explicit)
        return made.reshape([1] * x.dim()) if keepdim else made

    return spread


def _unbiased_or_not(of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, unbiased: of(x.reshape(-1), [0], correction=int(unbiased))


def _is_along_dimensions(node: fx.Node) -> str:
    given = bound_arguments(node)
    return "along dimensions, corrected as is said" if given.get("dim") and given["correction"] is not None else ""


SPREADS_OF_ALL: Final = WrittenOut(
    "coreml::spreads_of_all",
    {
        aten.var.correction: _spread_of_all(torch.var),
        aten.std.correction: _spread_of_all(torch.std),
        aten.var.default: _unbiased_or_not(torch.var),
        aten.std.default: _unbiased_or_not(torch.std),
    },
    unless=_is_along_dimensions,
)
"""The spread of all entries: coremltools forgets a correction that is not written."""
