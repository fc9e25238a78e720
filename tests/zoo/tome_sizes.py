"""ToMe as the paper has it: sums weighted by size, sizes carried on, proportional attention; batch 3."""

import math

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


def merge(x: Tensor, metric: Tensor, r: int, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
    if size is None:
        size = torch.ones_like(x[..., :1])
    metric = torch.nn.functional.normalize(metric, dim=-1)
    a, b = metric[..., ::2, :], metric[..., 1::2, :]
    scores = torch.einsum("bid,bjd->bij", a, b)
    scores[..., 0, :] = -math.inf
    node_max, node_idx = scores.max(dim=-1)
    edge_idx = node_max.argsort(dim=-1, descending=True)[..., None]
    rest, gone = edge_idx[..., r:, :], edge_idx[..., :r, :]
    rest = rest.sort(dim=1)[0]
    into = torch.gather(node_idx[..., None], -2, gone)

    def total(values: Tensor) -> Tensor:
        width = values.shape[-1]
        src, dst = values[..., ::2, :], values[..., 1::2, :]
        moved = torch.gather(src, -2, gone.repeat(1, 1, width))
        dst = dst.scatter_reduce(-2, into.repeat(1, 1, width), moved, reduce="sum")
        return torch.cat([torch.gather(src, -2, rest.repeat(1, 1, width)), dst], dim=1)

    new_size = total(size)
    return total(x * size) / new_size, new_size


class Block(nn.Module):
    def __init__(self, dim: int, r: int) -> None:
        super().__init__()
        self.r = r
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, x: Tensor, size: Tensor | None) -> tuple[Tensor, Tensor]:
        mixed, keys = self.attn(self.norm1(x), size)
        x, size = merge(x + mixed, keys, self.r, size)
        return x + self.mlp(self.norm2(x)), size


class Vit(nn.Module):
    def __init__(self, dim: int = 48, depth: int = 3, r: int = 8) -> None:
        super().__init__()
        self.tokens = PatchTokens(dim, class_token=True)
        self.blocks = nn.ModuleList(Block(dim, r) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        x, size = self.tokens(images), None
        for block in self.blocks:
            x, size = block(x, size)
        return self.head(self.norm(x)[:, 0])


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(1)
    return Vit().eval(), (torch.randn(3, 3, 32, 32),)
