"""ToMe with `scatter_reduce("mean")`: argsort, expanded gathers, a class token kept out by in-place -inf."""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


def merge(x: Tensor, metric: Tensor, r: int) -> Tensor:
    c = x.shape[-1]
    with torch.no_grad():
        metric = metric / metric.norm(dim=-1, keepdim=True)
        scores = metric[:, ::2] @ metric[:, 1::2].transpose(-1, -2)
        scores[:, 0, :] = -torch.inf
        best, partner = scores.max(dim=-1)
        order = best.argsort(dim=-1, descending=True).unsqueeze(-1)
        merged, kept = order[:, :r], order[:, r:].sort(dim=1).values  # sorted: the class token stays first
        target = partner.unsqueeze(-1).gather(1, merged)
    src, dst = x[:, ::2], x[:, 1::2]
    moved = src.gather(1, merged.expand(-1, -1, c))
    dst = dst.scatter_reduce(1, target.expand(-1, -1, c), moved, reduce="mean")
    return torch.cat([src.gather(1, kept.expand(-1, -1, c)), dst], dim=1)


class Block(nn.Module):
    def __init__(self, dim: int, r: int) -> None:
        super().__init__()
        self.r = r
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        mixed, keys = self.attn(self.norm1(x))
        x = merge(x + mixed, keys, self.r)
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, dim: int = 48, depth: int = 3, r: int = 8) -> None:
        super().__init__()
        self.tokens = PatchTokens(dim, class_token=True)
        self.blocks = nn.ModuleList(Block(dim, r) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    return Vit().eval(), (torch.randn(1, 3, 32, 32),)
