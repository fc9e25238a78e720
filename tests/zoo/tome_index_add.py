"""ToMe with the batch folded into the rows: flat indices, `index_select` and `index_add_`; batch 3."""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


def merge(x: Tensor, metric: Tensor, r: int) -> Tensor:
    b, n, c = x.shape
    half = n // 2
    metric = metric / metric.norm(dim=-1, keepdim=True)
    best, partner = (metric[:, ::2] @ metric[:, 1::2].mT).max(-1)
    order = best.argsort(-1, descending=True)
    first_row = torch.arange(b)[:, None] * half
    gone = (order[:, :r] + first_row).flatten()
    kept = (order[:, r:] + first_row).flatten()
    into = (partner + first_row).flatten()[gone]
    src, dst = x[:, ::2].reshape(b * half, c), x[:, 1::2].reshape(b * half, c)
    total = dst.index_add(0, into, src.index_select(0, gone))
    count = torch.ones(b * half).index_add_(0, into, torch.ones(b * r))
    mean = total / count[:, None]
    return torch.cat([src.index_select(0, kept).view(b, half - r, c), mean.view(b, half, c)], dim=1)


class Vit(nn.Module):
    def __init__(self, dim: int = 32, r: int = 16) -> None:
        super().__init__()
        self.r = r
        self.tokens = PatchTokens(dim)
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)
        self.norm3, self.attn2 = nn.LayerNorm(dim), Attention(dim)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        mixed, keys = self.attn(self.norm1(x))
        x = merge(x + mixed, keys, self.r)
        x = x + self.mlp(self.norm2(x))
        return (x + self.attn2(self.norm3(x))[0]).mean(1)


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(6)
    return Vit().eval(), (torch.randn(3, 3, 32, 32),)
