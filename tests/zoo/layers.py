"""What all the zoo's transformers share and nothing of merging: patches, attention, MLP."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchTokens(nn.Module):
    """Images [B, 3, H, W] to tokens [B, N, C], with learned positions and perhaps a class token in front."""

    def __init__(self, dim: int, image: int = 32, patch: int = 4, class_token: bool = False) -> None:
        super().__init__()
        self.project = nn.Conv2d(3, dim, patch, patch)
        self.cls = nn.Parameter(torch.randn(1, 1, dim) * 0.5) if class_token else None
        self.position = nn.Parameter(torch.randn(1, (image // patch) ** 2 + class_token, dim) * 0.5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.project(images).flatten(2).transpose(1, 2)
        if self.cls is not None:
            tokens = torch.cat([self.cls.expand(images.shape[0], -1, -1), tokens], dim=1)
        return tokens + self.position


class Attention(nn.Module):
    """Self-attention; returns the keys averaged over heads beside its result, as ToMe matches on them."""

    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        bias = None if size is None else size.log()[:, None, None, :, 0]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).reshape(b, n, c)), k.mean(1)


class Mlp(nn.Sequential):
    def __init__(self, dim: int) -> None:
        super().__init__(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
