"""SigLIP's learned position table, enlarged for a larger image."""

import math

from torch import Tensor
from torch.nn import functional as F


def enlarge_position_table(table_NC: Tensor, side: int) -> Tensor:
    """Return a table [side², C] for `side` rows and columns of patches, by bicubic interpolation.

    This is how TinyChart made its 54×54 positions of SigLIP's 27×27 before training. A table that has the
    wanted size already is returned as it is.

    Raises:
        ValueError: if the table is not for a square of patches.
    """
    old_side = math.isqrt(table_NC.shape[0])
    if old_side**2 != table_NC.shape[0]:
        raise ValueError(f"a position table of {table_NC.shape[0]} rows is not for a square of patches")
    if old_side == side:
        return table_NC
    grid_1CHW = table_NC.float().view(1, old_side, old_side, -1).permute(0, 3, 1, 2)
    grid_1CHW = F.interpolate(grid_1CHW, size=(side, side), mode="bicubic", align_corners=False)
    return grid_1CHW.squeeze(0).flatten(1).T.to(table_NC.dtype)
