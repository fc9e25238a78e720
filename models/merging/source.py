"""Source tracking: which original tokens stand in each merged token.

Source: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023 (arXiv 2210.09461), appendix D. Not
needed to run a model; it is what a picture of the merged regions is drawn from.

Legend: B batch, N original tokens, n tokens now.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from tm_export.models.merging.bipartite import Match, merge


def initial_source(batch: int, num_tokens: int) -> Tensor:
    """Return the adjacency [B, N, N] before any merging: each token holds itself; float32."""
    return torch.eye(num_tokens).expand(batch, -1, -1)


def merge_source(source_BnN: Tensor, match: Match) -> Tensor:
    """Follow one merge: a merged token holds whatever its parts held."""
    return merge(source_BnN, match, reduce="amax")


def source_of(matches: Sequence[Match], batch: int, num_tokens: int) -> Tensor:
    """Follow all merges of a model: [B, n, N]."""
    return reduce(merge_source, matches, initial_source(batch, num_tokens))


def region_labels(source_BnN: Tensor) -> Tensor:
    """Return for each original token the position of the merged token that holds it: [B, N] int64."""
    return source_BnN.argmax(dim=1)
