"""Where each token went, against the models' own accounts of it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.programs import program_of
from tests.zoo import ZOO
from tm_export.exporters.capture.capture import capture
from tm_export.exporters.merging.raise_merges import raise_merges
from tm_export.exporters.report.token_labels import token_labels
from tm_export.models.merging.source import region_labels
from tm_export.models.tinychart.components import build_vision_tower
from tm_export.models.tinychart.config import VisionTowerConfig


def labels_of(function: object, *inputs: Tensor) -> Tensor | None:
    return token_labels(raise_merges(program_of(function, *inputs), 0), inputs)  # type: ignore[arg-type]


def test_the_tower_says_the_same() -> None:
    config = VisionTowerConfig(hidden_size=32, intermediate_size=32, num_layers=4, num_heads=2, image_size=84, tome_r=5)
    torch.manual_seed(1)
    tower, pixels = build_vision_tower(config), torch.rand(3, 3, 84, 84) * 2 - 1
    labels = token_labels(raise_merges(capture(tower, (pixels,)), 0), (pixels,))
    assert labels is not None
    assert torch.equal(labels, region_labels(tower.trace_source(pixels)))


def merged_once(x: Tensor, r: int, *, class_token: bool) -> Tensor:
    c = x.shape[-1]
    a, b = x[:, ::2], x[:, 1::2]
    scores = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT
    if class_token:
        scores[:, 0] = -torch.inf
    best, into = scores.max(-1)
    order = best.argsort(-1, descending=True)[..., None]
    gone, kept = order[:, :r], order[:, r:].sort(1).values
    into = into[..., None].gather(1, gone)
    b = b.scatter_reduce(1, into.expand(-1, -1, c), a.gather(1, gone.expand(-1, -1, c)), "sum")
    return torch.cat([a.gather(1, kept.expand(-1, -1, c)), b], 1)


@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("tokens", [12, 15])
def test_sums_are_sums_of_what_carries_the_label(class_token: bool, tokens: int) -> None:
    """Merging by sums twice: each row is the sum of the tokens that are said to stand in it."""

    def twice(x: Tensor) -> Tensor:
        return merged_once(merged_once(x, 4, class_token=class_token), 3, class_token=class_token)

    x = torch.randn(2, tokens, 5, generator=torch.Generator().manual_seed(4))
    labels = labels_of(twice, x)
    assert labels is not None
    rows = torch.zeros(2, tokens - 7, 5).scatter_add(1, labels[..., None].expand(-1, -1, 5), x)
    torch.testing.assert_close(rows, twice(x))


@pytest.mark.parametrize(
    ("name", "tokens"), [("tome_sizes", 41), ("vit_tome", 33), ("tome_unmerge", 44), ("tome_amax", 40)]
)
def test_models_written_by_others(name: str, tokens: int) -> None:
    """Every row that is left holds a token, and every token is held."""
    module, inputs = ZOO[name]()
    labels = token_labels(raise_merges(capture(module, inputs), 0), inputs)
    assert labels is not None
    assert all(set(image.tolist()) == set(range(tokens)) for image in labels)


def test_what_cannot_be_followed_is_not_guessed() -> None:
    module, inputs = ZOO["tome_index_add"]()
    assert token_labels(raise_merges(capture(module, inputs), 0), inputs) is None


def test_pruned_tokens_are_no_regions() -> None:
    module, inputs = ZOO["prune_topk"]()
    assert token_labels(raise_merges(capture(module, inputs), 0), inputs) is None
