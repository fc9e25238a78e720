"""ToMe keeping the larger of what meets: in-place `scatter_reduce_("amax")`, `take_along_dim`; batch 3."""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


def merge(x: Tensor, metric: Tensor, r: int) -> Tensor:
    metric = metric / metric.norm(dim=2, keepdim=True)
    similarity = torch.bmm(metric[:, 0::2], metric[:, 1::2].mT)
    best, partner = torch.max(similarity, 2)
    order = torch.argsort(best, dim=1, descending=True)
    into = torch.take_along_dim(partner, order[:, :r], dim=1)
    src, dst = x[:, 0::2], x[:, 1::2].clone()
    moved = torch.take_along_dim(src, order[:, :r, None], dim=1)
    dst.scatter_reduce_(1, into[:, :, None].expand_as(moved), moved, reduce="amax")
    return torch.cat((torch.take_along_dim(src, order[:, r:, None], dim=1), dst), 1)


class Vit(nn.Module):
    def __init__(self, dim: int = 32, depth: int = 2, r: int = 12) -> None:
        super().__init__()
        self.r = r
        self.tokens = PatchTokens(dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 * depth + 1))
        self.attns = nn.ModuleList(Attention(dim) for _ in range(depth))
        self.mlps = nn.ModuleList(Mlp(dim) for _ in range(depth))

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        for i, (attn, mlp) in enumerate(zip(self.attns, self.mlps, strict=True)):
            mixed, keys = attn(self.norms[2 * i](x))
            x = merge(x + mixed, keys, self.r)
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.norms[-1](x).mean(1)


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(2)
    return Vit().eval(), (torch.randn(3, 3, 32, 32),)
