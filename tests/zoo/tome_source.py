"""ToMe that tracks which patches each token stands for (`amax` of one-hot rows); returns the map beside x."""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, PatchTokens


class Merge:
    """One match, applied to several tensors."""

    def __init__(self, metric: Tensor, r: int) -> None:
        metric = metric / metric.norm(dim=-1, keepdim=True)
        best, partner = (metric[:, ::2] @ metric[:, 1::2].mT).max(-1, keepdim=True)
        _, order = torch.sort(best, dim=1, descending=True, stable=True)
        self.gone, self.kept = order[:, :r], order[:, r:]
        self.into = torch.gather(partner, 1, self.gone)

    def __call__(self, x: Tensor, mode: str) -> Tensor:
        c = x.shape[-1]
        src, dst = x[:, ::2], x[:, 1::2]
        moved = torch.gather(src, 1, self.gone.expand(-1, -1, c))
        dst = dst.scatter_reduce(1, self.into.expand(-1, -1, c), moved, reduce=mode)
        return torch.cat([torch.gather(src, 1, self.kept.expand(-1, -1, c)), dst], dim=1)


class Vit(nn.Module):
    def __init__(self, dim: int = 32, depth: int = 2, r: int = 12) -> None:
        super().__init__()
        self.r = r
        self.tokens = PatchTokens(dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 * depth))
        self.attns = nn.ModuleList(Attention(dim) for _ in range(depth))
        self.mlps = nn.ModuleList(Mlp(dim) for _ in range(depth))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.tokens(images)
        source = torch.eye(x.shape[1])[None].expand(x.shape[0], -1, -1)
        for i, (attn, mlp) in enumerate(zip(self.attns, self.mlps, strict=True)):
            mixed, keys = attn(self.norms[2 * i](x))
            merge = Merge(keys, self.r)
            x, source = merge(x + mixed, "mean"), merge(source, "amax")
            x = x + mlp(self.norms[2 * i + 1](x))
        return x, source


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(8)
    return Vit().eval(), (torch.randn(1, 3, 32, 32),)
