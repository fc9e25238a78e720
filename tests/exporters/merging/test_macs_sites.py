"""Multiply-adds against formulas on paper, and what a merge site says that it saves against counting both ways."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.programs import program_of
from tests.zoo.layers import Attention, Mlp, PatchTokens
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.graph.macs import count_macs
from tm_export.exporters.merging.raise_merges import raise_merges

B, N, C, R = 2, 64, 32, 10


def merge(x: Tensor, r: int) -> Tensor:
    """ToMe on the tokens themselves."""
    c = x.shape[-1]
    a, b = x[:, ::2], x[:, 1::2]
    best, partner = (a @ b.mT).max(-1)
    order = best.argsort(-1, descending=True)[..., None]
    gone, kept = order[:, :r], order[:, r:]
    into = partner[..., None].gather(1, gone)
    b = b.scatter_reduce(1, into.expand(-1, -1, c), a.gather(1, gone.expand(-1, -1, c)), "mean")
    return torch.cat([a.gather(1, kept.expand(-1, -1, c)), b], 1)


class Vit(nn.Module):
    """Patches, perhaps one merge, then a block; the head reads the mean of all tokens."""

    def __init__(self, r: int) -> None:
        super().__init__()
        self.r = r
        self.tokens, self.head = PatchTokens(C), nn.Linear(C, 10)
        self.norm1, self.attn = nn.LayerNorm(C), Attention(C)
        self.norm2, self.mlp = nn.LayerNorm(C), Mlp(C)

    def forward(self, images: Tensor) -> Tensor:
        x = self.tokens(images)
        x = merge(x, self.r) if self.r else x
        x = x + self.attn(self.norm1(x))[0]
        x = x + self.mlp(self.norm2(x))
        return self.head(x.mean(1))


IMAGES = torch.randn(B, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def by_hand(tokens: int) -> int:
    patches = B * N * (3 * 4 * 4) * C
    projections = B * tokens * C * (3 * C + C)
    attention = 2 * B * tokens * tokens * C
    mlp = 2 * B * tokens * C * 2 * C
    return patches + projections + attention + mlp + B * C * 10


def test_a_vit_against_its_formula() -> None:
    assert count_macs(capture(Vit(0), (IMAGES,))) == by_hand(N)


def test_a_merging_vit_has_the_match_besides() -> None:
    match = B * (N // 2) ** 2 * C
    program = capture(Vit(R), (IMAGES,))
    assert count_macs(program) == by_hand(N - R) + match
    assert count_macs(raise_merges(program, 0).program) == count_macs(program)


def test_a_site_saves_the_difference_between_the_variants() -> None:
    merged = raise_merges(capture(Vit(R), (IMAGES,)), 0)
    (site,) = merged.sites
    assert (site.kind, site.tokens_before, site.tokens_after) == ("merge", N, N - R)
    match = B * (N // 2) ** 2 * C
    unmerged = count_macs(capture(Vit(0), (IMAGES,)))
    assert site.macs_saved == unmerged - (count_macs(merged.program) - match)


X, W = torch.randn(2, 6, 8), torch.randn(5, 8)
PRODUCTS = {
    "linear": (lambda x: F.linear(x, W), 2 * 6 * 8 * 5),
    "matmul": (lambda x: x @ x.mT, 2 * 6 * 6 * 8),
    "matmul with broadcasting": (lambda x: x @ W.T, 2 * 6 * 8 * 5),
    "matmul with a vector": (lambda x: x @ W[0], 2 * 6 * 8),
    "bmm": (lambda x: torch.bmm(x, x.mT), 2 * 6 * 6 * 8),
    "mm": (lambda x: torch.mm(x[0], W.T), 6 * 8 * 5),
    "addmm": (lambda x: torch.addmm(W[:, 0], x[0], W.T), 6 * 8 * 5),
    "baddbmm": (lambda x: torch.baddbmm(x[:, :, :6], x, x.mT), 2 * 6 * 6 * 8),
    "attention": (lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None]), 2 * 2 * 6 * 6 * 8),
    "attention to fewer": (lambda x: F.scaled_dot_product_attention(x, x[:, :3], x[:, :3]), 2 * 2 * 6 * 3 * 8),
    "convolution": (lambda x: F.conv1d(x, torch.ones(7, 6, 3)), 2 * 6 * 7 * 6 * 3),
    "convolution in groups": (lambda x: F.conv1d(x, torch.ones(6, 2, 3), padding=1, groups=3), 2 * 8 * 6 * 2 * 3),
    "none": (lambda x: x * 2 + x.softmax(-1), 0),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_each_product(name: str) -> None:
    function, expected = PRODUCTS[name]
    assert count_macs(program_of(function, X)) == expected
