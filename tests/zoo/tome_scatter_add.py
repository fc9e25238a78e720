"""ToMe by `topk` and `scatter_add_` with counts; the rest is kept by a mask over positions, not by order."""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


def merge(x: Tensor, metric: Tensor, r: int) -> Tensor:
    b, n, c = x.shape
    half = n // 2
    metric = metric / metric.norm(dim=-1, keepdim=True)
    best, partner = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(dim=-1)
    gone = torch.topk(best, r, dim=1).indices
    kept = torch.topk(best, half - r, dim=1, largest=False).indices
    into = torch.gather(partner, 1, gone)
    batch_idx = torch.arange(b)[:, None]
    src, dst = x[:, ::2], x[:, 1::2].clone()
    moved = src[batch_idx, gone]
    dst.scatter_add_(1, into[:, :, None].expand(-1, -1, c), moved)
    count = torch.ones(b, half)
    count.scatter_add_(1, into, torch.ones(b, r))
    return torch.cat([src[batch_idx, kept], dst / count[..., None]], dim=1)


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
    def __init__(self, dim: int = 48, depth: int = 2, r: int = 10) -> None:
        super().__init__()
        self.tokens = PatchTokens(dim)
        self.blocks = nn.Sequential(*(Block(dim, r) for _ in range(depth)))
        self.head = nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.tokens(images)).mean(1))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(4)
    return Vit().eval(), (torch.randn(3, 3, 32, 32),)
