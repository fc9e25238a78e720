"""The decoder of Open-Sora 1.2's temporal VAE: a window of latent frames to the frames of a latent video.

Source: Open-Sora 1.2 (github.com/hpcaitech/Open-Sora), checkpoint hpcai-tech/OpenSora-VAE-v1.2, whose keys and
shapes these modules have; Yu et al., "Language Model Beats Diffusion", arXiv 2310.05737, section 3.1, for the
causal convolutions and the doubling of time.

Legend: B batch, C channels, T frames, H rows and W columns of the latent video.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tm_export.models.ondevice_sora.config import TemporalVaeConfig


class CausalConv(nn.Module):
    """A convolution of k×k×k that sees no later frame: zeros stand for the k−1 frames before the first."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__()
        self.frames_before = kernel - 1
        spatial = kernel // 2
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, padding=(0, spatial, spatial), bias=bias)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return as many frames, rows and columns as came in."""
        out: Tensor = self.conv(F.pad(x_BCTHW, (0, 0, 0, 0, self.frames_before, 0)))
        return out


class VideoGroupNorm(nn.GroupNorm):
    """Group norm over all frames of a video."""

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return the same shape; computed with rows and columns as one axis, since Core ML has no 5-D form."""
        return super().forward(x_BCTHW.flatten(3)).view_as(x_BCTHW)


class VideoBlock(nn.Module):
    """Twice norm, SiLU and convolution, added to the input, or to its projection where channels change."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = VideoGroupNorm(groups, in_channels)
        self.conv1 = CausalConv(in_channels, out_channels, 3, bias=False)
        self.norm2 = VideoGroupNorm(groups, out_channels)
        self.conv2 = CausalConv(out_channels, out_channels, 3, bias=False)
        self.conv3 = CausalConv(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else None

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return a video of the same size."""
        h: Tensor = self.conv1(F.silu(self.norm1(x_BCTHW)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x_BCTHW if self.conv3 is None else self.conv3(x_BCTHW))


class DoubleTime(CausalConv):
    """A convolution whose channels make two frames of each: [B, C, T, H, W] to [B, C, 2·T, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2 * channels, 3)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return twice as many frames."""
        return interleave_frames(super().forward(x_BCTHW))


class TemporalDecoder(nn.Module):
    """Latent frames to four times as many: [B, C, T, H, W] to [B, C, 4·T, H, W]."""

    def __init__(self, config: TemporalVaeConfig) -> None:
        super().__init__()
        widths = config.channels
        self.conv1 = CausalConv(config.latent_channels, widths[-1], 3)
        self.res_blocks = stage(config, widths[-1], widths[-1])
        # Stages are numbered from the output, as the encoder has them, and run from the last to the first.
        self.block_res_blocks = nn.ModuleList(
            stage(config, wider, width) for width, wider in zip(widths, (*widths[1:], widths[-1]), strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            DoubleTime(width) if doubles else nn.Identity()
            for width, doubles in zip(widths[1:], config.doubles_time, strict=True)
        )
        self.norm1 = VideoGroupNorm(config.groups, widths[0])
        self.conv_out = CausalConv(widths[0], config.latent_channels, 3)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return the decoded frames; the first three stand for the padding before the window."""
        x: Tensor = self.res_blocks(self.conv1(x_BCTHW))
        for number in reversed(range(len(self.block_res_blocks))):
            x = self.block_res_blocks[number](x)
            if number > 0:
                x = self.conv_blocks[number - 1](x)
        out: Tensor = self.conv_out(F.silu(self.norm1(x)))
        return out


def stage(config: TemporalVaeConfig, in_channels: int, out_channels: int) -> nn.Sequential:
    """Return the residual blocks of one stage, of which the first changes the channels."""
    widths = (in_channels, *[out_channels] * (config.blocks_per_stage - 1))
    return nn.Sequential(*(VideoBlock(width, out_channels, config.groups) for width in widths))


def interleave_frames(x_BCTHW: Tensor) -> Tensor:
    """Return [B, C/2, 2·T, H, W]: channels 2c and 2c+1 of frame t become channel c of frames 2t and 2t+1."""
    batch, channels, frames, height, width = x_BCTHW.shape
    # No more than five axes, which is what Core ML has.
    pairs = x_BCTHW.reshape(batch * channels // 2, 2, frames, height * width)
    return pairs.transpose(1, 2).reshape(batch, channels // 2, 2 * frames, height, width)


class TemporalVae(nn.Module):
    """The part of the temporal VAE that decodes."""

    def __init__(self, config: TemporalVaeConfig) -> None:
        super().__init__()
        self.post_quant_conv = CausalConv(config.latent_channels, config.latent_channels, 1)
        self.decoder = TemporalDecoder(config)

    def forward(self, z_BCTHW: Tensor) -> Tensor:
        """Return the decoded frames, those of the padding too."""
        frames: Tensor = self.decoder(self.post_quant_conv(z_BCTHW))
        return frames


class VaeTemporal(nn.Module):
    """One window of what the denoiser made to the latent frames that the spatial VAE decodes."""

    scale: Tensor
    shift: Tensor

    def __init__(self, config: TemporalVaeConfig) -> None:
        super().__init__()
        self.frames_dropped = config.frames_dropped
        self.temporal_vae = TemporalVae(config)
        self.register_buffer("scale", torch.ones(1, config.latent_channels, 1, 1, 1))
        self.register_buffer("shift", torch.zeros(1, config.latent_channels, 1, 1, 1))

    def forward(self, z_BCTHW: Tensor) -> Tensor:
        """Return the frames [B, 4, 17, H, W] of 5 normalised latent frames [B, 4, 5, H, W]."""
        frames: Tensor = self.temporal_vae(z_BCTHW * self.scale + self.shift)
        return frames[:, :, self.frames_dropped :]
