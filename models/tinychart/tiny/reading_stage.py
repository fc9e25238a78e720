"""The first stages: the vision tower learns to read, from the merged token that holds the patch of a label.

It learns to name the label's own text first, and then what belongs to it: of a name the values, of a value the name.

Legend: B pictures, n merged tokens, N patches, C channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_export.models.merging.bipartite import Match
from tm_export.models.merging.source import initial_source, merge_source
from tm_export.models.tinychart.tiny.dataset import CLASSES, DrawnChart, pixels_of
from tm_export.models.tinychart.tiny.sizes import VISION_TOWER
from tm_export.models.tinychart.vision_tower import VisionTower
from tm_export.models.training_stage import Losses

PICTURES = 32
OWN = 3
"""The first of the classes are of the label itself."""


class Reader(nn.Module):
    """The tower, and what names a label and says where in the picture it is."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = VisionTower(VISION_TOWER)
        self.norm = nn.LayerNorm(VISION_TOWER.hidden_size)
        self.head = nn.Linear(VISION_TOWER.hidden_size, sum(CLASSES) + 2)

    def forward(self, x_BnC: Tensor, matches: Sequence[Match]) -> Tensor:
        """Return logits of the classes, and row and column in 0..1, for each patch's token: [B, N, classes + 2].

        Args:
            x_BnC: the tower's features.
            matches: of its layers.
        """
        source_BnN = initial_source(len(x_BnC), VISION_TOWER.tokens_in)
        for match in matches:
            source_BnN = merge_source(source_BnN, match)
        out: Tensor = self.head(self.norm(source_BnN.transpose(1, 2) @ x_BnC))
        return out


def reading_losses(model: Reader, charts: Sequence[DrawnChart], classes: int, generator: torch.Generator) -> Losses:
    """Return the loss of all labels of some pictures; see `label_losses`.

    Args:
        model: what is trained.
        charts: to choose from.
        classes: so many of the first classes count.
        generator: of the choice.
    """
    picked = [charts[i] for i in torch.randint(len(charts), (PICTURES,), generator=generator).tolist()]
    return label_losses(model(*model.tower.vision_model(pixels_of(picked))), picked, classes)


def label_losses(out_BNX: Tensor, charts: Sequence[DrawnChart], classes: int) -> Losses:
    """Return the loss of what a reader says, and which part of the labels is read right, and related right too.

    Args:
        out_BNX: what it says of each patch's token.
        charts: the pictures.
        classes: so many of the first classes count.
    """
    picture = torch.cat([torch.full((len(chart.labels),), i) for i, chart in enumerate(charts)])
    labels = torch.cat([chart.labels for chart in charts])
    patch = labels[:, 0]
    out_LX = out_BNX[picture, patch]
    parts = torch.split(out_LX[:, : sum(CLASSES)], list(CLASSES), dim=1)
    side = VISION_TOWER.side
    place = torch.stack([patch // side, patch % side], dim=1).float() / side
    loss_place = F.mse_loss(out_LX[:, sum(CLASSES) :], place)
    loss = sum((F.cross_entropy(part, labels[:, i + 1]) for i, part in enumerate(parts[:classes])), 10 * loss_place)
    right = torch.stack([part.argmax(dim=1) == labels[:, i + 1] for i, part in enumerate(parts)])
    read, related = right[:OWN].all(dim=0).float().mean(), right.all(dim=0).float().mean()
    return {"loss": loss, "read": read, "related": related, "place": loss_place}
