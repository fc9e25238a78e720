"""What a user can choose about an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tm_export.exporters.errors import UsageError

Precision = Literal["fp32", "fp16"]
Backend = Literal["xnnpack", "coreml", "portable"]
MergeLowering = Literal["auto", "gather", "onehot", "rank", "arith"]


@dataclass(frozen=True)
class ExportOptions:
    """Choices that change what an artifact contains.

    `precision` None means the target's own default: fp16 for Core ML, fp32 elsewhere. `backend` is ExecuTorch's.
    `seed` fixes random choices made inside the model, such as a random split of tokens.
    """

    precision: Precision | None = None
    backend: Backend = "xnnpack"
    merge_lowering: MergeLowering = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values outside the lists above."""
        for name, allowed in (
            ("precision", Precision),
            ("backend", Backend),
            ("merge_lowering", MergeLowering),
        ):
            value = getattr(self, name)
            if value is not None and value not in get_args(allowed):
                option = name.replace("_", "-")
                raise UsageError(f"{option} {value!r} is not known: choose one of {', '.join(get_args(allowed))}")
