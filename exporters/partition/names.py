"""The names of blocks, and of what a block reads and writes."""

from __future__ import annotations

from tm_export.exporters.partition.cut import BlockPieces
from tm_export.exporters.partition.prepare import Prepared
from tm_export.exporters.targets.base import Signature


def block_name(index: int, count: int) -> str:
    """What a block is called: its number, in digits enough for all."""
    return f"{index:0{max(2, len(str(count - 1)))}d}"


def signature_of_piece(prepared: Prepared, block: BlockPieces, variant: str) -> Signature:
    """Names of a piece's inputs and outputs in its artifact: public ones for a component that is one block."""
    if len(prepared.blocks) == 1:
        return prepared.signature
    piece = block.pieces[variant]
    return Signature(tuple(f"x{i}" for i in range(len(piece.reads))), tuple(f"y{i}" for i in range(len(piece.writes))))
