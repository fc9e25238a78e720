"""The decoder of the spatial VAE: latent frames to pictures.

Source: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv 2112.10752,
appendix E, as diffusers' AutoencoderKL has it; the keys and shapes are those of its part of the checkpoint
hpcai-tech/OpenSora-VAE-v1.2.

Legend: F frames, C channels, H rows, W columns.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from tm_export.models.layers.attention import attend, split_heads
from tm_export.models.ondevice_sora.config import SpatialVaeConfig

NORM_EPS = 1e-6


class PictureBlock(nn.Module):
    """Twice norm, SiLU and convolution, added to the input, or to its projection where channels change."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=NORM_EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=NORM_EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x_FCHW: Tensor) -> Tensor:
        """Return pictures of the same size."""
        h: Tensor = self.conv1(F.silu(self.norm1(x_FCHW)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x_FCHW if self.conv_shortcut is None else self.conv_shortcut(x_FCHW))


class PixelAttention(nn.Module):
    """Attention of one head among the places of a picture, added to it."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x_FCHW: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        h_FNC = self.group_norm(x_FCHW).flatten(2).transpose(1, 2)
        q, k, v = (split_heads(project(h_FNC), 1) for project in (self.to_q, self.to_k, self.to_v))
        out_FNC: Tensor = self.to_out[0](attend(q, k, v))
        return x_FCHW + out_FNC.transpose(1, 2).reshape(x_FCHW.shape)


class MiddleBlock(nn.Module):
    """Block, attention, block, at the size of the latent."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(PictureBlock(channels, channels, groups) for _ in range(2))
        self.attentions = nn.ModuleList([PixelAttention(channels, groups)])

    def forward(self, x_FCHW: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        x: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x_FCHW)))
        return x


class Upsample(nn.Module):
    """Each pixel four times, then a convolution: [F, C, H, W] to [F, C, 2·H, 2·W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_FCHW: Tensor) -> Tensor:
        """Return the larger pictures."""
        out: Tensor = self.conv(F.interpolate(x_FCHW, scale_factor=2.0, mode="nearest"))
        return out


class UpBlock(nn.Module):
    """One stage: its blocks, and in all stages but the last, which has no `upsamplers`, the doubling."""

    def __init__(self, in_channels: int, out_channels: int, config: SpatialVaeConfig, upsamplers: int) -> None:
        super().__init__()
        widths = [in_channels, *[out_channels] * (config.blocks_per_stage - 1)]
        self.resnets = nn.ModuleList(PictureBlock(width, out_channels, config.groups) for width in widths)
        self.upsamplers = nn.ModuleList(Upsample(out_channels) for _ in range(upsamplers))

    def forward(self, x_FCHW: Tensor) -> Tensor:
        """Return what the next stage takes."""
        for part in (*self.resnets, *self.upsamplers):
            x_FCHW = part(x_FCHW)
        return x_FCHW


class SpatialDecoder(nn.Module):
    """Latents to pictures: [F, C, H, W] to [F, 3, 8·H, 8·W]."""

    def __init__(self, config: SpatialVaeConfig) -> None:
        super().__init__()
        widths = config.channels[::-1]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = MiddleBlock(widths[0], config.groups)
        last = len(widths) - 1
        self.up_blocks = nn.ModuleList(
            UpBlock(widths[max(stage - 1, 0)], width, config, upsamplers=int(stage < last))
            for stage, width in enumerate(widths)
        )
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[-1], eps=NORM_EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.image_channels, 3, padding=1)

    def forward(self, z_FCHW: Tensor) -> Tensor:
        """Return the pictures."""
        x: Tensor = self.mid_block(self.conv_in(z_FCHW))
        for stage in self.up_blocks:
            x = stage(x)
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return out


class SpatialVae(nn.Module):
    """The part of the spatial VAE that decodes."""

    def __init__(self, config: SpatialVaeConfig) -> None:
        super().__init__()
        self.post_quant_conv = nn.Conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = SpatialDecoder(config)

    def forward(self, z_FCHW: Tensor) -> Tensor:
        """Return the pictures."""
        pictures: Tensor = self.decoder(self.post_quant_conv(z_FCHW))
        return pictures


class VaeSpatial(nn.Module):
    """Frames of the latent video to pictures."""

    def __init__(self, config: SpatialVaeConfig) -> None:
        super().__init__()
        self.latent_scale = config.latent_scale
        # Two levels of names, because the published keys have them.
        self.spatial_vae = nn.ModuleDict({"module": SpatialVae(config)})

    def forward(self, frames_FCHW: Tensor) -> Tensor:
        """Return pictures [F, 3, 8·H, 8·W], about −1..1, of frames [F, 4, H, W] of the temporal VAE."""
        pictures: Tensor = self.spatial_vae["module"](frames_FCHW / self.latent_scale)
        return pictures
