import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.naive_tome import groups_after_merging, join_members
from tm_export.models.merging.bipartite import match_bipartite, merge, merge_weighted, unmerge

over_cases = settings(deadline=None, max_examples=60)
cases = st.tuples(
    st.integers(1, 3),  # batch
    st.integers(2, 17),  # tokens
    st.integers(0, 12),  # r
    st.booleans(),  # class token
    st.integers(0, 2**16),  # seed
)


def random_tokens(batch: int, tokens: int, channels: int, seed: int) -> torch.Tensor:
    return torch.randn(batch, tokens, channels, generator=torch.Generator().manual_seed(seed))


@over_cases
@given(cases)
def test_match_and_merge_agree_with_plain_loops(case):
    batch, tokens, r, class_token, seed = case
    metric = random_tokens(batch, tokens, 8, seed)
    x = random_tokens(batch, tokens, 5, seed + 1)
    match = match_bipartite(metric, r, class_token=class_token)
    means = merge(x, match, "mean")
    sums = merge(x, match, "sum")
    maxima = merge(x, match, "amax")
    for row in range(batch):
        groups = groups_after_merging(metric[row], r, class_token)
        parts = [x[row, group] for group in groups]
        torch.testing.assert_close(means[row], torch.stack([part.mean(0) for part in parts]))
        torch.testing.assert_close(sums[row], torch.stack([part.sum(0) for part in parts]))
        torch.testing.assert_close(maxima[row], torch.stack([part.amax(0) for part in parts]))


@over_cases
@given(cases)
def test_merge_weighted_is_the_mean_over_original_tokens_after_three_merges(case):
    batch, tokens, r, class_token, seed = case
    original = random_tokens(batch, tokens, 5, seed)
    x, size = original, None
    members = [[[i] for i in range(tokens)] for _ in range(batch)]
    for layer in range(3):
        metric = random_tokens(batch, x.shape[1], 8, seed + layer)
        x, size = merge_weighted(x, size, match_bipartite(metric, r, class_token=class_token))
        for row in range(batch):
            groups = groups_after_merging(metric[row], r, class_token)
            members[row] = join_members(members[row], groups)
    for row in range(batch):
        expected = torch.stack([original[row, group].mean(0) for group in members[row]])
        torch.testing.assert_close(x[row], expected, atol=1e-5, rtol=1e-4)
        if size is not None:
            assert size[row, :, 0].tolist() == [len(group) for group in members[row]]


@over_cases
@given(cases)
def test_token_count_and_size_sum_are_conserved(case):
    batch, tokens, r, class_token, seed = case
    match = match_bipartite(random_tokens(batch, tokens, 8, seed), r, class_token=class_token)
    size = merge(torch.ones(batch, tokens, 1), match, "sum")
    assert match.num_merged == min(r, (tokens - class_token) // 2)
    assert size.shape == (batch, tokens - match.num_merged, 1)
    assert size.sum(dim=1).flatten().tolist() == [tokens] * batch


@over_cases
@given(cases)
def test_unmerge_gives_each_token_its_groups_value(case):
    batch, tokens, r, class_token, seed = case
    metric = random_tokens(batch, tokens, 8, seed)
    x = random_tokens(batch, tokens, 5, seed + 1)
    match = match_bipartite(metric, r, class_token=class_token)
    merged = merge(x, match)
    restored = unmerge(merged, match)
    assert restored.shape == x.shape
    for row in range(batch):
        for position, group in enumerate(groups_after_merging(metric[row], r, class_token)):
            for token in group:
                assert torch.equal(restored[row, token], merged[row, position])


@over_cases
@given(cases)
def test_merging_what_was_unmerged_changes_nothing(case):
    batch, tokens, r, class_token, seed = case
    match = match_bipartite(random_tokens(batch, tokens, 8, seed), r, class_token=class_token)
    merged = merge(random_tokens(batch, tokens, 5, seed + 1), match)
    torch.testing.assert_close(merge(unmerge(merged, match), match), merged)


def test_unmerged_tokens_come_by_descending_score_and_then_half_b():
    # Two channels make similarity an angle; all of half B lies at angle 0.
    angles = torch.tensor([0.3, 0.0, 0.1, 0.0, 0.4, 0.0, 0.2, 0.0])
    metric = torch.stack([angles.cos(), angles.sin()], dim=-1)[None]
    match = match_bipartite(metric, 1)
    positions = torch.arange(8.0).view(1, 8, 1)
    assert merge(positions, match, "amax").flatten().tolist() == [6, 0, 4, 2, 3, 5, 7]


def test_equal_scores_are_ordered_by_position():
    match = match_bipartite(torch.ones(1, 64, 4), 8)
    assert match.source_BR[0].tolist() == list(range(8))
    assert match.unmerged_BU[0].tolist() == list(range(8, 32))
    assert match.target_BR[0].tolist() == [0] * 8


def test_length_of_the_metric_does_not_matter():
    metric = random_tokens(1, 20, 8, seed=3)
    scaled = metric * torch.linspace(0.1, 50, 20).view(1, 20, 1)
    assert torch.equal(match_bipartite(metric, 5).source_BR, match_bipartite(scaled, 5).source_BR)


@pytest.mark.parametrize(("tokens", "merged"), [(2, 1), (9, 4), (10, 4), (197, 98)])
def test_class_token_stays_first_and_alone_when_everything_else_merges(tokens, merged):
    metric = random_tokens(1, tokens, 8, seed=0)
    metric[:, 1::2] = metric[:, :1]  # every B token is the class token's double
    if tokens == 2:
        merged = 0
    match = match_bipartite(metric, tokens, class_token=True)
    assert match.num_merged == merged
    positions = torch.arange(float(tokens)).view(1, tokens, 1)
    assert merge(positions, match, "amax")[0, 0, 0] == 0
    assert merge(torch.ones_like(positions), match, "sum")[0, 0, 0] == 1


def test_r_is_clamped_to_half_the_tokens():
    match = match_bipartite(random_tokens(1, 7, 4, seed=0), 100)
    assert match.num_merged == 3
    assert merge(random_tokens(1, 7, 4, seed=0), match).shape == (1, 4, 4)


def test_negative_r_is_refused():
    with pytest.raises(ValueError, match="r=-1"):
        match_bipartite(torch.ones(1, 4, 4), -1)


def test_merge_weighted_keeps_small_parts_of_large_groups_in_half_precision():
    # 4096 tokens of 20 sum to 81920, beyond float16.
    x = torch.full((1, 2, 1), 20.0, dtype=torch.float16)
    size = torch.full((1, 2, 1), 2048.0)
    merged, merged_size = merge_weighted(x, size, match_bipartite(torch.ones(1, 2, 4), 1))
    assert merged.dtype == torch.float16
    assert merged.item() == 20.0
    assert merged_size.item() == 4096.0


def test_mean_of_a_group_of_many_sources_counts_each_once():
    x = torch.arange(8.0).view(1, 8, 1)
    metric = torch.zeros(1, 8, 2)
    metric[..., 0] = 1
    metric[:, 3::2] = torch.tensor([0.0, 1.0])  # only the first B token is like the A tokens
    merged = merge(x, match_bipartite(metric, 4), "mean")
    assert merged.flatten().tolist() == pytest.approx([(0 + 2 + 4 + 6 + 1) / 5, 3, 5, 7])
    assert math.isclose(merged[0, 0, 0].item(), 2.6, rel_tol=1e-6)
