"""The merge dialect: the operations that every way of merging tokens comes down to.

Rules raise what people write (argsort, gather with an expanded index, `scatter_reduce`, …) to these, and
lowerings turn them into whatever form runs best on a target. Each has a plain PyTorch implementation, so a raised
program still runs, and is what the emitted artifacts are compared with.

Letters: B batch (all leading dimensions, flattened), N rows that are chosen from, M rows that are written to,
K chosen rows, C channels (all trailing dimensions, flattened).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

REDUCTIONS: Final = ("set", "sum", "mean", "amax", "amin", "prod")


@torch.library.custom_op("tm_export::order", mutates_args=())
def order(keys_BN: Tensor, k: int, descending: bool) -> Tensor:
    """Indices [B, k] (int64) of the k first of `keys_BN` when sorted; equal keys keep their order."""
    return keys_BN.sort(dim=-1, descending=descending, stable=True).indices[:, :k].contiguous()


@order.register_fake
def _(keys_BN: Tensor, k: int, descending: bool) -> Tensor:
    return keys_BN.new_empty((keys_BN.shape[0], k), dtype=torch.int64)


@torch.library.custom_op("tm_export::best", mutates_args=())
def best(scores_BMN: Tensor, largest: bool) -> Tensor:
    """Index [B, M] (int64) of the largest (or smallest) of the N scores in each row; the first among equals."""
    return scores_BMN.argmax(dim=-1) if largest else scores_BMN.argmin(dim=-1)


@best.register_fake
def _(scores_BMN: Tensor, largest: bool) -> Tensor:
    return scores_BMN.new_empty(scores_BMN.shape[:-1], dtype=torch.int64)


@torch.library.custom_op("tm_export::gather_rows", mutates_args=())
def gather_rows(x_BNC: Tensor, index_BK: Tensor) -> Tensor:
    """Rows [B, K, C] of `x_BNC` at `index_BK` (int64, 0 ≤ index < N)."""
    return x_BNC.gather(1, index_BK.unsqueeze(-1).expand(-1, -1, x_BNC.shape[-1]))


@gather_rows.register_fake
def _(x_BNC: Tensor, index_BK: Tensor) -> Tensor:
    return x_BNC.new_empty((x_BNC.shape[0], index_BK.shape[1], x_BNC.shape[2]))


@torch.library.custom_op("tm_export::scatter_rows", mutates_args=())
def scatter_rows(base_BMC: Tensor, index_BK: Tensor, src_BKC: Tensor, reduce: str, include_base: bool) -> Tensor:
    """`base_BMC` after each row of `src_BKC` has been reduced into row `index_BK` of it.

    `reduce` is one of `REDUCTIONS`; "set" overwrites (indices must then be distinct). With `include_base`
    the base row takes part in the reduction, otherwise it is replaced wherever a row arrives. "mean" is the
    arithmetic mean of the rows that take part.
    """
    index_BKC = index_BK.unsqueeze(-1).expand(-1, -1, src_BKC.shape[-1])
    if reduce == "set":
        return base_BMC.scatter(1, index_BKC, src_BKC)
    return base_BMC.scatter_reduce(1, index_BKC, src_BKC, reduce, include_self=include_base)


@scatter_rows.register_fake
def _(base_BMC: Tensor, index_BK: Tensor, src_BKC: Tensor, reduce: str, include_base: bool) -> Tensor:
    return torch.empty_like(base_BMC, memory_format=torch.contiguous_format)


@torch.library.custom_op("tm_export::pair_mean", mutates_args=())
def pair_mean(x_BTC: Tensor) -> Tensor:
    """Means [B, T/2, C] of rows 2k and 2k+1 of `x_BTC`, T even: the merge of TDTM."""
    return (x_BTC[:, 0::2] + x_BTC[:, 1::2]) / 2


@pair_mean.register_fake
def _(x_BTC: Tensor) -> Tensor:
    return x_BTC.new_empty((x_BTC.shape[0], x_BTC.shape[1] // 2, x_BTC.shape[2]))


@torch.library.custom_op("tm_export::pair_repeat", mutates_args=())
def pair_repeat(x_BTC: Tensor) -> Tensor:
    """Each row of `x_BTC` twice in a row, [B, 2T, C]: the unmerge of TDTM."""
    return x_BTC.repeat_interleave(2, dim=1)


@pair_repeat.register_fake
def _(x_BTC: Tensor) -> Tensor:
    return x_BTC.new_empty((x_BTC.shape[0], x_BTC.shape[1] * 2, x_BTC.shape[2]))


ORDER: Final = torch.ops.tm_export.order.default
BEST: Final = torch.ops.tm_export.best.default
GATHER_ROWS: Final = torch.ops.tm_export.gather_rows.default
SCATTER_ROWS: Final = torch.ops.tm_export.scatter_rows.default
PAIR_MEAN: Final = torch.ops.tm_export.pair_mean.default
PAIR_REPEAT: Final = torch.ops.tm_export.pair_repeat.default

DECISIONS: Final = (ORDER, BEST)
"""The operations whose results are decisions: discontinuous functions of their inputs."""
