"""Self-attention over tokens and cross-attention to the text.

Source: Open-Sora 1.2's STDiT3, whose checkpoint keys these modules keep.
"""

from torch import Tensor, nn

from tm_export.models.layers.attention import attend, split_heads
from tm_export.models.layers.rms_norm import RmsNorm
from tm_export.models.ondevice_sora.config import DenoiserConfig
from tm_export.models.ondevice_sora.network.rope import Rotation, rotate

# Not −inf, which is NaN where every key is masked and out of range on Apple's neural engine. Its exp is 0.
MASKED_LOGIT = -40000.0


class SelfAttention(nn.Module):
    """Attention among the N tokens of a sequence, with normed queries and keys: [B, N, C] to [B, N, C]."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.q_norm = RmsNorm(config.head_dim)
        self.k_norm = RmsNorm(config.head_dim)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_BNC: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Attend; with a rotation, queries and keys are rotated after they are normed."""
        q, k, v = (split_heads(part, self.num_heads) for part in self.qkv(x_BNC).chunk(3, dim=-1))
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        out: Tensor = self.proj(attend(q, k, v))
        return out


class CrossAttention(nn.Module):
    """Attention from the N video tokens to the L text tokens of the same batch row."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_linear = nn.Linear(config.hidden_size, config.hidden_size)
        self.kv_linear = nn.Linear(config.hidden_size, 2 * config.hidden_size)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_BNC: Tensor, y_BLC: Tensor, text_bias_B11L: Tensor) -> Tensor:
        """Return [B, N, C]; `text_bias` is from `text_bias`."""
        q = split_heads(self.q_linear(x_BNC), self.num_heads)
        k, v = (split_heads(part, self.num_heads) for part in self.kv_linear(y_BLC).chunk(2, dim=-1))
        out: Tensor = self.proj(attend(q, k, v, key_bias=text_bias_B11L))
        return out


def text_bias(mask_BL: Tensor) -> Tensor:
    """Return the bias [B, 1, 1, L] on cross-attention logits that hides padding.

    It gives what attention over the real text tokens alone would give, which is how the published code
    does it, by packing them. That makes the shapes depend on the prompt; this does not.

    Args:
        mask_BL: 1 for a real token and 0 for padding, float; B may be 1. Each row needs a real token.
    """
    return ((1 - mask_BL) * MASKED_LOGIT)[:, None, None, :]
