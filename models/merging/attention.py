"""Proportional attention: a token that stands for s tokens attracts attention like s tokens.

Source: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023 (arXiv 2210.09461), section 3,
equation 1.
"""

from torch import Tensor

from tm_export.models.layers.attention import attend


def proportional_attention(q_BHNK: Tensor, k_BHNK: Tensor, v_BHNK: Tensor, size_BN1: Tensor | None) -> Tensor:
    """Attend with the log of each key's size added to its logits.

    The result equals attention over the unmerged tokens if the merged ones were equal.

    Args:
        q_BHNK: queries; B batch, H heads, N tokens, K channels of one head.
        k_BHNK: keys.
        v_BHNK: values.
        size_BN1: original tokens in each token; None where nothing has been merged yet.

    Returns:
        [B, N, H·K].
    """
    if size_BN1 is None:
        return attend(q_BHNK, k_BHNK, v_BHNK)
    return attend(q_BHNK, k_BHNK, v_BHNK, key_bias=size_BN1.log().transpose(1, 2).unsqueeze(1))
