"""Frame-wise merging as in VidToMe (arXiv 2312.10656, section 3.2).

Within each chunk of frames one frame, drawn at random, is the target; tokens of the other frames merge into
it before attention and are put back after it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp

FRAMES, CHUNK, TOKENS = 8, 4, 32


def chunk_matching(
    x: Tensor, target: Tensor, ratio: float
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """x [B, F*N, C]; `target` [1] is the frame whose tokens stay."""
    b, length, _ = x.shape
    positions = torch.arange(length).view(-1, TOKENS)
    frame = torch.arange(length // TOKENS)
    dst_pos = positions[target].reshape(1, -1, 1)
    src_pos = positions[torch.argsort((frame == target).to(torch.int64), stable=True)[:-1]].reshape(1, -1, 1)
    r = int(src_pos.shape[1] * ratio)

    def split(t: Tensor) -> tuple[Tensor, Tensor]:
        c = t.shape[-1]
        return t.gather(1, src_pos.expand(b, -1, c)), t.gather(1, dst_pos.expand(b, -1, c))

    src, dst = split(x / x.norm(dim=-1, keepdim=True))
    best, partner = (src @ dst.transpose(1, 2)).max(dim=-1)
    order = best.argsort(dim=-1, descending=True)[..., None]
    kept, gone = order[:, r:], order[:, :r]
    into = partner[..., None].gather(1, gone)

    def merge(t: Tensor) -> Tensor:
        c = t.shape[-1]
        src, dst = split(t)
        moved = src.gather(1, gone.expand(-1, -1, c))
        dst = dst.scatter_reduce(1, into.expand(-1, -1, c), moved, reduce="mean")
        return torch.cat([src.gather(1, kept.expand(-1, -1, c)), dst], dim=1)

    def unmerge(t: Tensor) -> Tensor:
        c = t.shape[-1]
        rest, dst = t[:, : kept.shape[1]], t[:, kept.shape[1] :]
        out = torch.zeros(b, length, c)
        out.scatter_(1, dst_pos.expand(b, -1, c), dst)
        where_src = src_pos.expand(b, -1, 1)
        out.scatter_(1, where_src.gather(1, kept).expand(-1, -1, c), rest)
        out.scatter_(1, where_src.gather(1, gone).expand(-1, -1, c), dst.gather(1, into.expand(-1, -1, c)))
        return out

    return merge, unmerge


class Block(nn.Module):
    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        f, n, c = x.shape
        chunks = self.norm1(x).reshape(f // CHUNK, CHUNK * n, c)
        target = torch.randint(CHUNK, (1,))
        merge, unmerge = chunk_matching(chunks, target, self.ratio)
        x = x + unmerge(self.attn(merge(chunks))[0]).reshape(f, n, c)
        return x + self.mlp(self.norm2(x))


class VideoModel(nn.Module):
    def __init__(self, dim: int = 32, depth: int = 2, ratio: float = 0.6) -> None:
        super().__init__()
        self.embed = nn.Linear(8, dim)
        self.blocks = nn.Sequential(*(Block(dim, ratio) for _ in range(depth)))
        self.head = nn.Linear(dim, 8)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(video)))


def build() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(11)
    scene, motion = torch.randn(1, TOKENS, 8), torch.randn(FRAMES, TOKENS, 8)
    return VideoModel().eval(), (scene + 0.3 * motion,)
