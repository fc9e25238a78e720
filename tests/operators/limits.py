"""Calls whose numbers a target's own kernel has otherwise, and that cannot be written in others at a sane price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_RSQRT: Final = "Core ML's reciprocal square root adds 10⁻¹² to what it is of: of zero it is 10⁶"
_RSQRT_OF_ZERO: Final = "XNNPACK's reciprocal square root is NaN of zero and of subnormal numbers"

LIMITS: Final[Mapping[tuple[str, str], str]] = {
    ("coreml", "torch.rsqrt(a)"): _RSQRT,
    ("coreml", "torch.rsqrt(torch.cat([a.flatten(), torch.tensor([math.inf, -math.inf, 0.0])]))"): _RSQRT,
    ("executorch", "torch.rsqrt(a)"): _RSQRT_OF_ZERO,
    (
        "executorch",
        "torch.sqrt(torch.cat([a.flatten(), torch.tensor([math.inf, -math.inf, 0.0])]))",
    ): "XNNPACK's square root is NaN of infinity, and up to half too large above 10³⁷",
    (
        "executorch",
        "torch.rsqrt(torch.cat([a.flatten(), torch.tensor([math.inf, -math.inf, 0.0])]))",
    ): _RSQRT_OF_ZERO,
}
"""By target and call, what the kernel does: the numbers differ, which an export says if its model meets them."""
