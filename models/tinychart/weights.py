"""Read a vision tower's weights, of TinyChart itself or of the SigLIP that it grew from."""

import re
from functools import partial
from pathlib import Path

from tm_export.models.checkpoint import Weights, assign_weights, open_weights
from tm_export.models.tinychart.position_table import enlarge_position_table
from tm_export.models.tinychart.vision_tower import VisionTower

POSITION_TABLE = "vision_model.embeddings.position_embedding.weight"
NOT_IN_TOWER = re.compile(r"text_model\.|logit_(scale|bias)$|vision_model\.head\.")
LAYER = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.")


def open_vision_tower(tower: VisionTower, path: Path) -> Weights:
    """Open mPLUG/TinyChart-3B-768-siglip, or a plain SigLIP such as google/siglip-so400m-patch14-384.

    Of a plain SigLIP the text model, the pooling head and the layers after the tower's last are left out,
    and the position table is enlarged.

    Raises:
        CheckpointError: if the checkpoint cannot be read or does not fit.
    """
    num_layers, side = tower.config.num_layers, tower.config.side

    def rename(key: str) -> str | None:
        layer = LAYER.match(key)
        unwanted = NOT_IN_TOWER.match(key) or (layer and int(layer[1]) >= num_layers)
        return None if unwanted else key

    adapt = {POSITION_TABLE: partial(enlarge_position_table, side=side)}
    return open_weights(tower, path, rename=rename, adapt=adapt)


def load_vision_tower(tower: VisionTower, path: Path) -> None:
    """Load what `open_vision_tower` opens.

    Raises:
        CheckpointError: if the checkpoint cannot be read or does not fit; the tower is then as it was.
    """
    assign_weights(tower, open_vision_tower(tower, path))
