"""Density-peaks clustering of tokens by k nearest neighbours (TCFormer, arXiv 2204.08680, section 3.2)."""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


def cluster(x: Tensor, clusters: int, k: int = 5) -> tuple[Tensor, Tensor]:
    """x [B, N, C] to the cluster of each token [B, N] and the clusters' center tokens [B, clusters]."""
    b = x.shape[0]
    distance = torch.cdist(x, x) / x.shape[-1] ** 0.5
    nearest = torch.topk(distance, k, dim=-1, largest=False).values
    density = (-(nearest**2).mean(-1)).exp()
    denser = density[:, None, :] > density[:, :, None]
    farthest = distance.flatten(1).max(-1).values[:, None, None]
    separation = torch.where(denser, distance, farthest).min(-1).values
    center = torch.topk(separation * density, clusters, dim=-1).indices
    to_center = torch.gather(distance, 1, center[..., None].expand(-1, -1, x.shape[1]))
    label = to_center.argmin(1)
    label.scatter_(1, center, torch.arange(clusters).expand(b, -1))
    return label, center


def merge(x: Tensor, label: Tensor, clusters: int, weight: Tensor) -> Tensor:
    """Mean of each cluster's tokens, weighted by exp(weight) [B, N, 1]."""
    b, n, c = x.shape
    flat = (label + torch.arange(b)[:, None] * clusters).reshape(b * n)
    weight = weight.exp()
    total = weight.new_zeros(b * clusters, 1).index_add_(0, flat, weight.reshape(b * n, 1)) + 1e-6
    share = weight / total[flat].reshape(b, n, 1)
    merged = x.new_zeros(b * clusters, c)
    merged.index_add_(dim=0, index=flat, source=(x * share).reshape(b * n, c))
    return merged.reshape(b, clusters, c)


class ClusterFormer(nn.Module):
    def __init__(self, dim: int = 32, clusters: int = 16) -> None:
        super().__init__()
        self.clusters = clusters
        self.tokens, self.score = PatchTokens(dim), nn.Linear(dim, 1)
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        x = x + self.attn(self.norm1(x))[0]
        label, _ = cluster(x, self.clusters)
        x = merge(x, label, self.clusters, self.score(x))
        x = x + self.mlp(self.norm2(x))
        batch = torch.arange(x.shape[0])[:, None]
        return x[batch, label]  # every patch takes its cluster's token back


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(15)
    return ClusterFormer().eval(), (torch.randn(2, 3, 32, 32),)
