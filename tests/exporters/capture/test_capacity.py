"""A selection by a mask with a capacity: as many rows as there is room for, of which those in use are the module's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import tm_export
from tests.support.programs import Lambda
from tm_export.exporters.capture.capture import Captured, capture_in_room
from tm_export.exporters.errors import ConversionRefused, ExportError, UsageError
from tm_export.exporters.options import Capacities, capacities_of, parse_capacities

Outputs = Tensor | tuple[Tensor, ...]
TOKENS, ROOM = 12, 10


def tokens(seed: int) -> Tensor:
    """Tokens [2, 12, 8], of which between 1 and 10 are kept."""
    x = torch.randn(2, TOKENS, 8, generator=torch.Generator().manual_seed(seed))
    x[0, :2, 0] = torch.tensor([1.0, -1.0])
    x[0, 2, 0] = -1.0
    return x


def kept(x: Tensor) -> Tensor:
    """Rows [2, n, 8], n by the first image's scores."""
    return x[:, x[0, :, 0] > 0]


def each(x: Tensor) -> Tensor:
    """Rows [n, 8] of both images."""
    return x[x[..., 1] > 0.7]


def attended(x: Tensor, **options: bool) -> Tensor:
    y = kept(x).unflatten(-1, (2, 4)).transpose(1, 2)
    return F.scaled_dot_product_attention(y, y.flip(-1), y * 2, **options)


def written_back(x: Tensor) -> Tensor:
    keep = x[0, :, 0] > 0
    out = x.clone()
    out[:, keep] = x[:, keep] * 3
    return out


def scattered(x: Tensor) -> Tensor:
    keep = x[..., 1] > 0.7
    return torch.zeros(2, TOKENS, 8).masked_scatter(keep[..., None], x[keep] + 1)


def nearest(x: Tensor) -> Outputs:
    y = F.normalize(kept(x), dim=-1)
    scores = y @ F.normalize(x[:, :4], dim=-1).transpose(-1, -2)
    place = scores.argmax(-1)
    merged = torch.zeros(2, 4, 8).scatter_reduce(1, place[..., None].expand(-1, -1, 8), y, "mean", include_self=False)
    return place, merged, torch.zeros(2, 4).scatter_add(1, place, torch.ones_like(place, dtype=torch.float32))


def twice(x: Tensor) -> Tensor:
    y = kept(x)
    return y[:, y[1, :, 2] > 0]


def ordered(x: Tensor) -> Outputs:
    """Tokens in an order of scores some of which are infinite."""
    y = kept(x)
    scores = y[..., 1].masked_fill(y[..., 2] > 0.5, -math.inf)
    order = scores.sort(dim=1, descending=True, stable=True).indices
    return y.gather(1, order[..., None].expand(-1, -1, 8)), order, scores.amax(1), scores.argmax(1)


def attended_to_few(x: Tensor) -> Tensor:
    """Attention to those that score more than a few do, perhaps to none."""
    few = x[:, x[0, :, 0] > 1.5]
    return F.scaled_dot_product_attention(x[:, :3], few, few)


def causal_among_others(x: Tensor) -> Tensor:
    y = torch.cat([kept(x), x[:, :4]], 1)
    return F.scaled_dot_product_attention(y[:, -4:], y, y, is_causal=True)


def in_their_own_order(x: Tensor) -> Tensor:
    """Chosen in the order of scores, put back into that of the picture."""
    order = x[0, :, 3].argsort(descending=True)
    return x[:, order[x[0, :, 0][order] > 0].sort().values]


def brought_back(x: Tensor) -> Tensor:
    """Each token from its place among those that are kept, all others from a mean behind them."""
    keep = x[0, :, 0] > 0
    y = torch.cat([kept(x), x.mean(1, keepdim=True)], 1)
    return y[:, torch.where(keep, keep.cumsum(0) - 1, keep.sum())]


def protected(x: Tensor) -> Outputs:
    """A class token in front is no candidate, written in two ways."""
    y = torch.cat([x[:, :1], kept(x)], 1)
    scores = y @ y.mT
    by_parts = torch.cat([torch.full_like(scores[:, :1], -math.inf), scores[:, 1:]], 1).max(1).values
    scores[:, 0] = -math.inf
    return by_parts, scores.argmax(1)


COMPUTED: dict[str, Callable[[Tensor], Outputs]] = {
    "rows": kept,
    "rows of both": each,
    "elementwise": lambda x: (kept(x) + 1).relu() * kept(x),
    "with a row": lambda x: kept(x) - x.mean(1, keepdim=True),
    "with a table": lambda x: kept(x) + torch.arange(96.0).reshape(12, 8)[: kept(x).shape[1]],
    "linear": lambda x: F.linear(kept(x), torch.ones(3, 8), torch.ones(3)),
    "norms": lambda x: (F.layer_norm(kept(x), (8,)), F.rms_norm(kept(x), (8,)), kept(x).norm(dim=-1)),
    "sums": lambda x: (kept(x).sum(1), kept(x).sum(), kept(x).cumsum(1), kept(x).norm(dim=1)),
    "means": lambda x: (kept(x).mean(1), kept(x).mean(), kept(x).mean((0, 2)), kept(x).mean(1, keepdim=True)),
    "extremes": lambda x: (kept(x).amax(1), kept(x).min(1).values, kept(x).max(), kept(x).argmax(1)),
    "all and any": lambda x: ((kept(x) > -2).all(1), (kept(x) > 1).any(1), (kept(x) > 0).count_nonzero(1)),
    "products": lambda x: (kept(x).abs().prod(1), kept(x).logsumexp(1)),
    "softmax": lambda x: (kept(x).softmax(1), kept(x).softmax(-1), kept(x).log_softmax(1)),
    "scores": lambda x: kept(x) @ kept(x).transpose(1, 2),
    "attention by hand": lambda x: (kept(x) @ kept(x).mT / 8).softmax(-1) @ kept(x),
    "attention": attended,
    "causal attention": lambda x: attended(x, is_causal=True),
    "heads": lambda x: kept(x).reshape(2, -1, 2, 4).permute(2, 0, 1, 3).flatten(1, 2).sum(1),
    "images in rows": lambda x: kept(x).reshape(-1, 8).amax(0),
    "packed": lambda x: kept(x).reshape(-1, 8),
    "behind text": lambda x: torch.cat([x[:, :2] * 2, kept(x)], 1),
    "before text": lambda x: torch.cat([kept(x), x[:, :2] * 2], 1),
    "two selections": lambda x: torch.cat([kept(x), x[:, x[1, :, 3] > 0]], 1),
    "twice": twice,
    "first": lambda x: (kept(x)[:, :1], kept(x)[:, 0]),
    "last": lambda x: (kept(x)[:, -1], kept(x)[:, -2:], kept(x)[:, :-1], kept(x)[:, 1:-1].sum(1)),
    "ordered": ordered,
    "attended to few": attended_to_few,
    "causal among others": causal_among_others,
    "in their own order": in_their_own_order,
    "brought back": brought_back,
    "protected": protected,
    "place of the best": lambda x: torch.cat([kept(x), x[:, :1] * 5], 1).norm(dim=-1).argmax(1),
    "split": lambda x: torch.split(kept(x), [1, kept(x).shape[1] - 1], 1),
    "uniform": lambda x: kept(x)[..., 0].masked_fill(kept(x)[..., 0] > -9, torch.finfo(x.dtype).min).softmax(-1),
    "backwards": lambda x: kept(x).flip(1),
    "every second": lambda x: kept(x)[:, ::2],
    "repeated": lambda x: (kept(x).repeat(1, 2, 1), kept(x).repeat_interleave(2, 1)),
    "the text behind": lambda x: torch.cat([kept(x), x[:, :2]], 1)[:, -2:],
    "order": lambda x: (kept(x)[..., 3].argsort(1), kept(x)[..., 3].sort(1, descending=True).values),
    "reordered": lambda x: kept(x)[:, kept(x)[0, :, 3].argsort()],
    "best": lambda x: kept(x)[..., 3].topk(1, dim=1),
    "looked up": lambda x: torch.arange(24.0).reshape(12, 2)[(x[0, :, 0] > 0).nonzero()[:, 0]],
    "embedded": lambda x: F.embedding((kept(x)[..., 0] > 0.5).long(), torch.arange(6.0).reshape(2, 3)),
    "gathered": lambda x: kept(x).gather(2, (kept(x)[..., :2] > 0).long()),
    "written back": written_back,
    "scattered": scattered,
    "nearest": nearest,
    "added": lambda x: torch.zeros(3, 8).index_add(0, (each(x)[:, 0] > 0).long(), each(x)),
    "einsum": lambda x: torch.einsum("bnc,bmc->bnm", kept(x), x),
    "distances": lambda x: (torch.cdist(kept(x), x), torch.cdist(kept(x), kept(x))),
    "masked": lambda x: kept(x).masked_fill(kept(x) < 0, -1e9).softmax(1),
    "padded": lambda x: F.pad(kept(x), (0, 0, 1, 0)),
    "zeros": lambda x: (torch.zeros_like(kept(x)) + 1).sum(1),
    "unflattened": lambda x: kept(x).unsqueeze(2).expand(-1, -1, 3, -1).sum((1, 2)),
    "count": lambda x: (x[0, :, 0] > 0).sum() * kept(x).sum(1),
    "flattened": lambda x: (kept(x).flatten(1), (kept(x) @ kept(x).mT).flatten(1)),
    "convolved": lambda x: F.conv1d(each(x)[:, None], torch.ones(4, 1, 3)),
}


def captured(forward: Callable[[Tensor], Outputs], capacity: int = ROOM * 2) -> Captured:
    return capture_in_room(Lambda(forward), (tokens(0),), 0, Capacities(capacity))


def check(made: Captured, forward: Callable[[Tensor], Outputs], seed: int) -> None:
    """Of each output the part that the module returns is its own, the rest zero, and what is in use is noted."""
    x = tokens(seed)
    expected = [leaf for leaf in tree_leaves(forward(x)) if isinstance(leaf, Tensor)]
    got = made.program.module()(x)
    got = list(got) if isinstance(got, tuple | list) else [got]
    assert len(got) == len(expected) + len(made.rooms)
    for own, there in zip(expected, got, strict=False):
        torch.testing.assert_close(there[tuple(slice(0, size) for size in own.shape)], own, rtol=1e-5, atol=1e-5)
        assert there.count_nonzero() == own.count_nonzero()
    for room, used in zip(made.rooms, got[len(expected) :], strict=True):
        count = expected[room.output].shape[room.dim]
        assert used.tolist() == [i < count for i in range(room.size)]


GROUPS = [list(COMPUTED)[i::6] for i in range(6)]


@pytest.mark.parametrize("names", GROUPS, ids=", ".join)
def test_what_follows_a_selection_is_computed_from_those_in_use(names: list[str]) -> None:
    """Several in a program: each capture takes a second."""

    def forward(x: Tensor) -> Outputs:
        return tuple(leaf for name in names for leaf in tree_leaves(COMPUTED[name](x)))

    made = captured(forward)
    for seed in range(4):
        check(made, forward, seed)


@pytest.mark.parametrize("room", [2, 5, TOKENS])
def test_of_more_than_there_is_room_for_the_first_are_taken(room: int) -> None:
    x = torch.arange(TOKENS * 1.0)
    module = Lambda(lambda x, mask: x[mask])
    program = capture_in_room(module, (x, torch.arange(TOKENS) < 1), 0, Capacities(room)).program.module()

    @settings(deadline=None)
    @given(keep=st.lists(st.booleans(), min_size=TOKENS, max_size=TOKENS))
    def first_are_taken(keep: list[bool]) -> None:
        rows, used = program(x, torch.tensor(keep))
        first = [float(i) for i, is_kept in enumerate(keep) if is_kept][:room]
        assert rows.tolist() == first + [0.0] * (room - len(first))
        assert used.tolist() == [i < len(first) for i in range(room)]

    first_are_taken()


class Keep(nn.Module):
    """Tokens [1, n, 16] that score above a threshold, after attention among them, and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.qkv, self.norm = nn.Linear(16, 1), nn.Linear(16, 48), nn.LayerNorm(16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        keep = self.score(x)[0, :, 0] > 0
        y = torch.cat([x.mean(1, keepdim=True), x[:, keep]], 1)
        q, k, v = self.qkv(self.norm(y)).reshape(1, -1, 3, 4, 4).permute(2, 0, 3, 1, 4)
        y = y + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return y[:, 0], y


@pytest.mark.parametrize("target", ["coreml", "onnx", "executorch"])
def test_an_artifact_says_which_of_its_tokens_are_in_use(target: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Keep().eval(), torch.randn(1, 24, 16)
    bundle = tm_export.export(module, x, target=target, out=tmp_path, precision="fp32", capacities=20)
    (component,) = bundle.manifest.components
    assert [output.name for output in component.variants[0].outputs] == ["output_0", "output_1", "output_1_used"]
    with bundle.open() as session:
        for seed in range(3):
            other = torch.randn(1, 24, 16, generator=torch.Generator().manual_seed(seed))
            first, every = module(other)
            outputs = session.run({"x": other.numpy()})
            np.testing.assert_allclose(outputs["output_0"], first.detach(), atol=1e-5)
            np.testing.assert_allclose(outputs["output_1"][:, : every.shape[1]], every.detach(), atol=1e-5)
            assert not outputs["output_1"][:, every.shape[1] :].any()
            assert int(outputs["output_1_used"].sum()) == every.shape[1]


REFUSED: dict[str, tuple[Callable[[Tensor], Outputs], str]] = {
    "in between": (lambda x: kept(x)[:, -3:-1], r"aten.slice.Tensor at test_capacity.py:\d+: .*\[:, -3:-1\]"),
    "shifted": (lambda x: F.pad(kept(x), (0, 0, 1, -1)), r"aten.(constant_)?pad.* at test_capacity.py"),
    "halves": (lambda x: kept(x).chunk(2, 1)[0], r"aten.(chunk|split).* at test_capacity.py:\d+: .*chunk"),
    "turned": (lambda x: kept(x).roll(1, 1), "aten.roll at test_capacity.py"),
    "channels": (lambda x: F.linear(kept(x).mT, torch.ones(3, kept(x).shape[1])), "tokens are its channels"),
    "pixels": (lambda x: F.conv1d(kept(x).mT, torch.ones(4, 8, 1)), "its channels or its pixels"),
    "normalised": (lambda x: F.layer_norm(kept(x).mT, (kept(x).shape[1],)), "it normalises over tokens"),
    "in a grid": (
        lambda x: each(x)[:4].reshape(2, 2, 8),
        "along several dimensions together: return it before it is reshaped",
    ),
    "a spread": (lambda x: kept(x).std(1), "is not known here"),
    "a rate": (lambda x: x[:, : int((x[0, :, 0] > 0).sum())], r"depends on data at .*\(`int\(…\)`\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_follow_is_refused_at_its_line(name: str) -> None:
    forward, message = REFUSED[name]
    with pytest.raises(ConversionRefused, match=message):
        captured(forward)


def test_a_number_of_tokens_that_python_reads_is_refused(tmp_path: Path) -> None:
    def forward(x: Tensor) -> Tensor:
        y = kept(x)
        return y.sum(1) / y.shape[1]

    with pytest.raises(ConversionRefused, match=r"behind test_capacity\.py:\d+: .*number of tokens.*mask\.sum\(\)"):
        tm_export.export(Lambda(forward), tokens(0), out=tmp_path, capacities=ROOM * 2)


def test_a_capacity_changes_how_many_rows_there_are(tmp_path: Path) -> None:
    def forward(x: Tensor) -> Tensor:
        keep = x[0, :, 0] > 0
        return torch.cat([x[:, keep], x[:, ~keep]], 1) + torch.arange(TOKENS)[:, None]

    message = r"has a capacity.* fails at test_capacity\.py:\d+: return torch\.cat.* size of tensor a \(20\)"
    with pytest.raises(UsageError, match=message):
        tm_export.export(Lambda(forward), tokens(0), out=tmp_path, capacities=ROOM)


def test_a_capacity_belongs_to_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConversionRefused, match=r"--capacity test_capacity\.py:\d+=48") as refusal:
        tm_export.export(Lambda(kept), tokens(0), out=tmp_path)
    found = re.search(r"test_capacity\.py:\d+", str(refusal.value))
    assert found is not None
    bundle = tm_export.export(Lambda(kept), tokens(0), out=tmp_path, capacities={found[0]: ROOM})
    (component,) = bundle.manifest.components
    assert [output.shape for output in component.variants[0].outputs] == [(2, ROOM, 8), (ROOM,)]


@pytest.mark.parametrize(
    ("capacities", "message"),
    [
        (2, r"chooses \d+ tokens of the example inputs, and its capacity is 2: give it more"),
        ({"elsewhere.py:3": 5}, "is given for elsewhere.py:3, where model selects nothing by a mask"),
        (0, "capacity 0 is too small"),
    ],
)
def test_a_capacity_that_does_not_fit_is_no_request(
    capacities: int | dict[str, int], message: str, tmp_path: Path
) -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.zeros(2) if isinstance(capacities, dict) else each(x)

    with pytest.raises(UsageError, match=message):
        tm_export.export(Lambda(forward), tokens(0), out=tmp_path, capacities=capacities)


def test_variants_select_for_the_same_outputs(tmp_path: Path) -> None:
    variants = {"full": Lambda(lambda x: x), "kept": Lambda(kept)}
    with pytest.raises(UsageError, match="variants 'full' and 'kept' of model select tokens for other outputs"):
        tm_export.export(variants, tokens(0), out=tmp_path, capacities=ROOM * 2)


def test_capacities_on_the_command_line() -> None:
    assert parse_capacities(["48", "a.py:18=7"]) == Capacities(48, (("a.py:18", 7),))
    assert capacities_of({"a.py:18": 7}) == Capacities(None, (("a.py:18", 7),))
    for wrong in (["x"], ["a.py=3"], ["a.py:1=x"], ["4", "5"], ["-1"]):
        with pytest.raises(ExportError, match="--capacity"):
            parse_capacities(wrong)
