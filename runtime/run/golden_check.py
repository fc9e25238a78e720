"""Compares a run's outputs with the golden ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from tm_export.runtime.engines.base import Array
from tm_export.runtime.run import closeness

MIN_PSNR_DB: Final = 40.0
"""What an fp16 artifact must reach when it is exported; the manifest does not say how narrow an artifact computes."""


@dataclass(frozen=True)
class Difference:
    """How far one output is from the golden one; `psnr_db` is infinite if they are equal."""

    output: str
    max_abs_error: float
    psnr_db: float
    passed: bool
    """Whether the output counts as the same."""


def difference(output: str, got: Array, golden: Array) -> Difference:
    """The largest error, and the PSNR against the golden output's largest absolute value.

    Not finite where the golden output is, or in another shape, is infinitely far. Integers and booleans must be equal.
    """
    found = closeness.difference(got, golden)
    psnr_db = math.inf if found.psnr_db is None else found.psnr_db
    return Difference(output, found.max_abs_error, psnr_db, found.within(math.inf, MIN_PSNR_DB))
