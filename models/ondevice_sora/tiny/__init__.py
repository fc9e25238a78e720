"""`ondevice-sora-tiny`: synthetic videos, a detector that reads them, the stages of training."""

from pathlib import Path
from typing import Final

WEIGHTS: Final = Path(__file__).parent / "weights"
"""What training left: a file for each network."""
