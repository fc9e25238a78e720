"""The encoder of Open-Sora 1.2's temporal VAE, which only training needs.

Source: as of `temporal_vae.py`; keys and shapes are those of `temporal_vae.encoder` and `.quant_conv` in the
checkpoint hpcai-tech/OpenSora-VAE-v1.2.

Legend: B batch, C channels, T frames, H rows and W columns of the latent video.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from tm_export.models.ondevice_sora.config import TemporalVaeConfig
from tm_export.models.ondevice_sora.network.temporal_vae import CausalConv, VideoGroupNorm, stage


class HalveTime(nn.Module):
    """A causal convolution of stride 2 along time, one zero frame before the first: T to T/2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, stride=(2, 1, 1), padding=(0, 1, 1))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return half as many frames."""
        out: Tensor = self.conv(F.pad(x_BCTHW, (0, 0, 0, 0, 1, 0)))
        return out


class FrameEncoder(nn.Module):
    """Frames to the moments of a quarter as many: [B, 4, 4·T, H, W] to [B, 8, T, H, W]."""

    def __init__(self, config: TemporalVaeConfig) -> None:
        super().__init__()
        widths = config.channels
        self.conv_in = CausalConv(config.latent_channels, widths[0], 3, bias=False)
        self.block_res_blocks = nn.ModuleList(
            stage(config, narrower, width) for narrower, width in zip((widths[0], *widths[:-1]), widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            HalveTime(width, width) if doubles else nn.Identity()
            for width, doubles in zip(widths[:-1], config.doubles_time, strict=True)
        )
        self.res_blocks = stage(config, widths[-1], widths[-1])
        self.norm1 = VideoGroupNorm(config.groups, widths[-1])
        self.conv2 = CausalConv(widths[-1], 2 * config.latent_channels, 1)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return the moments."""
        x: Tensor = self.conv_in(x_BCTHW)
        for number, blocks in enumerate(self.block_res_blocks):
            x = blocks(x)
            if number < len(self.conv_blocks):
                x = self.conv_blocks[number](x)
        out: Tensor = self.conv2(F.silu(self.norm1(self.res_blocks(x))))
        return out


class TemporalEncoder(nn.Module):
    """The part of the temporal VAE that encodes one window."""

    def __init__(self, config: TemporalVaeConfig) -> None:
        super().__init__()
        self.frames_before = config.frames_dropped
        self.encoder = FrameEncoder(config)
        self.quant_conv = CausalConv(2 * config.latent_channels, 2 * config.latent_channels, 1)

    def forward(self, x_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance [B, 4, 5, H, W] of a window of 17 frames [B, 4, 17, H, W].

        Zeros stand for the three frames before the window, in whose place the decoder gives frames to drop.
        """
        moments: Tensor = self.quant_conv(self.encoder(F.pad(x_BCTHW, (0, 0, 0, 0, self.frames_before, 0))))
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, log_variance
