"""The encoder of T5 v1.1, which turns a prompt into the states that the denoiser attends to.

Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
arXiv 1910.10683, section 2.1; Shazeer, "GLU Variants Improve Transformer", arXiv 2002.05202, for version 1.1's
MLP. The keys and shapes are those of checkpoint DeepFloyd/t5-v1_1-xxl, hence the names of the attributes.

Its residual stream outgrows float16: weights may be stored in 16 bit, but it must be computed in float32.

Legend: B batch, L text tokens, C channels, H heads, K channels of one head.
"""

import math

import torch
from torch import Tensor, nn

from tm_export.models.layers.attention import split_heads
from tm_export.models.layers.rms_norm import RmsNorm
from tm_export.models.ondevice_sora.config import TextEncoderConfig
from tm_export.models.ondevice_sora.network.attention import text_bias

END_TOKEN = 1
FIRST_WORD = 3  # after padding, end and unknown


class Attention(nn.Module):
    """Self-attention whose logits are not divided by the root of K, as T5's are not."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        channels = config.num_heads * config.head_dim
        self.q = nn.Linear(config.hidden_size, channels, bias=False)
        self.k = nn.Linear(config.hidden_size, channels, bias=False)
        self.v = nn.Linear(config.hidden_size, channels, bias=False)
        self.o = nn.Linear(channels, config.hidden_size, bias=False)

    def forward(self, x_BLC: Tensor, bias_BHLL: Tensor) -> Tensor:
        """Return [B, L, C]; the bias is added to the logits."""
        q, k, v = (split_heads(project(x_BLC), self.num_heads) for project in (self.q, self.k, self.v))
        weights_BHLL = (q @ k.transpose(-2, -1) + bias_BHLL).softmax(dim=-1)
        out: Tensor = self.o((weights_BHLL @ v).transpose(1, 2).flatten(2))
        return out


class FirstAttention(Attention):
    """The first layer's attention, which holds the position bias of all layers."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__(config)
        self.relative_attention_bias = nn.Embedding(config.position_buckets, config.num_heads)


class GatedMlp(nn.Module):
    """GELU of one projection times another, and a projection back: [B, L, C] to [B, L, C]."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.wi_1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.wo = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.act = nn.GELU(approximate="tanh")

    def forward(self, x_BLC: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        out: Tensor = self.wo(self.act(self.wi_0(x_BLC)) * self.wi_1(x_BLC))
        return out


class AttentionSublayer(nn.Module):
    """Norm and attention, added to the residual stream."""

    def __init__(self, config: TextEncoderConfig, attention: Attention) -> None:
        super().__init__()
        self.SelfAttention = attention
        self.layer_norm = RmsNorm(config.hidden_size)

    def forward(self, x_BLC: Tensor, bias_BHLL: Tensor) -> Tensor:
        """Return the residual stream."""
        out: Tensor = self.SelfAttention(self.layer_norm(x_BLC), bias_BHLL)
        return x_BLC + out


class MlpSublayer(nn.Module):
    """Norm and MLP, added to the residual stream."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.DenseReluDense = GatedMlp(config)
        self.layer_norm = RmsNorm(config.hidden_size)

    def forward(self, x_BLC: Tensor) -> Tensor:
        """Return the residual stream."""
        out: Tensor = self.DenseReluDense(self.layer_norm(x_BLC))
        return x_BLC + out


class Layer(nn.Module):
    """One encoder layer."""

    def __init__(self, config: TextEncoderConfig, attention: Attention) -> None:
        super().__init__()
        self.layer = nn.ModuleList([AttentionSublayer(config, attention), MlpSublayer(config)])

    def forward(self, x_BLC: Tensor, bias_BHLL: Tensor) -> Tensor:
        """Return the residual stream after attention and MLP."""
        attention, mlp = self.layer
        out: Tensor = mlp(attention(x_BLC, bias_BHLL))
        return out


class Encoder(nn.Module):
    """All layers, which share one position bias, and the norm after them."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        rest = (Attention(config) for _ in range(config.num_layers - 1))
        self.block = nn.ModuleList(Layer(config, attention) for attention in (FirstAttention(config), *rest))
        self.final_layer_norm = RmsNorm(config.hidden_size)

    def forward(self, x_BLC: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the states [B, L, C] of embedded tokens."""
        bias_BHLL = self.position_bias(x_BLC.shape[1], x_BLC.device) + text_bias(mask_BL)
        for layer in self.block:
            x_BLC = layer(x_BLC, bias_BHLL)
        states: Tensor = self.final_layer_norm(x_BLC)
        return states

    def position_bias(self, length: int, device: torch.device) -> Tensor:
        """Return what each head adds to the logit of a query and a key, by how far apart they are: [H, L, L]."""
        table = self.get_submodule("block.0.layer.0.SelfAttention.relative_attention_bias")
        bias_LLH: Tensor = table(position_buckets(self.config, length, device))
        return bias_LLH.permute(2, 0, 1)


class TextEncoder(nn.Module):
    """Token ids to text states."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.shared = nn.Embedding(config.vocab_size, config.hidden_size)
        self.encoder = Encoder(config)

    def forward(self, input_ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the states [B, L, C], float32; those of padding mean nothing.

        Args:
            input_ids_BL: int64, the prompt's tokens, then the end token 1, then padding 0.
            mask_BL: 1 for a real token and 0 for padding, float. Each row needs a real token.
        """
        states: Tensor = self.encoder(self.shared(input_ids_BL), mask_BL)
        return states


def position_buckets(config: TextEncoderConfig, length: int, device: torch.device) -> Tensor:
    """Return the class [L, L], int64, of each key's position relative to each query's.

    One half of the classes is for keys before the query and at it, the other for keys after it. In each half
    the first classes are single distances; the others grow wider by a constant factor up to `max_distance`.
    """
    per_side = config.position_buckets // 2
    exact = per_side // 2
    positions = torch.arange(length, device=device)
    relative_LL = positions[None, :] - positions[:, None]
    distance_LL = relative_LL.abs()
    # In float32, as the network was trained: where a class begins can depend on the rounding.
    growth_LL = (distance_LL.clamp(min=1).float() / exact).log() / math.log(config.max_distance / exact)
    wide_LL = (exact + (growth_LL * (per_side - exact)).long()).clamp(max=per_side - 1)
    side_LL = (relative_LL > 0).long() * per_side
    return side_LL + torch.where(distance_LL < exact, distance_LL, wide_LL)
