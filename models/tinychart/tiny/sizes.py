"""The sizes of `tinychart-tiny`: 144 patches become 36 visual tokens, the paper's proportion."""

from dataclasses import replace
from typing import Final

from tm_export.models.tinychart.config import LanguageModelConfig, VisionTowerConfig

VISION_TOWER: Final = VisionTowerConfig(
    hidden_size=128,
    intermediate_size=512,
    num_layers=6,
    num_heads=4,
    patch_size=8,
    image_size=96,
    tome_r=18,
)

LANGUAGE_MODEL: Final = LanguageModelConfig(
    vocab_size=512,
    hidden_size=160,
    intermediate_size=640,
    num_layers=4,
    num_heads=4,
    rotary_channels=16,
    token_ids=512,
    visual_size=VISION_TOWER.hidden_size,
    visual_tokens=VISION_TOWER.tokens_out,
    max_tokens=256,
    chunk=32,
)

# The same weights: only the tables of positions are longer.
LANGUAGE_MODEL_FOR_UNMERGED: Final = replace(
    LANGUAGE_MODEL, max_tokens=LANGUAGE_MODEL.max_tokens + VISION_TOWER.tokens_in
)
"""With room for a picture at any merge rate."""

STOP: Final = 0
"""The token that ends an answer."""

PROMPT_TOKENS: Final = 160

CANVAS: Final = 512
"""Rows and columns of pixels of the largest picture that is taken as it is."""
