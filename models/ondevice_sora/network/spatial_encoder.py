"""The encoder of Open-Sora 1.2's spatial VAE, which only training needs.

Source: as of `spatial_vae.py`; keys and shapes are those of `spatial_vae.module.encoder` and `.quant_conv` in the
checkpoint hpcai-tech/OpenSora-VAE-v1.2.

Legend: F frames, C channels, H rows, W columns.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from tm_export.models.ondevice_sora.config import SpatialVaeConfig
from tm_export.models.ondevice_sora.network.spatial_vae import NORM_EPS, MiddleBlock, PictureBlock


class Downsample(nn.Module):
    """A convolution of stride 2, with the zeros that it needs below and to the right: H, W to H/2, W/2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_FCHW: Tensor) -> Tensor:
        """Return the smaller pictures."""
        out: Tensor = self.conv(F.pad(x_FCHW, (0, 1, 0, 1)))
        return out


class DownBlock(nn.Module):
    """One stage: its blocks, one fewer than the decoder's, and in all stages but the last the halving."""

    def __init__(self, in_channels: int, out_channels: int, config: SpatialVaeConfig, downsamplers: int) -> None:
        super().__init__()
        widths = [in_channels, *[out_channels] * (config.blocks_per_stage - 2)]
        self.resnets = nn.ModuleList(PictureBlock(width, out_channels, config.groups) for width in widths)
        self.downsamplers = nn.ModuleList(Downsample(out_channels) for _ in range(downsamplers))

    def forward(self, x_FCHW: Tensor) -> Tensor:
        """Return what the next stage takes."""
        for part in (*self.resnets, *self.downsamplers):
            x_FCHW = part(x_FCHW)
        return x_FCHW


class PictureEncoder(nn.Module):
    """Pictures to moments: [F, 3, 8·H, 8·W] to [F, 8, H, W]."""

    def __init__(self, config: SpatialVaeConfig) -> None:
        super().__init__()
        widths = config.channels
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config.image_channels, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownBlock(widths[max(stage - 1, 0)], width, config, downsamplers=int(stage < last))
            for stage, width in enumerate(widths)
        )
        self.mid_block = MiddleBlock(widths[-1], config.groups)
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_channels, 3, padding=1)

    def forward(self, x_FCHW: Tensor) -> Tensor:
        """Return the moments."""
        x: Tensor = self.conv_in(x_FCHW)
        for stage in self.down_blocks:
            x = stage(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        return out


class SpatialEncoder(nn.Module):
    """The part of the spatial VAE that encodes; it needs two blocks per stage or more."""

    def __init__(self, config: SpatialVaeConfig) -> None:
        super().__init__()
        self.encoder = PictureEncoder(config)
        self.quant_conv = nn.Conv2d(2 * config.latent_channels, 2 * config.latent_channels, 1)

    def forward(self, x_FCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance [F, 4, H, W] of the latents of pictures [F, 3, 8·H, 8·W]."""
        mean, log_variance = self.quant_conv(self.encoder(x_FCHW)).chunk(2, dim=1)
        return mean, log_variance
