"""Masks that do not depend on the input, made in forward: a checkerboard and a random half, `x[:, mask]`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Attention, Mlp, PatchTokens


def merge_checkerboard(x: Tensor, side: int) -> Tensor:
    """Each white square is averaged into the most similar black one."""
    row = torch.arange(side)[:, None]
    black = ((row + torch.arange(side)) % 2 == 0).flatten()
    dst, src = x[:, black], x[:, ~black]
    partner = (F.normalize(src, dim=-1) @ F.normalize(dst, dim=-1).mT).argmax(-1, keepdim=True)
    return dst.scatter_reduce(1, partner.expand_as(src), src, reduce="mean")


class Checkerboard(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.tokens = PatchTokens(dim)
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        x = merge_checkerboard(x + self.attn(self.norm1(x))[0], side=8)
        return x + self.mlp(self.norm2(x))


class RandomHalf(nn.Module):
    """About half of the tokens, drawn by `torch.rand`, go through the block; the others pass it by."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.tokens = PatchTokens(dim)
        self.norm, self.attn = nn.LayerNorm(dim), Attention(dim)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        mask = torch.rand(x.shape[1]) > 0.5
        chosen = x[:, mask]
        out = x.clone()
        out[:, mask] = chosen + self.attn(self.norm(chosen))[0]
        return out


class RandomKeep(nn.Module):
    """A fixed number of tokens, drawn by `torch.randperm` (PatchDropout, arXiv 2208.07220)."""

    def __init__(self, dim: int = 32, keep: int = 24) -> None:
        super().__init__()
        self.keep = keep
        self.tokens = PatchTokens(dim)
        self.norm, self.attn = nn.LayerNorm(dim), Attention(dim)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        chosen = torch.randperm(x.shape[1])[: self.keep].sort().values
        x = x[:, chosen]
        return x + self.attn(self.norm(x))[0]


def build_checkerboard() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(16)
    return Checkerboard().eval(), (torch.randn(2, 3, 32, 32),)


def build_random_half() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(17)
    return RandomHalf().eval(), (torch.randn(1, 3, 32, 32),)


def build_random_keep() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(18)
    return RandomKeep().eval(), (torch.randn(1, 3, 32, 32),)
