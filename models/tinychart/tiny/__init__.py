"""`tinychart-tiny`: synthetic charts, questions about them and their tokenizer."""

from pathlib import Path
from typing import Final

WEIGHTS: Final = Path(__file__).parent / "weights"
"""What training left: a file for each network."""
