"""Pruning as in EViT (arXiv 2202.07800, section 3): the tokens that the class token attends to most stay, the
others become one token, their mean weighted by that attention; batch 3."""

import torch
from torch import Tensor, nn

from .layers import Mlp, PatchTokens


def prune(x: Tensor, cls_attention: Tensor, keep: int) -> Tensor:
    """x [B, 1+N, C], cls_attention [B, N] to [B, 1+keep+1, C]."""
    b, n, c = x.shape
    cls, patches = x[:, :1], x[:, 1:]
    _, idx = torch.topk(cls_attention, keep, dim=1, largest=True, sorted=True)
    attentive = torch.gather(patches, 1, idx.unsqueeze(-1).expand(-1, -1, c))
    every = torch.arange(n - 1).unsqueeze(0).expand(b, -1)
    left = torch.ones_like(cls_attention).scatter(1, idx, 0.0)
    rest = torch.argsort(left, dim=1, descending=True, stable=True)[:, : n - 1 - keep]
    rest = every.gather(1, rest)
    inattentive = torch.gather(patches, 1, rest.unsqueeze(-1).expand(-1, -1, c))
    weight = torch.gather(cls_attention, 1, rest)
    fused = (inattentive * weight.unsqueeze(-1)).sum(1, keepdim=True)
    return torch.cat([cls, attentive, fused / weight.sum(1)[:, None, None]], dim=1)


class Block(nn.Module):
    def __init__(self, dim: int, keep: int, heads: int = 4) -> None:
        super().__init__()
        self.keep, self.heads = keep, heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out, self.mlp = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(dim=-1)
        x = x + self.out((attention @ v).transpose(1, 2).reshape(b, n, c))
        x = prune(x, attention[:, :, 0, 1:].mean(1), self.keep)
        return x + self.mlp(self.norm2(x))


class EVit(nn.Module):
    def __init__(self, dim: int = 48, keeps: tuple[int, ...] = (44, 30)) -> None:
        super().__init__()
        self.tokens = PatchTokens(dim, class_token=True)
        self.blocks = nn.Sequential(*(Block(dim, keep) for keep in keeps))
        self.head = nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.tokens(images))[:, 0])


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(12)
    return EVit().eval(), (torch.randn(3, 3, 32, 32),)
