"""What is made of the denoiser's inputs before its blocks: patches, positions, time, text.

Source: Open-Sora 1.2's STDiT3 (github.com/hpcaitech/Open-Sora), whose checkpoint keys these modules keep.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_export.models.ondevice_sora.config import DenoiserConfig

PATCH_SIZE = (1, 2, 2)
INPUT_SQUARE_SIZE = 512  # the image size whose token grid the positions are measured in
TIMESTEP_FREQUENCIES = 128
BASE_PERIOD = 10000.0


class PatchEmbedding(nn.Module):
    """Patches of 1×2×2 as tokens: [B, C_in, T, H, W] to [B, T, S, C], H and W padded with zeros to even."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.proj = nn.Conv3d(config.in_channels, config.hidden_size, PATCH_SIZE, stride=PATCH_SIZE)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return the tokens in the order frame, row, column."""
        height, width = x_BCTHW.shape[-2:]
        if height % 2 or width % 2:
            x_BCTHW = F.pad(x_BCTHW, (0, width % 2, 0, height % 2))
        patches: Tensor = self.proj(x_BCTHW)
        return patches.flatten(3).permute(0, 2, 3, 1)


def position_embedding(config: DenoiserConfig, device: torch.device) -> Tensor:
    """Return the sine-cosine embedding [S, C] of each token's place in its frame, float32.

    The first half of the channels encodes the column and the second the row. Coordinates are scaled by the
    token grid and the pixel size, so that a place in the picture has about the same ones at every size.
    """
    rows, columns = config.grid
    base = round(math.sqrt(config.tokens_per_frame))
    scale = math.sqrt(config.pixel_height * config.pixel_width) / INPUT_SQUARE_SIZE
    half = config.hidden_size // 2
    inv_freq = BASE_PERIOD ** -(torch.arange(0, half, 2, device=device, dtype=torch.float32) / half)

    def embed(count: int) -> Tensor:
        coordinates = torch.arange(count, device=device, dtype=torch.float32) / scale * (base / count)
        angles = coordinates[:, None] * inv_freq
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    column = embed(columns).unsqueeze(0).expand(rows, -1, -1)
    row = embed(rows).unsqueeze(1).expand(-1, columns, -1)
    return torch.cat([column, row], dim=-1).flatten(0, 1)


class ScalarEmbedding(nn.Module):
    """A number per batch row, such as the timestep in (0, 1000] or the frame rate: [B] to [B, C]."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * TIMESTEP_FREQUENCIES, config.hidden_size),
            nn.SiLU(),
            nn.Linear(config.hidden_size, config.hidden_size),
        )

    def forward(self, value_B: Tensor) -> Tensor:
        """Return the embedding, of 128 cosines and then 128 sines passed through an MLP."""
        steps = torch.arange(TIMESTEP_FREQUENCIES, device=value_B.device, dtype=torch.float32)
        frequencies = torch.exp(steps * (-math.log(BASE_PERIOD) / TIMESTEP_FREQUENCIES))
        angles = value_B.float()[:, None] * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        embedding: Tensor = self.mlp(waves.to(value_B.dtype))
        return embedding


class Mlp(nn.Module):
    """Linear, GELU in its tanh form, Linear."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_channels, hidden_channels)
        self.act = nn.GELU(approximate="tanh")
        self.fc2 = nn.Linear(hidden_channels, out_channels)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """Return a tensor with `out_channels` in place of `in_channels`."""
        out: Tensor = self.fc2(self.act(self.fc1(x_BNC)))
        return out


class TextEmbedding(nn.Module):
    """Text states projected to tokens: [B, L, D] to [B, L, C].

    Holds the learned null text as well, which stands for an empty prompt in classifier-free guidance. The
    network does not choose it by itself: the caller puts `null_text` into the batch.
    """

    y_embedding: Tensor

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        null_text = torch.randn(config.max_text_tokens, config.caption_channels)
        self.register_buffer("y_embedding", null_text / config.caption_channels**0.5)
        self.y_proj = Mlp(config.caption_channels, config.hidden_size, config.hidden_size)

    def forward(self, y_BLD: Tensor) -> Tensor:
        """Return the text tokens."""
        tokens: Tensor = self.y_proj(y_BLD)
        return tokens

    def null_text(self, text_tokens: int) -> Tensor:
        """Return the empty prompt [1, 1, L, D]: the first L rows, to go with the prompt's own mask."""
        return self.y_embedding[None, None, :text_tokens]
