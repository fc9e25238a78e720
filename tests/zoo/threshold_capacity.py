"""Merging by a threshold, made static: every pair above it merges, up to a stated capacity.

The result always has N - capacity + spare slots. A token that is not similar enough to merge is kept in a
spare slot; spare slots that nothing needs are masked out of attention and of the final mean.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Mlp, PatchTokens


def merge(x: Tensor, threshold: float, capacity: int, spare: int) -> tuple[Tensor, Tensor]:
    """x [B, N, C] to tokens [B, N - capacity + spare, C] and a mask of the slots in use.

    Of the `capacity` most similar pairs those above `threshold` merge. The first `spare` tokens that do not
    are kept in the spare slots; any further ones merge all the same, for want of room.
    """
    c = x.shape[-1]
    unit = F.normalize(x, dim=-1)
    best, partner = (unit[:, ::2] @ unit[:, 1::2].mT).max(-1)
    score, gone = best.topk(capacity, dim=1)
    kept = best.topk(best.shape[1] - capacity, dim=1, largest=False)[1]
    similar = score > threshold
    nth_refused = torch.cumsum(~similar, dim=1)
    refused = ~similar & (nth_refused <= spare)
    src, dst = x[:, ::2], x[:, 1::2]
    moved = src.gather(1, gone[..., None].expand(-1, -1, c))
    into = partner.gather(1, gone)
    weight = torch.where(refused, 0.0, 1.0)
    total = dst.scatter_add(1, into[..., None].expand(-1, -1, c), moved * weight[..., None])
    count = torch.ones_like(best).scatter_add(1, into, weight)
    slot = torch.where(refused, nth_refused - 1, spare)
    spares = torch.zeros(x.shape[0], spare + 1, c)  # one more, for what needs no slot
    spares = spares.scatter_(1, slot[..., None].expand(-1, -1, c), moved)[:, :spare]
    rest = src.gather(1, kept[..., None].expand(-1, -1, c))
    used = torch.arange(spare) < refused.sum(1, keepdim=True)
    tokens = torch.cat([rest, total / count[..., None], spares.masked_fill(~used[..., None], 0.0)], dim=1)
    return tokens, F.pad(used, (rest.shape[1] + dst.shape[1], 0), value=True)


class Vit(nn.Module):
    def __init__(self, dim: int = 32, threshold: float = 0.39, heads: int = 4) -> None:
        super().__init__()
        self.threshold, self.heads = threshold, heads
        self.tokens = PatchTokens(dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out, self.mlp = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), Mlp(dim)

    def forward(self, images: Tensor) -> Tensor:
        x, mask = merge(self.tokens(images), self.threshold, capacity=24, spare=16)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, c))
        x = x + self.mlp(self.norm2(x))
        return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(13)
    return Vit().eval(), (torch.randn(3, 3, 32, 32),)
