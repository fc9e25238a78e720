"""Neighbouring frames averaged before attention and repeated after it, as TDTM does (arXiv 2502.04363)."""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, S, C]: frames and their tokens."""
        b, t, s, c = x.shape
        normed = self.norm1(x)
        merged = (normed[:, 0::2] + normed[:, 1::2]) / 2
        mixed = self.attn(merged.reshape(b, t // 2 * s, c))[0].view(b, t // 2, s, c)
        x = x + torch.repeat_interleave(mixed, 2, dim=1)
        return x + self.mlp(self.norm2(x))


class TokenBlock(Block):
    """The same over pairs of tokens within each frame, undone by stack and flatten."""

    def forward(self, x: Tensor) -> Tensor:
        b, t, s, c = x.shape
        normed = self.norm1(x).reshape(b * t, s, c)
        merged = torch.stack([normed[:, ::2], normed[:, 1::2]], dim=2).mean(2)
        mixed = self.attn(merged)[0]
        x = x + torch.stack([mixed, mixed], dim=2).flatten(1, 2).view(b, t, s, c)
        return x + self.mlp(self.norm2(x))


class VideoModel(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, dim)
        self.blocks = nn.Sequential(Block(dim), TokenBlock(dim))
        self.head = nn.Linear(dim, 8)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(video)))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(19)
    return VideoModel().eval(), (torch.randn(2, 6, 16, 8),)
