"""The zoo against loops over single tokens: what other tests export must itself be right."""

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from . import (
    RANDOM,
    REFUSED,
    ZOO,
    boolean_split,
    dpc_knn,
    kmeans,
    pair_mean,
    pooled_kv,
    prune_topk,
    threshold_capacity,
    tome_amax,
    tome_exclusive,
    tome_index_add,
    tome_index_put,
    tome_matmul,
    tome_mean,
    tome_scatter_add,
    tome_sizes,
    tome_source,
    tome_unmerge,
    vidtome,
)

B, N, C, D, R = 2, 20, 6, 5, 4


def tokens(n: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(B, n, C, generator=generator), torch.randn(B, n, D, generator=generator)


def match_by_loops(metric_ND: Tensor, r: int, protect_first: bool) -> tuple[list[int], dict[int, list[int]]]:
    """Even tokens that stay, most similar first, and for each odd token the even ones that merge into it."""
    best: dict[int, tuple[float, int]] = {}
    for even in range(0, len(metric_ND), 2):
        similarity = {
            odd: float(torch.cosine_similarity(metric_ND[even], metric_ND[odd], dim=0))
            for odd in range(1, len(metric_ND), 2)
        }
        partner = max(similarity, key=similarity.__getitem__)
        best[even] = (similarity[partner] - (10 if protect_first and even == 0 else 0), partner)
    order = sorted(best, key=lambda even: -best[even][0])
    groups: dict[int, list[int]] = {odd: [] for odd in range(1, len(metric_ND), 2)}
    for even in order[:r]:
        groups[best[even][1]].append(even)
    return order[r:], groups


def merge_by_loops(x, metric, r: int, reduce, order: str, protect_first: bool = False) -> Tensor:
    """`reduce(own token, its guests)` is what an odd token becomes; `order` is that of the even ones kept."""
    result = []
    for x_NC, metric_ND in zip(x, metric, strict=True):
        kept, groups = match_by_loops(metric_ND, r, protect_first)
        kept = {"descending": kept, "ascending": kept[::-1], "position": sorted(kept)}[order]
        merged = [reduce(x_NC[odd], [x_NC[even] for even in guests]) for odd, guests in groups.items()]
        result.append(torch.stack([x_NC[even] for even in kept] + merged))
    return torch.stack(result)


def mean(own: Tensor, guests: list[Tensor]) -> Tensor:
    return torch.stack([own, *guests]).mean(0)


def largest(own: Tensor, guests: list[Tensor]) -> Tensor:
    return torch.stack([own, *guests]).amax(0)


def mean_of_guests(own: Tensor, guests: list[Tensor]) -> Tensor:
    return torch.stack(guests).mean(0) if guests else own


@pytest.mark.parametrize(
    ("merge", "reduce", "order", "protect_first"),
    [
        (tome_mean.merge, mean, "position", True),
        (tome_amax.merge, largest, "descending", False),
        (tome_exclusive.merge, mean_of_guests, "descending", False),
        (tome_scatter_add.merge, mean, "ascending", False),
        (tome_index_put.merge, mean, "descending", False),
        (tome_index_add.merge, mean, "descending", False),
        (lambda x, metric, r: tome_source.Merge(metric, r)(x, "mean"), mean, "descending", False),
        (lambda x, metric, r: tome_source.Merge(metric, r)(x, "amax"), largest, "descending", False),
    ],
)
@pytest.mark.parametrize("r", [1, R, N // 2])
def test_tome_merge_equals_loops(merge, reduce, order, protect_first, r) -> None:
    if protect_first and r == N // 2:
        r -= 1  # the class token is not there to merge
    x, metric = tokens()
    expected = merge_by_loops(x, metric, r, reduce, order, protect_first)
    torch.testing.assert_close(merge(x, metric.clone(), r), expected)


def test_tome_matmul_merge_equals_loops_behind_the_class_token() -> None:
    x, metric = tokens(N + 1)
    expected = merge_by_loops(x[:, 1:], metric[:, 1:], R, mean, "descending")
    merged = tome_matmul.merge(x, metric, R)
    torch.testing.assert_close(merged[:, 1:], expected)
    assert torch.equal(merged[:, 0], x[:, 0])


def test_tome_sizes_merge_twice_equals_mean_of_all_tokens_in_a_group() -> None:
    x, metric = tokens()
    once, size = tome_sizes.merge(x, metric, R)
    torch.testing.assert_close(once, merge_by_loops(x, metric, R, mean, "position", protect_first=True))
    twice, size = tome_sizes.merge(once, metric[:, : once.shape[1]], 3, size)
    assert twice.shape[1] == N - R - 3
    torch.testing.assert_close(size.sum(1), torch.full((B, 1), float(N)))
    torch.testing.assert_close((twice * size).sum(1), x.sum(1))


def test_tome_source_gives_every_patch_to_exactly_one_token() -> None:
    module, inputs = tome_source.build()
    with torch.no_grad():
        _, source = module(*inputs)
    assert source.shape == (1, 40, 64)
    assert torch.equal(source.sum(1), torch.ones(1, 64))


def test_tome_unmerge_gives_every_token_its_group() -> None:
    x, _ = tokens()
    merge, unmerge = tome_unmerge.matching(x, R)
    restored = unmerge(merge(x))
    for x_NC, restored_NC in zip(x, restored, strict=True):
        kept, groups = match_by_loops(x_NC, R, protect_first=False)
        for even in kept:
            assert torch.equal(restored_NC[even], x_NC[even])
        for odd, guests in groups.items():
            expected = mean(x_NC[odd], [x_NC[even] for even in guests])
            for position in [odd, *guests]:
                torch.testing.assert_close(restored_NC[position], expected)


def test_tomesd_halves_the_tokens_of_the_finest_self_attention() -> None:
    module, inputs = ZOO["tomesd_unet"]()
    seen: list[int] = []
    first = module.unet.down_blocks[0].attentions[0].transformer_blocks[0]
    first.attn1.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    with torch.no_grad():
        assert module(*inputs).shape == inputs[0].shape
    assert seen == [16 * 16 // 2]


@pytest.mark.parametrize("target", range(vidtome.CHUNK))
def test_vidtome_merges_other_frames_into_the_target(target) -> None:
    n, ratio = vidtome.TOKENS, 0.5
    x = torch.randn(1, vidtome.CHUNK * n, C, generator=torch.Generator().manual_seed(0))
    merge, unmerge = vidtome.chunk_matching(x, torch.tensor([target]), ratio)
    restored = unmerge(merge(x))[0]
    in_target = range(target * n, (target + 1) * n)
    others = [i for i in range(len(restored)) if i not in in_target]
    target_frame = x[0, in_target.start : in_target.stop]
    best = {i: torch.cosine_similarity(x[0, i], target_frame, dim=1).max(0) for i in others}
    gone = sorted(others, key=lambda i: -float(best[i].values))[: int(len(others) * ratio)]
    groups = {i: [j for j in gone if int(best[j].indices) + in_target.start == i] for i in in_target}
    for i, guests in groups.items():
        for position in [i, *guests]:
            torch.testing.assert_close(restored[position], mean(x[0, i], [x[0, j] for j in guests]))
    for i in set(others) - set(gone):
        assert torch.equal(restored[i], x[0, i])


def test_prune_topk_keeps_the_attended_and_fuses_the_rest() -> None:
    x, metric = tokens()
    attention = metric[:, 1:, 0].softmax(-1)
    pruned = prune_topk.prune(x, attention, keep=7)
    for x_NC, weight, result in zip(x, attention, pruned, strict=True):
        order = sorted(range(N - 1), key=lambda i: -float(weight[i]))
        rest = order[7:]
        fused = sum(weight[i] * x_NC[1 + i] for i in rest) / sum(weight[i] for i in rest)
        expected = torch.stack([x_NC[0], *(x_NC[1 + i] for i in order[:7]), fused])
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.6, 2.0])
def test_threshold_capacity_merges_what_is_similar_and_spares_the_rest(threshold) -> None:
    x, _ = tokens()
    capacity, spare = 8, 5
    merged, mask = threshold_capacity.merge(x, threshold, capacity, spare)
    assert merged.shape == (B, N - capacity + spare, C)
    for x_NC, result, used in zip(x, merged, mask, strict=True):
        kept, groups = match_by_loops(x_NC, capacity, protect_first=False)
        pairs = [(e, o) for o, guests in groups.items() for e in guests]
        similarity = {e: float(torch.cosine_similarity(x_NC[e], x_NC[o], dim=0)) for e, o in pairs}
        most_similar_first = sorted(similarity, key=lambda e: -similarity[e])
        refused = [e for e in most_similar_first if similarity[e] <= threshold][:spare]
        means = [mean(x_NC[o], [x_NC[e] for e in guests if e not in refused]) for o, guests in groups.items()]
        expected = torch.stack([x_NC[e] for e in kept[::-1]] + means + [x_NC[e] for e in refused])
        assert int(used.sum()) == len(expected)
        torch.testing.assert_close(result[used], expected)
        assert not result[~used].any()


def test_threshold_capacity_example_both_merges_and_refuses() -> None:
    module, inputs = threshold_capacity.build()
    _, mask = threshold_capacity.merge(module.tokens(*inputs), module.threshold, capacity=24, spare=16)
    spared = mask[:, -16:].sum(1)
    assert ((spared > 0) & (spared < 16)).all()


@pytest.mark.parametrize("average", [kmeans.average_by_scatter, kmeans.average_by_index_add, kmeans.average_by_one_hot])
def test_kmeans_averages_equal_loops(average) -> None:
    x, _ = tokens()
    centers = torch.randn(B, kmeans.CLUSTERS, C, generator=torch.Generator().manual_seed(1))
    label = kmeans.assign(x, centers)
    result = average(x, label, centers)
    for b in range(B):
        for k in range(kmeans.CLUSTERS):
            members = [x[b, i] for i in range(N) if (centers[b] - x[b, i]).norm(dim=-1).argmin() == k]
            expected = torch.stack(members).mean(0) if members else centers[b, k]
            torch.testing.assert_close(result[b, k], expected)


def test_dpc_knn_clusters_equal_loops() -> None:
    x, metric = tokens()
    label, center = dpc_knn.cluster(x, clusters=4, k=3)
    weight = metric[..., :1]
    merged = dpc_knn.merge(x, label, 4, weight)
    for b in range(B):
        distance = [[float((p - q).norm()) / C**0.5 for q in x[b]] for p in x[b]]
        density = [torch.tensor(sorted(row)[:3]).square().mean().neg().exp().item() for row in distance]
        farthest = max(map(max, distance))
        peak = []
        for i in range(N):
            denser = [distance[i][j] for j in range(N) if density[j] > density[i]]
            peak.append(density[i] * min(denser, default=farthest))
        centers = sorted(range(N), key=lambda i: -peak[i])[:4]
        assert center[b].tolist() == centers
        nearest = [min(range(4), key=lambda k: distance[centers[k]][i]) for i in range(N)]
        assert label[b].tolist() == nearest
        for k in range(4):
            members = [i for i in range(N) if nearest[i] == k]
            share = weight[b, members].softmax(0)
            torch.testing.assert_close(merged[b, k], (share * x[b, members]).sum(0), atol=1e-5, rtol=1e-4)


def test_checkerboard_averages_each_white_square_into_a_black_one() -> None:
    side = 4
    x, _ = tokens(side * side)
    merged = boolean_split.merge_checkerboard(x, side)
    black = [i for i in range(side * side) if (i // side + i % side) % 2 == 0]
    for x_NC, result in zip(x, merged, strict=True):
        groups: dict[int, list[Tensor]] = {i: [] for i in black}
        for white in set(range(side * side)) - set(black):
            most = max(black, key=lambda i: float(torch.cosine_similarity(x_NC[i], x_NC[white], dim=0)))
            groups[most].append(x_NC[white])
        expected = torch.stack([mean(x_NC[i], guests) for i, guests in groups.items()])
        torch.testing.assert_close(result, expected)


def test_random_half_leaves_the_other_tokens_alone() -> None:
    module, inputs = boolean_split.build_random_half()
    torch.manual_seed(5)
    mask = torch.rand(64) > 0.5
    torch.manual_seed(5)
    with torch.no_grad():
        before, after = module.tokens(*inputs), module(*inputs)
    assert torch.equal((before != after).any(-1)[0], mask)


def test_pair_mean_attends_over_means_and_repeats_them() -> None:
    module, (video,) = pair_mean.build()
    block = module.blocks[0]
    x = module.embed(video)
    with torch.no_grad():
        normed = block.norm1(x)
        pairs = torch.stack([normed[:, 2 * i : 2 * i + 2].mean(1) for i in range(3)], 1)
        mixed = block.attn(pairs.flatten(1, 2))[0].unflatten(1, (3, 16))
        y = x + torch.stack([mixed[:, i // 2] for i in range(6)], 1)
        torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)))


@pytest.mark.parametrize("nearest", [True, False])
def test_pooled_kv_downsamples_the_grid(nearest) -> None:
    x, _ = tokens(16)
    result = pooled_kv.Block(4, nearest).downsample(x)
    for row in range(2):
        for column in range(2):
            corner = 8 * row + 2 * column
            window = x[:, [corner] if nearest else [corner, corner + 1, corner + 4, corner + 5]]
            torch.testing.assert_close(result[:, 2 * row + column], window.mean(1))


@pytest.mark.parametrize("name", ZOO)
def test_build_is_reproducible_and_finite(name) -> None:
    outputs = []
    for _ in range(2):
        module, inputs = ZOO[name]()
        assert not module.training
        with torch.no_grad():
            outputs.append(module(*inputs))
    for first, again in zip(*map(tree_leaves, outputs), strict=True):
        assert torch.equal(first, again)
        assert first.isfinite().all()
        assert first.std() > 0


@pytest.mark.parametrize("name", ZOO)
def test_two_calls_differ_only_where_numbers_are_drawn(name) -> None:
    module, inputs = ZOO[name]()
    with torch.no_grad():
        first, second = tree_leaves(module(*inputs))[0], tree_leaves(module(*inputs))[0]
    assert (first.shape == second.shape and torch.equal(first, second)) == (name not in RANDOM)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_models_have_as_many_tokens_as_their_input_says(name) -> None:
    module, _ = REFUSED[name]()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        counts = {module(torch.randn(1, 64, 32, generator=generator)).shape[1:-1] for _ in range(12)}
        if name == "unique":  # its clusters come without a batch dimension
            counts = {module(torch.randn(1, 64, 32, generator=generator)).shape[0] for _ in range(12)}
    assert len(counts) > 1
