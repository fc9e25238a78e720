"""Merge sites: what is one, how many tokens it has before and after, and what all of them save together."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.programs import program_of
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.graph.macs import count_macs
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.merging.sites import Site
from tm_export.models.spec.registry import find_model

X = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(0))


def sites_of(function, *inputs: Tensor) -> list[tuple[str, int, int]]:  # type: ignore[no-untyped-def]
    raised = raise_merges(program_of(function, *inputs), 0)
    return [(site.kind, site.tokens_before, site.tokens_after) for site in raised.sites]


def chosen(x: Tensor, scores: Tensor, k: int) -> Tensor:
    index = scores.topk(k, dim=1).indices
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


W = torch.randn(96, 32, generator=torch.Generator().manual_seed(1))


def fused_qkv(x: Tensor) -> Tensor:
    """All three of a fused projection, pruned by the norm of the keys."""
    q, k, v = (x @ W.T).reshape(2, 64, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
    index = k.norm(dim=-1).mean(1).topk(20, dim=1).indices
    index = index[:, None, :, None].expand(-1, 4, -1, 8)
    return F.scaled_dot_product_attention(q, k.gather(2, index), v.gather(2, index))


def score_matrix(x: Tensor) -> Tensor:
    """Rows of the scores move with the tokens that they are of."""
    scores = x @ x.transpose(1, 2)
    index = scores.mean(-1).topk(16, dim=1).indices
    return scores.gather(1, index[..., None].expand(-1, -1, 64)).softmax(-1) @ x


def halves(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return torch.cat([chosen(first, first.mean(-1), 8), second], 1)


def image_before_text(x: Tensor) -> Tensor:
    """The first 40 of 64 tokens are an image's, of which 10 stay."""
    return torch.cat([chosen(x[:, :40], x[:, :40].norm(dim=-1), 10), x[:, 40:]], 1)


def three_times(x: Tensor) -> Tensor:
    for k in (48, 36, 27):
        x = chosen(x, x.mean(-1), k).relu()
    return x


def assigned(x: Tensor) -> Tensor:
    """Each token to the most similar of every fourth, by a product, and back."""
    place = F.one_hot((x @ x[:, ::4].transpose(1, 2)).argmax(-1), 16).to(x.dtype)
    merged = place.transpose(1, 2) @ x / place.sum(1)[..., None].clamp(min=1)
    return place @ merged.relu()


def weighed(x: Tensor) -> Tensor:
    """Each token in parts to every fourth, by how similar it is, and back: ToMA's merging."""
    normed = F.normalize(x, dim=-1)
    weights = (normed[:, ::4] @ normed.transpose(1, 2) * 10).softmax(1)
    weights = weights / weights.sum(-1, keepdim=True)
    return weights.transpose(1, 2) @ (weights @ x).relu()


def averaged(x: Tensor) -> Tensor:
    """Each token in parts to means of four."""
    return torch.einsum("bmn,bnc->bmc", (x.unflatten(1, (16, 4)).mean(2) @ x.mT).softmax(-1), x)


def pairs_weighed(x: Tensor) -> Tensor:
    """Each pair by a softmax of its two scores."""
    a, b = x[:, ::2], x[:, 1::2]
    weights = torch.stack([a.mean(-1), b.mean(-1)], -1).softmax(-1)
    return weights[..., :1] * a + weights[..., 1:] * b


def groups_weighed(x: Tensor) -> Tensor:
    """Each four by a softmax of their scores."""
    groups = x.unflatten(1, (16, 4))
    return (groups.mean(-1).softmax(2).unsqueeze(-1) * groups).sum(2)


def learned(x: Tensor) -> Tensor:
    """TokenLearner: eight tokens, each a mean with weights that two layers make of every token."""
    weights = F.linear(F.linear(x, W[:32]).relu(), W[:8])
    return weights.transpose(1, 2).softmax(-1) @ x


def straight_through(x: Tensor) -> Tensor:
    """GroupViT: a hard assignment with the gradient of a soft one."""
    soft = (torch.arange(256.0).reshape(8, 32).sin() @ x.mT).softmax(1)
    hard = F.one_hot(soft.argmax(1), 8).to(x.dtype).mT
    place = hard - soft.detach() + soft
    return place @ x / place.sum(-1, keepdim=True)


MERGING = {
    "fused qkv": (fused_qkv, [("prune", 64, 20)]),
    "score matrix": (score_matrix, [("prune", 64, 16)]),
    "halves": (halves, [("prune", 64, 40)]),
    "image before text": (image_before_text, [("prune", 64, 34)]),
    "three times": (three_times, [("prune", 64, 48), ("prune", 48, 36), ("prune", 36, 27)]),
    "by weights": (weighed, [("merge", 64, 16), ("unmerge", 16, 64)]),
    "by means": (averaged, [("merge", 64, 16)]),
    "pairs by weights": (pairs_weighed, [("merge", 64, 32)]),
    "groups by weights": (groups_weighed, [("merge", 64, 16)]),
    "by learned weights": (learned, [("merge", 64, 8)]),
    "straight through": (straight_through, [("merge", 64, 8)]),
    "by products": (assigned, [("merge", 64, 16), ("unmerge", 16, 64)]),
}


@pytest.mark.parametrize("name", MERGING)
def test_tokens_are_those_of_the_stream(name: str) -> None:
    function, expected = MERGING[name]
    assert sites_of(function, X) == expected


class Stem(nn.Module):
    """A convolution and a norm of several outputs, then pruning."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.score = nn.Conv2d(3, 16, 4, 4), nn.BatchNorm2d(16), nn.Linear(16, 1)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.norm(self.conv(images)).flatten(2).transpose(1, 2)
        return chosen(tokens, self.score(tokens)[..., 0], 24)


def test_the_origin_of_tokens_behind_an_operator_of_several_outputs() -> None:
    (site,) = raise_merges(capture(Stem(), (torch.randn(1, 3, 32, 32),)), 0).sites
    assert (site.kind, site.tokens_before, site.tokens_after) == ("prune", 64, 24)


ROWS, AT = torch.randn(1, 12, 8), torch.tensor([3])
KEEPING = {
    "a table": (lambda x, at: x[:, at], (ROWS, AT)),
    "the last position of a text": (
        lambda x, ids: x[torch.arange(1), ids.argmax(-1)],
        (ROWS, torch.tensor([[1, 5, 9]])),
    ),
    "a cache that is written": (lambda cache, at: cache.index_copy(1, at, cache[:, :1] * 2), (ROWS, AT)),
    "grouped heads": (
        lambda kv, q: F.scaled_dot_product_attention(q, kv.repeat_interleave(2, dim=1), kv.repeat_interleave(2, dim=1)),
        (torch.randn(1, 2, 12, 8), torch.randn(1, 4, 1, 8)),
    ),
    "linear attention": (
        lambda x, w: (x @ w).softmax(-1) @ ((x @ w.T).softmax(1).mT @ (x @ w)),
        (ROWS, torch.randn(8, 8)),
    ),
    "gated channels": (lambda x, w: F.linear(x.mean(1), w).sigmoid()[:, None] * x, (ROWS, torch.randn(8, 8))),
    "rotary positions": (lambda x, w: w * x[..., ::2] + w * x[..., 1::2], (ROWS, torch.randn(4))),
    "a residual": (lambda x, w: x * w + x[:, ::1] * 2, (ROWS, torch.randn(8))),
    "attention to fewer": (
        lambda x, w: ((x @ w) @ (x[:, ::2] @ w).mT).softmax(-1) @ (x[:, ::2] @ w.T),
        (ROWS, torch.randn(8, 8)),
    ),
    "attention": (lambda x, q: (q @ x.transpose(1, 2)).softmax(-1) @ x, (ROWS, torch.randn(1, 4, 8))),
}


@pytest.mark.parametrize("name", KEEPING)
def test_what_merges_nothing_is_no_site(name: str) -> None:
    function, inputs = KEEPING[name]
    assert sites_of(function, *inputs) == []


def test_a_cache_that_evicts_is_pruned_in_each_head() -> None:
    def evict(cache: Tensor) -> Tensor:
        index = cache.norm(dim=-1).topk(6, dim=2).indices
        return cache.gather(2, index[..., None].expand(-1, -1, -1, 8))

    assert sites_of(evict, torch.randn(1, 2, 12, 8)) == [("prune", 12, 6)]


# Savings: all sites together save what the program without merging takes more.


def counted(model: str, component: str, variant: str) -> tuple[int, tuple[Site, ...]]:
    spec = next(each for each in find_model(model).components if each.name == component)
    inputs = spec.own_inputs.get(variant, spec.example_inputs)(0)
    raised = raise_merges(capture(spec.variants[variant](), inputs), 0)
    return count_macs(raised.program), raised.sites


def test_pair_merges_save_what_the_full_variant_takes_more() -> None:
    (full, none), (merged, sites) = (counted("ondevice-sora-tiny", "denoiser", each) for each in ("full", "merged"))
    assert none == () and len(sites) > 2
    assert merged + sum(site.macs_saved for site in sites) == full


def test_the_merges_of_a_tower_save_what_the_full_variant_takes_more_but_for_the_match() -> None:
    (full, _), (merged, sites) = (counted("tinychart-tiny", "vision_tower", each) for each in ("full", "merged"))
    batch, channels = 1, 32  # of the keys that are matched, by head averaged
    tokens = [site.tokens_before for site in sites]
    match = merged + sum(site.macs_saved for site in sites) - full
    pairs = sum((n // 2) * (n - n // 2) for n in tokens)
    assert match % (batch * pairs) == 0 and match // (batch * pairs) <= 8 * channels


class Layers(nn.Module):
    """Two blocks, before each of which tokens may be pruned."""

    def __init__(self, keeps: tuple[int, int]) -> None:
        super().__init__()
        self.keeps = keeps
        self.qkv = nn.ModuleList(nn.Linear(32, 96) for _ in keeps)
        self.mlp = nn.ModuleList(nn.Linear(32, 32) for _ in keeps)

    def forward(self, x: Tensor) -> Tensor:
        for keep, qkv, mlp in zip(self.keeps, self.qkv, self.mlp, strict=True):
            x = chosen(x, x.mean(-1), keep) if keep else x
            q, k, v = qkv(x).reshape(x.shape[0], -1, 3, 4, 8).permute(2, 0, 3, 1, 4)
            mixed = ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
            x = mlp(x + mixed) + x
        return x


def test_each_site_saves_what_is_left_by_those_before_it() -> None:
    full, first, both = (raise_merges(capture(Layers(keeps), (X,)), 0) for keeps in ((0, 0), (40, 0), (40, 10)))
    macs = [count_macs(each.program) for each in (full, first, both)]
    assert [site.macs_saved for site in first.sites] == [macs[0] - macs[1]]
    assert [site.macs_saved for site in both.sites] == [macs[0] - macs[1], macs[1] - macs[2]]


def test_a_side_is_counted_once_for_what_it_is_and_not_for_its_size() -> None:
    """Channels that are as many as the tokens that stay, or a multiple of them, save nothing."""

    def forward(x: Tensor) -> Tensor:
        kept = chosen(x, x.mean(-1), 32)
        return kept @ torch.ones(32, 64)

    (site,) = raise_merges(program_of(forward, X), 0).sites
    assert site.macs_saved == 2 * (64 - 32) * 32 * 64
