"""Tokens averaged by k-means with a fixed number of clusters and rounds (Token Pooling, arXiv 2110.03860).

Three ways of averaging, one per class below, all of the same result.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Attention, Mlp, PatchTokens

CLUSTERS, ROUNDS = 16, 3


def assign(x: Tensor, centers: Tensor) -> Tensor:
    return torch.cdist(x, centers).argmin(dim=-1)


def average_by_scatter(x: Tensor, label: Tensor, centers: Tensor) -> Tensor:
    b, _, c = x.shape
    total = torch.zeros(b, CLUSTERS, c).scatter_add_(1, label[..., None].expand(-1, -1, c), x)
    count = torch.zeros(b, CLUSTERS).scatter_add_(1, label, torch.ones(label.shape))[..., None]
    return torch.where(count > 0, total / count.clamp(min=1), centers)


def average_by_index_add(x: Tensor, label: Tensor, centers: Tensor) -> Tensor:
    means = []
    for tokens, labels, old in zip(x, label, centers, strict=True):
        total = torch.zeros(CLUSTERS, tokens.shape[-1]).index_add_(0, labels, tokens)
        count = torch.zeros(CLUSTERS).index_add_(0, labels, torch.ones(len(labels)))[:, None]
        means.append(torch.where(count > 0, total / count.clamp(min=1), old))
    return torch.stack(means)


def average_by_one_hot(x: Tensor, label: Tensor, centers: Tensor) -> Tensor:
    member = F.one_hot(label, CLUSTERS).to(x.dtype)
    count = member.sum(1)[..., None]
    total = torch.einsum("bnk,bnc->bkc", member, x)
    return torch.where(count > 0, total / count.clamp(min=1), centers)


def cluster(x: Tensor, average) -> Tensor:
    centers = x[:, :: x.shape[1] // CLUSTERS]
    for _ in range(ROUNDS):
        centers = average(x, assign(x, centers), centers)
    return centers


class Pooler(nn.Module):
    def __init__(self, average, dim: int = 32) -> None:
        super().__init__()
        self.average = average
        self.tokens = PatchTokens(dim)
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        x = cluster(x + self.attn(self.norm1(x))[0], self.average)
        return x + self.mlp(self.norm2(x))


def _build(average) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(14)
    return Pooler(average).eval(), (torch.randn(2, 3, 32, 32),)


def build_scatter() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _build(average_by_scatter)


def build_index_add() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _build(average_by_index_add)


def build_one_hot() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _build(average_by_one_hot)
