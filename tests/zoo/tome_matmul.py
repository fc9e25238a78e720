"""ToMe as a matrix: `one_hot` of each token's new place, averaged by matmul; the class token is split off."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Attention, Mlp, PatchTokens


def merge(x: Tensor, metric: Tensor, r: int) -> Tensor:
    cls, x = x[:, :1], x[:, 1:]
    metric = F.normalize(metric[:, 1:], dim=-1)
    half = x.shape[1] // 2
    best, partner = (metric[:, ::2] @ metric[:, 1::2].mT).max(-1)
    order = best.argsort(-1, descending=True)
    into = partner.gather(1, order[:, :r])
    place = torch.eye(half).expand(x.shape[0], half, half)
    move_DR = F.one_hot(into, half).to(x.dtype).transpose(1, 2) @ place.gather(
        1, order[:, :r, None].expand(-1, -1, half)
    )
    keep_KS = F.one_hot(order[:, r:], half).to(x.dtype)
    dst = (x[:, 1::2] + move_DR @ x[:, ::2]) / (1 + move_DR.sum(-1, keepdim=True))
    return torch.cat([cls, keep_KS @ x[:, ::2], dst], dim=1)


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
    def __init__(self, dim: int = 32, depth: int = 2, r: int = 8) -> None:
        super().__init__()
        self.tokens = PatchTokens(dim, class_token=True)
        self.blocks = nn.Sequential(*(Block(dim, r) for _ in range(depth)))
        self.head = nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.tokens(images))[:, 0])


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(7)
    return Vit().eval(), (torch.randn(1, 3, 32, 32),)
