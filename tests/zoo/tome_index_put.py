"""ToMe by advanced indexing alone: `x[batch, idx]` reads, `index_put_(accumulate=True)` merges; batch 3."""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


def merge(x: Tensor, metric: Tensor, r: int) -> Tensor:
    batch = torch.arange(x.shape[0]).unsqueeze(1)
    metric = metric / metric.norm(dim=-1, keepdim=True)
    scores = metric[:, ::2] @ metric[:, 1::2].mT
    best = scores.amax(dim=-1)
    partner = scores.argmax(dim=-1)
    order = best.argsort(dim=-1, descending=True)
    gone, kept = order[:, :r], order[:, r:]
    into = partner[batch, gone]
    src, dst = x[:, ::2], x[:, 1::2].contiguous().clone()
    dst.index_put_((batch, into), src[batch, gone], accumulate=True)
    count = torch.ones(dst.shape[:2])
    count.index_put_((batch, into), torch.ones(x.shape[0], r), accumulate=True)
    return torch.cat([src[batch, kept], dst / count.unsqueeze(-1)], dim=1)


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
    torch.manual_seed(5)
    return Vit().eval(), (torch.randn(3, 3, 32, 32),)
