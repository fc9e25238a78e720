import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.support.naive_tome import groups_after_merging, join_members
from tm_export.models.layers.attention import attend, split_heads
from tm_export.models.merging.attention import proportional_attention
from tm_export.models.merging.bipartite import match_bipartite
from tm_export.models.merging.frame_pairs import merge_frame_pairs, unmerge_frame_pairs
from tm_export.models.merging.source import initial_source, merge_source, region_labels


def test_attend_equals_torch_attention_with_a_bias():
    q, k, v = (torch.randn(2, 3, n, 8) for n in (5, 7, 7))
    bias = torch.randn(2, 1, 1, 7)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(2, 3, 5, 7))
    torch.testing.assert_close(attend(q, k, v, bias), expected.transpose(1, 2).reshape(2, 5, 24))


def test_split_heads_keeps_each_heads_channels_together():
    x = torch.arange(12.0).view(1, 2, 6)
    assert split_heads(x, 2)[0, 1].tolist() == [[3, 4, 5], [9, 10, 11]]


def test_proportional_attention_equals_attention_over_the_repeated_tokens():
    sizes = [1, 4, 2, 3]
    q, k, v = (torch.randn(1, 2, 4, 6) for _ in range(3))
    repeats = torch.tensor(sizes)
    expected = attend(q, k.repeat_interleave(repeats, 2), v.repeat_interleave(repeats, 2))
    actual = proportional_attention(q, k, v, torch.tensor(sizes, dtype=torch.float32).view(1, 4, 1))
    torch.testing.assert_close(actual, expected)
    assert (attend(q, k, v) - expected).abs().max() > 1e-2


def test_source_holds_the_members_of_each_group_after_two_merges():
    batch, tokens = 2, 11
    members = [[[i] for i in range(tokens)] for _ in range(batch)]
    source = initial_source(batch, tokens)
    for layer in range(2):
        metric = torch.randn(batch, source.shape[1], 8, generator=torch.Generator().manual_seed(layer))
        source = merge_source(source, match_bipartite(metric, 3))
        for row in range(batch):
            groups = groups_after_merging(metric[row], 3)
            members[row] = join_members(members[row], groups)
    labels = region_labels(source)
    assert labels.shape == (batch, tokens)
    for row in range(batch):
        for position, group in enumerate(members[row]):
            assert sorted(source[row, position].nonzero().flatten().tolist()) == sorted(group)
            assert labels[row, group].tolist() == [position] * len(group)


@settings(deadline=None)
@given(st.integers(1, 13), st.integers(1, 3), st.integers(0, 2**16))
def test_frame_pairs_agree_with_a_loop_over_frames(frames, batch, seed):
    x = torch.randn(batch, frames, 4, 3, generator=torch.Generator().manual_seed(seed))
    merged = merge_frame_pairs(x)
    expected = [x[:, t : t + 2].mean(dim=1) for t in range(0, frames, 2)]
    torch.testing.assert_close(merged, torch.stack(expected, dim=1))
    restored = unmerge_frame_pairs(merged, frames)
    assert restored.shape == x.shape
    for t in range(frames):
        assert torch.equal(restored[:, t], merged[:, t // 2])


@pytest.mark.parametrize("frames", [1, 5, 15, 25])  # of these the published code can run 15 alone
def test_an_odd_last_frame_comes_back_as_it_was(frames):
    x = torch.randn(2, frames, 4, 3)
    restored = unmerge_frame_pairs(merge_frame_pairs(x), frames)
    assert torch.equal(restored[:, -1], x[:, -1])


def test_frame_pairs_that_are_equal_are_restored():
    x = torch.randn(1, 4, 2, 3).repeat_interleave(2, dim=1)
    assert torch.equal(unmerge_frame_pairs(merge_frame_pairs(x), 8), x)
