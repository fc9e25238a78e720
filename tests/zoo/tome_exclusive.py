"""`scatter_reduce("mean", include_self=False)`: a token that is merged into takes the mean of its guests."""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


def merge(x: Tensor, metric: Tensor, r: int) -> Tensor:
    b, n, c = x.shape
    metric = metric / metric.norm(dim=-1, keepdim=True)
    scores = metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)
    best, partner = scores.max(-1)
    order = best.argsort(-1, descending=True)
    gone, kept = order.split([r, n // 2 - r], dim=1)
    into = partner.gather(1, gone)
    src, dst = x[:, ::2], x[:, 1::2]
    moved = src.gather(1, gone[..., None].expand(b, r, c))
    dst = torch.scatter_reduce(dst, 1, into[..., None].expand(b, r, c), moved, "mean", include_self=False)
    return torch.cat([src.gather(1, kept[..., None].expand(b, n // 2 - r, c)), dst], 1)


class Vit(nn.Module):
    def __init__(self, dim: int = 32, r: int = 10) -> None:
        super().__init__()
        self.r = r
        self.tokens = PatchTokens(dim)
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        mixed, keys = self.attn(self.norm1(x))
        x = merge(x + mixed, keys, self.r)
        return x + self.mlp(self.norm2(x))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(3)
    return Vit().eval(), (torch.randn(1, 3, 32, 32),)
