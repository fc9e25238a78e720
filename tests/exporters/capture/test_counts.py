"""Counts that are known though they look dynamic are captured; those that follow from data are refused."""

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tests.support.programs import Lambda, run
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.errors import ConversionRefused

Outputs = Tensor | tuple[Tensor, ...]


def tokens(seed: int) -> Tensor:
    """Tokens [2, 12, 8]."""
    return torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(seed))


def top_mask(x: Tensor, k: int) -> Tensor:
    return torch.zeros(x.shape[:2], dtype=torch.bool).scatter(1, x[..., 0].topk(k, 1).indices, True)


def visionzip(x: Tensor) -> Tensor:
    """Dominant tokens by a scattered mask, the rest merged into contextual ones."""
    batch, n, c = x.shape
    top = x.softmax(-1)[..., 0][:, 1:].topk(4, dim=1).indices + 1
    dominant = torch.cat([torch.zeros((batch, 1), dtype=top.dtype), top], 1)
    mask = torch.ones_like(x[:, :, 0], dtype=torch.bool).scatter_(1, dominant, False)
    kept = x.masked_select(~mask.unsqueeze(-1)).view(batch, 5, c)
    rest = x[mask].view(batch, n - 5, c)
    target = torch.arange(0, rest.shape[1], 4)[:2]
    others = rest[:, ~torch.isin(torch.arange(rest.shape[1]), target), :]
    similarity = others @ rest[:, target].transpose(1, 2)
    hot = torch.zeros(batch, others.shape[1], 2).scatter_(2, similarity.argmax(2).unsqueeze(-1), 1)
    merged = hot.transpose(1, 2) @ others / hot.sum(1).clamp(min=1).unsqueeze(-1)
    return torch.cat([kept, rest[:, target] + merged], 1)


def fastv(x: Tensor) -> tuple[Tensor, ...]:
    keep = torch.ones(x.shape[1], dtype=torch.bool)
    keep[1:9] = False
    keep[x[0, 1:9, 0].topk(3).indices + 1] = True
    return x[:, keep], torch.arange(x.shape[1])[keep], keep.sum()


def holitom(x: Tensor) -> Tensor:
    every, top = torch.arange(12), x[0, :, 0].topk(5).indices
    rest = x[:, every[~torch.isin(every, top)]]
    for i in range(rest.shape[1] // 2):
        rest[:, i] = (rest[:, i] + rest[:, rest.shape[1] - 1 - i]) / 2
    return torch.cat([x[:, top.sort().values], rest], 1)


def fastvggt(x: Tensor) -> Tensor:
    """Edges of protected tokens are filtered by a mask in the order of their scores."""
    a, b = torch.arange(0, 12, 2), torch.arange(1, 12, 2)
    best, to = (x[:, a] @ x[:, b].transpose(1, 2)).max(-1)
    edges = best.argsort(-1, descending=True)[0]
    protected = torch.isin(a, torch.tensor([0, 4]))[edges]
    valid = edges[~protected]
    gone, stays = valid[:3], torch.cat([valid[3:], edges[protected]])
    return torch.cat([x[:, a[stays]], x[:, b].index_add(1, to[0][gone], x[:, a[gone]])], 1)


def by_where(x: Tensor) -> tuple[Tensor, ...]:
    mask = top_mask(x, 4).float()
    return x[torch.where(mask > 0.5)], x[(mask == 0).nonzero(as_tuple=True)], mask.nonzero(), torch.argwhere(mask)


def by_rank(x: Tensor) -> tuple[Tensor, ...]:
    rank = x[..., 0].argsort(1).argsort(1)
    return x[rank < 5].view(2, 5, 8), x[:, rank[0] >= 7]


def by_one_hot(x: Tensor) -> tuple[Tensor, ...]:
    k = x[..., 0].topk(4, 1).indices
    mask, same = F.one_hot(k, 12).sum(1).bool(), (torch.arange(12) == k[..., None]).any(1)
    return x[mask], x[~same], int(mask.sum()) * x


def disjoint(x: Tensor) -> tuple[Tensor, ...]:
    order, first = x[..., 0].argsort(1), torch.zeros(2, 12, dtype=torch.bool)
    first.scatter_(1, order[:, :3], True)
    both = first.scatter(1, order[:, 3:6], True)
    return x[both], x[both & ~first], x[~(first | both)]


def written(x: Tensor) -> Tensor:
    mask, y = top_mask(x, 4), x.clone()
    y[mask] = x[mask] * 2
    y[~mask] = 0
    return y


def counted(x: Tensor) -> tuple[Tensor, ...]:
    mask = top_mask(x, 4)[0]
    n = mask.sum()
    return x[:, :n], x.split([int(n), 12 - int(n)], 1)[1], x[:, ..., : int(n)], x[:, torch.arange(n)]


def from_constants(x: Tensor) -> tuple[Tensor, ...]:
    bounds = torch.arange(0, 13, 4)
    lengths = bounds[1:] - bounds[:-1]
    windows = [x[:, a:b].mean(1) for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    blocks = x[:, : bounds[1]] if bounds.max() > 3 else x
    repeated = x[:, :3].repeat_interleave(torch.tensor([1, 0, 2]), 1)
    return torch.stack(windows, 1), x.split(lengths.tolist(), 1)[1], blocks, repeated


def distinct(x: Tensor) -> Tensor:
    return x[:, torch.unique(x[0, :, 0].topk(4).indices)]


KNOWN: dict[str, Callable[[Tensor], Outputs]] = {
    f.__name__: f
    for f in (
        visionzip, fastv, holitom, fastvggt, by_where, by_rank, by_one_hot, disjoint, written, counted, from_constants,
        distinct,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_count_is_static_and_right_on_other_inputs(name: str) -> None:
    program = capture(Lambda(KNOWN[name]), (tokens(0),))
    for node in program.graph.nodes:
        value = node.meta.get("val")
        assert not isinstance(value, Tensor) or all(isinstance(size, int) for size in value.shape)
    for seed in range(4):
        expected = tree_leaves(KNOWN[name](tokens(seed)))
        assert all(torch.equal(a, b) for a, b in zip(run(program, tokens(seed)), expected, strict=True))


def overlapping(x: Tensor) -> Tensor:
    mask = torch.zeros(12, dtype=torch.bool)
    mask[x[0, :, 0].topk(3).indices] = True
    mask[x[0, :, 1].topk(3).indices] = True
    return x[:, mask]  # how many


def chosen_twice(x: Tensor) -> Tensor:
    mask = torch.zeros(12, dtype=torch.bool)
    mask[x[0].argmax(0)] = True
    return x[:, mask]  # how many


def rarely_left_out(x: Tensor) -> Tensor:
    allowed, top = torch.ones(12, dtype=torch.bool), x[0, :, 0].topk(2).indices
    allowed[7] = False
    return x[:, top[allowed[top]]]  # how many


def above_the_kth(x: Tensor) -> Tensor:
    score = x[0, :, 0]
    return x[:, score >= score.topk(4).values[-1]]  # how many: ties


def listed(x: Tensor) -> Tensor:
    top = x[0, :, 0].topk(4).indices.tolist()  # how many
    return x[:, [i for i in range(12) if i not in set(top)]]


def in_numpy(x: Tensor) -> Tensor:
    return x * float(x.numpy().max())  # how many


DATA = {f.__name__: f for f in (overlapping, chosen_twice, rarely_left_out, above_the_kth, listed, in_numpy)}
READ = {"listed": "`.tolist()`", "in_numpy": "`.numpy()`"}


@pytest.mark.parametrize("name", DATA)
def test_a_count_of_data_is_refused_at_the_line_that_makes_it(name: str) -> None:
    what = re.escape(READ.get(name, "a selection by a mask"))
    with pytest.raises(ConversionRefused, match=rf"at test_counts\.py:\d+: .*# how many.* \({what}\)"):
        capture(Lambda(DATA[name]), (tokens(0),))


def test_a_count_that_follows_from_weights_is_known() -> None:
    """DiffRate's rate, and another one when the weights are others."""

    class Rate(nn.Module):
        def __init__(self, logits: list[float]) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.tensor(logits))

        def forward(self, tokens: Tensor) -> Tensor:
            rate = int(torch.ceil(self.logits.softmax(0) @ torch.tensor([2.0, 4.0, 6.0])))
            return tokens[:, :rate]

    for logits in ([0.0, 9.0, 0.0], [9.0, 0.0, 0.0]):
        program = capture(Rate(logits), (tokens(0),))
        assert torch.equal(run(program, tokens(3))[0], Rate(logits)(tokens(3)))
    names = [spec.arg.name for spec in program.graph_signature.input_specs]
    assert names[-1] == "tokens"


def test_a_helpers_own_line_is_named() -> None:
    class Helped(nn.Module):
        def match(self, x: Tensor) -> int:
            return int((x > 0).sum())  # the helper's

        def forward(self, x: Tensor) -> Tensor:
            k = self.match(x)
            return x[:, :1].reshape(-1)[:k]

    with pytest.raises(ConversionRefused, match=r"at test_counts\.py:\d+: return int.*the helper's"):
        capture(Helped(), (tokens(0),))


def test_training_flags_are_left_as_they_were() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Linear(8, 8).eval()).train()
    module[1].eval()
    capture(module, (tokens(0),))
    assert module.training
    assert module[0].training
    assert not module[1].training


def test_merging_around_layers_of_transformers_is_captured_as_eager_runs_it() -> None:
    """Under export the library makes a mask of the full length, that no layer behind the first merge could take."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    vit = ViTModel(ViTConfig(image_size=16, patch_size=4, **sizes)).eval()

    def pruned(_module: nn.Module, _given: object, out: Tensor) -> Tensor:
        kept = out[:, 1:].norm(dim=-1).topk(out.shape[1] - 5, dim=1).indices + 1
        return torch.cat([out[:, :1], out.gather(1, kept[..., None].expand(-1, -1, 16))], 1)

    for layer in vit.layers:
        layer.register_forward_hook(pruned)
    image = torch.randn(1, 3, 16, 16)
    program = capture(Lambda(lambda x: vit(x).last_hidden_state), (image,))
    other = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(run(program, other)[0], vit(other).last_hidden_state)
