"""The running product, which neither ONNX nor ExecuTorch has."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, fx

from tm_export.exporters.arguments import bound_arguments, from_front
from tm_export.exporters.retrace import Values, value_of
from tm_export.exporters.rules.base import No, Rule

aten = torch.ops.aten


class ProductByDoubling(Rule[None]):
    """Replaces cumprod by log₂ N products (Hillis & Steele, "Data parallel algorithms", CACM 1986).

    Before::

        y = cumprod(x [..., N], -1)

    After, for s = 1, 2, 4, … < N, beginning with y = x::

        y = y · concat(1 [..., s], y[..., : N − s])
    """

    name: ClassVar[str] = "running_product::by_doubling"
    pattern = frozenset({aten.cumprod.default})

    def check(self, node: fx.Node) -> No | None:
        """Of more than one number."""
        return None if value_of(node).dim() else No("a scalar")

    def rewrite(self, node: fx.Node, match: None, values: Values) -> Any:
        """Each entry is multiplied with the product of those before it, twice as many in each step."""
        given = bound_arguments(node)
        product: Tensor = values(given["self"]).to(value_of(node).dtype)
        dim = from_front(given["dim"], product.dim())
        size, step = product.shape[dim], 1
        while step < size:
            ones = torch.ones([step if d == dim else n for d, n in enumerate(product.shape)], dtype=product.dtype)
            product = product * torch.cat([ones, product.narrow(dim, 0, size - step)], dim)
            step *= 2
        return product
