"""The second stage: the tower goes on, seen through the connector, as the language model will see it.

What a merged token shows after the connector is to say of a label what it reads and what belongs to it, of a name the
values and whether they are the largest or the smallest, of a value the name; and of a token without a label that it has
none, so that nothing in it passes for one.

Legend: B pictures, n merged tokens, N patches, L labels, C channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tm_export.models.merging.bipartite import Match
from tm_export.models.merging.source import region_labels, source_of
from tm_export.models.tinychart.network.connector import Connector
from tm_export.models.tinychart.network.vision_tower import VisionTower
from tm_export.models.tinychart.tiny.sizes import LANGUAGE_MODEL, VISION_TOWER
from tm_export.models.training.stage import Losses
from tm_export.models.training.tinychart.dataset import CLASSES, PLACE, DrawnChart, labels_of, pixels_of, random_charts
from tm_export.models.training.tinychart.merge_rates import features_at, random_rate
from tm_export.models.training.tinychart.reading_stage import PICTURES, losses_of_labels

SAYS_NOTHING = {i: count - 1 for i, count in enumerate(CLASSES) if i != PLACE}
"""Of a token without a label, by the number of the class."""


class Relater(nn.Module):
    """The tower and the connector, and what names a label by the connector's output."""

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        self.tower = tower
        self.connector = Connector(LANGUAGE_MODEL)
        self.norm = nn.LayerNorm(LANGUAGE_MODEL.hidden_size)
        self.head = nn.Linear(LANGUAGE_MODEL.hidden_size, sum(CLASSES) + 2)

    def forward(self, pixels_BCHW: Tensor, rate: int) -> tuple[Tensor, Sequence[Match]]:
        """Return logits of the classes, and row and column in 0..1, for each merged token: [B, n, classes + 2]."""
        x_BnC, matches = features_at(self.tower, rate, pixels_BCHW)
        out: Tensor = self.head(self.norm(self.connector(x_BnC)))
        return out, matches


def relating_losses(model: Relater, charts: Sequence[DrawnChart], generator: torch.Generator) -> Losses:
    """Return the loss of all labels of some pictures, and of the tokens that hold none.

    Args:
        model: what is trained.
        charts: to choose from.
        generator: of the choice.
    """
    picked = random_charts(charts, PICTURES, generator)
    out_BnX, matches = model(pixels_of(picked), random_rate(generator))
    picture_L, labels_LX = labels_of(picked)
    source_BnN = source_of(matches, len(picked), VISION_TOWER.tokens_in)
    token_L = region_labels(source_BnN)[picture_L, labels_LX[:, 0]]
    losses = losses_of_labels(out_BnX[picture_L, token_L], labels_LX, len(CLASSES))

    empty_Bn = torch.ones(out_BnX.shape[:2], dtype=torch.bool)
    empty_Bn[picture_L, token_L] = False
    parts = torch.split(out_BnX[empty_Bn][:, : sum(CLASSES)], list(CLASSES), dim=1)
    nothing = torch.stack([parts[i].log_softmax(dim=1)[:, wanted] for i, wanted in SAYS_NOTHING.items()])
    silent = torch.stack([parts[i].argmax(dim=1) == wanted for i, wanted in SAYS_NOTHING.items()])
    loss_empty = -nothing.mean(dim=1).sum()
    return {**losses, "loss": losses["loss"] + loss_empty, "silent": silent.all(dim=0).float().mean()}
