"""Scaled dot-product attention as plain matmul, softmax, matmul.

Written out, because every target maps these three operators well, while a decomposed
`scaled_dot_product_attention` costs extra kernels on some of them.
"""

import torch
from torch import Tensor


def attend(q_BHNK: Tensor, k_BHMK: Tensor, v_BHMK: Tensor, key_bias: Tensor | None = None) -> Tensor:
    """Attend from N queries to M keys, scaled by K**-0.5, with the softmax in float32.

    B batch, H heads, N queries, M keys, K channels of one head.

    Args:
        q_BHNK: queries.
        k_BHMK: keys.
        v_BHMK: values.
        key_bias: added to the logits; broadcastable to [B, H, N, M].

    Returns:
        [B, N, H·K] with the heads concatenated, in the dtype of the values.
    """
    logits_BHNM = (q_BHNK * q_BHNK.shape[-1] ** -0.5) @ k_BHMK.transpose(-2, -1)
    if key_bias is not None:
        logits_BHNM = logits_BHNM + key_bias
    weights_BHNM = logits_BHNM.softmax(dim=-1, dtype=torch.float32).to(v_BHMK.dtype)
    out_BHNK: Tensor = weights_BHNM @ v_BHMK
    return out_BHNK.transpose(1, 2).flatten(2)


def split_heads(x_BNC: Tensor, num_heads: int) -> Tensor:
    """Return [B, H, N, K] for [B, N, H·K]."""
    return x_BNC.view(*x_BNC.shape[:2], num_heads, -1).transpose(1, 2)
