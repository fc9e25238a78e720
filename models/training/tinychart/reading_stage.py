"""The first stage: the vision tower learns to read, from the merged token that holds the patch of a label.

Legend: B pictures, n merged tokens, N patches, L labels, C channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_export.models.merging.bipartite import Match
from tm_export.models.merging.source import source_of
from tm_export.models.tinychart.network.vision_tower import VisionTower
from tm_export.models.tinychart.tiny.sizes import VISION_TOWER
from tm_export.models.training.stage import Losses
from tm_export.models.training.tinychart.dataset import CLASSES, DrawnChart, labels_of, pixels_of, random_charts

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
        source_BnN = source_of(matches, len(x_BnC), VISION_TOWER.tokens_in)
        out: Tensor = self.head(self.norm(source_BnN.transpose(1, 2) @ x_BnC))
        return out


def reading_losses(model: Reader, charts: Sequence[DrawnChart], generator: torch.Generator) -> Losses:
    """Return the loss of what the labels of some pictures read; see `losses_of_labels`.

    Args:
        model: what is trained.
        charts: to choose from.
        generator: of the choice.
    """
    picked = random_charts(charts, PICTURES, generator)
    out_BNX = model(*model.tower.vision_model(pixels_of(picked)))
    picture_L, labels_LX = labels_of(picked)
    return losses_of_labels(out_BNX[picture_L, labels_LX[:, 0]], labels_LX, OWN)


def losses_of_labels(out_LX: Tensor, labels_LX: Tensor, classes: int) -> Losses:
    """Return the loss of what is said of labels, and which part of them is read right, and related right too.

    Args:
        out_LX: logits of the classes, and row and column in 0..1.
        labels_LX: see `DrawnChart`.
        classes: so many of the first classes count.
    """
    patch_L = labels_LX[:, 0]
    parts = torch.split(out_LX[:, : sum(CLASSES)], list(CLASSES), dim=1)
    side = VISION_TOWER.side
    place_L2 = torch.stack([patch_L // side, patch_L % side], dim=1).float() / side
    loss_place = F.mse_loss(out_LX[:, sum(CLASSES) :], place_L2)
    loss = sum((F.cross_entropy(part, labels_LX[:, i + 1]) for i, part in enumerate(parts[:classes])), 10 * loss_place)
    right = torch.stack([part.argmax(dim=1) == labels_LX[:, i + 1] for i, part in enumerate(parts)])
    read, related = right[:OWN].all(dim=0).float().mean(), right.all(dim=0).float().mean()
    return {"loss": loss, "read": read, "related": related, "place": loss_place}
