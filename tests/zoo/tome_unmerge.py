"""A dense predictor: tokens merge for attention and are put back after it, as ToMe for diffusion does.

The way back writes into slices (`out[:, 1::2] = ...`) and scatters into a strided view.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


def matching(metric: Tensor, r: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    b, n, c = metric.shape
    metric = metric / metric.norm(dim=-1, keepdim=True)
    best, partner = (metric[:, ::2] @ metric[:, 1::2].mT).max(-1)
    order = best.argsort(-1, descending=True)[..., None]
    gone, kept = order[:, :r], order[:, r:]
    into = partner[..., None].gather(1, gone)

    def merge(x: Tensor) -> Tensor:
        src, dst = x[:, ::2], x[:, 1::2]
        moved = src.gather(1, gone.expand(b, r, c))
        dst = dst.scatter_reduce(1, into.expand(b, r, c), moved, reduce="mean")
        return torch.cat([src.gather(1, kept.expand(b, n // 2 - r, c)), dst], dim=1)

    def unmerge(x: Tensor) -> Tensor:
        rest, dst = x[:, : n // 2 - r], x[:, n // 2 - r :]
        out = torch.zeros(b, n, c)
        out[:, 1::2] = dst
        out.scatter_(1, 2 * kept.expand(b, n // 2 - r, c), rest)
        out.scatter_(1, 2 * gone.expand(b, r, c), dst.gather(1, into.expand(b, r, c)))
        return out

    return merge, unmerge


class Block(nn.Module):
    def __init__(self, dim: int, r: int) -> None:
        super().__init__()
        self.r = r
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        merge, unmerge = matching(x, self.r)
        x = x + unmerge(self.attn(merge(self.norm1(x)))[0])
        return x + self.mlp(self.norm2(x))


class Segmenter(nn.Module):
    def __init__(self, dim: int = 32, depth: int = 2, r: int = 20) -> None:
        super().__init__()
        self.tokens = PatchTokens(dim)
        self.blocks = nn.Sequential(*(Block(dim, r) for _ in range(depth)))
        self.head = nn.Linear(dim, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.head(self.blocks(self.tokens(images)))
        return x.transpose(1, 2).unflatten(2, (8, 8))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(9)
    return Segmenter().eval(), (torch.randn(1, 3, 32, 32),)
