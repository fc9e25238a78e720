"""Read the weights of TinyChart's networks; of the vision tower also those of the SigLIP that it grew from."""

import re
from functools import partial
from pathlib import Path

from tm_export.models.checkpoints.checkpoint import Weights, assign_weights, open_weights
from tm_export.models.tinychart.components import CONNECTOR_PREFIX
from tm_export.models.tinychart.network.connector import Connector
from tm_export.models.tinychart.network.language_model import LanguageModel
from tm_export.models.tinychart.network.position_table import enlarge_position_table
from tm_export.models.tinychart.network.vision_tower import VisionTower

POSITION_TABLE = "vision_model.embeddings.position_embedding.weight"
NOT_IN_TOWER = re.compile(r"text_model\.|logit_(scale|bias)$|vision_model\.head\.")
LLM_PREFIXES = ("model.", "lm_head.")
NOT_IN_LLM = ("model.mm_projector.", "model.vision_tower.")
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


def open_connector(connector: Connector, path: Path) -> Weights:
    """Open the connector in mPLUG/TinyChart-3B-768, which holds the language model too.

    Raises:
        CheckpointError: if the checkpoint cannot be read or does not fit.
    """

    def rename(key: str) -> str | None:
        if key.startswith(CONNECTOR_PREFIX):
            return key.removeprefix(CONNECTOR_PREFIX)
        return None if key.startswith(LLM_PREFIXES) else key  # of the connector alone

    return open_weights(connector, path, rename=rename)


def open_language_model(model: LanguageModel, path: Path) -> Weights:
    """Open the language model in mPLUG/TinyChart-3B-768.

    Its connector is a network of its own, and its copy of the vision tower is one that the published code leaves
    out as well: the tower is loaded from its own repository.

    Raises:
        CheckpointError: if the checkpoint cannot be read or does not fit.
    """

    def rename(key: str) -> str | None:
        return None if key.startswith(NOT_IN_LLM) else key

    return open_weights(model, path, rename=rename)
