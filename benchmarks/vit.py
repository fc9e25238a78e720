"""A plain ViT (Dosovitskiy et al., arXiv 2010.11929) that merges tokens with ToMe, as people write one.

With `cut=True` it drops the last tokens instead, which costs nothing: no way of merging can be faster.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tm_export.models.merging.attention import proportional_attention
from tm_export.models.merging.bipartite import match_bipartite, merge_weighted


class Layer(nn.Module):
    def __init__(self, channels: int, heads: int, r: int, cut: bool) -> None:
        super().__init__()
        self.heads, self.r, self.cut = heads, r, cut
        self.norm1, self.norm2 = nn.LayerNorm(channels, 1e-6), nn.LayerNorm(channels, 1e-6)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x_BNC: Tensor, size_BN1: Tensor | None) -> tuple[Tensor, Tensor | None]:
        B, N, C = x_BNC.shape
        qkv = self.qkv(self.norm1(x_BNC)).reshape(B, N, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = proportional_attention(q, k, v, size_BN1)
        x_BNC = x_BNC + self.proj(mixed)
        if self.cut:
            x_BNC = x_BNC[:, : N - min(self.r, (N - 1) // 2)]
        elif self.r:
            match = match_bipartite(k.mean(1), self.r, class_token=True)
            x_BNC, size_BN1 = merge_weighted(x_BNC, size_BN1, match)
        return x_BNC + self.mlp(self.norm2(x_BNC)), size_BN1


class ViT(nn.Module):
    def __init__(
        self,
        channels: int,
        depth: int,
        heads: int,
        r: int,
        *,
        cut: bool = False,
        patch: int = 16,
        pixels: int = 224,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, patch, patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, channels))
        self.position = nn.Parameter(torch.randn(1, (pixels // patch) ** 2 + 1, channels))
        self.layers = nn.ModuleList(Layer(channels, heads, r, cut) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(channels, 1e-6), nn.Linear(channels, 1000)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        x_BNC = self.patches(images_BCHW).flatten(2).transpose(1, 2)
        x_BNC = torch.cat([self.class_token.expand(len(x_BNC), -1, -1), x_BNC], 1) + self.position
        size_BN1 = None
        for layer in self.layers:
            x_BNC, size_BN1 = layer(x_BNC, size_BN1)
        return self.head(self.norm(x_BNC[:, 0]))
