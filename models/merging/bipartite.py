"""Bipartite soft matching: merge the most similar tokens of two alternating halves.

Source: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023 (arXiv 2210.09461), section 3 and
appendix D. The proportional attention that belongs to it is in `attention.py`, source tracking in
`source.py`.

Legend: B batch, N tokens before, n tokens after, R merged tokens (n = N − R), U unmerged tokens of half A,
C channels, K channels of the metric. Half A holds the tokens at even positions, half B those at odd ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Reduce = Literal["mean", "sum", "amax"]


@dataclass(frozen=True)
class Match:
    """The decision which tokens merge into which.

    Attributes:
        unmerged_BU: positions within half A of the tokens that stay; int64.
        source_BR: positions within half A of the tokens that merge, most similar first; int64.
        target_BR: position within half B that each source merges into; int64.
        num_tokens: N, the number of tokens before merging.
    """

    unmerged_BU: Tensor
    source_BR: Tensor
    target_BR: Tensor
    num_tokens: int

    @property
    def num_merged(self) -> int:
        """R, the number of tokens that merging removes."""
        return self.source_BR.shape[1]

    @property
    def num_tokens_after(self) -> int:
        """The number of tokens n = N − R after merging."""
        return self.num_tokens - self.num_merged


def match_bipartite(metric_BNK: Tensor, r: int, *, class_token: bool = False) -> Match:
    """Match the `r` tokens of half A that are most similar to a token of half B.

    Similarity is the cosine of the metric. Each token of half A proposes its best partner in half B; the
    `r` best proposals are accepted, so several sources may share a target. Equal scores are ordered by
    position.

    Args:
        metric_BNK: what similarity is computed from, usually the attention keys averaged over heads.
        r: how many tokens to remove; clamped to half of the tokens that are not protected.
        class_token: the first token is protected: it merges with nothing and stays first.

    Raises:
        ValueError: if r is negative.
    """
    if r < 0:
        raise ValueError(f"cannot merge r={r} tokens: r must be 0 or more")
    batch, num_tokens, _ = metric_BNK.shape
    r = min(r, (num_tokens - int(class_token)) // 2)
    if r == 0:
        nothing = torch.empty(batch, 0, dtype=torch.int64, device=metric_BNK.device)
        half_a = torch.arange((num_tokens + 1) // 2, device=metric_BNK.device).expand(batch, -1)
        return Match(half_a, nothing, nothing, num_tokens)

    metric_BNK = metric_BNK / metric_BNK.norm(dim=-1, keepdim=True)
    scores_BAb = metric_BNK[:, ::2] @ metric_BNK[:, 1::2].transpose(-2, -1)
    if class_token:
        scores_BAb[:, 0] = -math.inf

    best_score_BA, best_target_BA = scores_BAb.max(dim=-1)
    order_BA = best_score_BA.argsort(dim=-1, descending=True, stable=True)
    source_BR, unmerged_BU = order_BA[:, :r], order_BA[:, r:]
    if class_token:
        # The class token scores −inf and so comes last; by position it comes first, where models look for it.
        unmerged_BU = unmerged_BU.sort(dim=-1).values
    return Match(unmerged_BU, source_BR, best_target_BA.gather(1, source_BR), num_tokens)


def merge(x_BNC: Tensor, match: Match, reduce: Reduce = "mean") -> Tensor:
    """Merge each source of the match into its target.

    With `reduce="mean"` every token counts once; see `merge_weighted` for tokens that stand for several.

    Returns:
        [B, n, C]: the unmerged tokens of half A by descending score (with a class token: by position), then
        all of half B in order. Where the match merges nothing, `x_BNC` itself in its old order.
    """
    if match.num_merged == 0:
        return x_BNC
    a, b = x_BNC[:, ::2], x_BNC[:, 1::2]
    unmerged = a.gather(1, _over_channels(match.unmerged_BU, x_BNC))
    source = a.gather(1, _over_channels(match.source_BR, x_BNC))
    b = b.scatter_reduce(1, _over_channels(match.target_BR, x_BNC), source, reduce=reduce)
    return torch.cat([unmerged, b], dim=1)


def merge_weighted(x_BNC: Tensor, size_BN1: Tensor | None, match: Match) -> tuple[Tensor, Tensor | None]:
    """Merge to the mean weighted by how many original tokens each token stands for.

    The sums run in float32, since a group may hold hundreds of tokens.

    Args:
        x_BNC: the tokens.
        size_BN1: original tokens in each token, float32; None where nothing has been merged yet.
        match: from `match_bipartite`.

    Returns:
        The merged tokens [B, n, C] in the dtype of `x_BNC`, and their sizes [B, n, 1] in float32;
        where the match merges nothing, both arguments as they are.
    """
    if match.num_merged == 0:
        return x_BNC, size_BN1
    if size_BN1 is None:
        size_BN1 = torch.ones_like(x_BNC[..., :1], dtype=torch.float32)
    weighted_BnC = merge(x_BNC.float() * size_BN1, match, reduce="sum")
    size_Bn1 = merge(size_BN1, match, reduce="sum")
    return (weighted_BnC / size_Bn1).to(x_BNC.dtype), size_Bn1


def unmerge(x_BnC: Tensor, match: Match) -> Tensor:
    """Put each token back where it was, merged ones as a copy of what they were merged into.

    Returns:
        [B, N, C]: the inverse of `merge` for tokens that were not merged.
    """
    if match.num_merged == 0:
        return x_BnC
    num_unmerged = match.unmerged_BU.shape[1]
    unmerged, b = x_BnC[:, :num_unmerged], x_BnC[:, num_unmerged:]
    source = b.gather(1, _over_channels(match.target_BR, x_BnC))

    out = x_BnC.new_zeros(x_BnC.shape[0], match.num_tokens, x_BnC.shape[2])
    out[:, 1::2] = b
    out = out.scatter(1, _over_channels(2 * match.unmerged_BU, x_BnC), unmerged)
    return out.scatter(1, _over_channels(2 * match.source_BR, x_BnC), source)


def _over_channels(index_BM: Tensor, x_BNC: Tensor) -> Tensor:
    return index_BM.unsqueeze(-1).expand(-1, -1, x_BNC.shape[2])
