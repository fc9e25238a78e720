"""The sizes of the networks, and the one video size that each is built for."""

from dataclasses import dataclass
from typing import Literal

Variant = Literal["full", "merged"]


@dataclass(frozen=True)
class DenoiserConfig:
    """Everything that fixes the shapes of a denoiser.

    The defaults are those of STDiT3-XL/2 for 68 frames of 256×256 pixels.

    Attributes:
        depth: pairs of one spatial and one temporal block.
        hidden_size: channels of a token; a multiple of 4 and of `2 * num_heads`.
        num_heads: attention heads.
        mlp_ratio: hidden channels of a block's MLP by `hidden_size`.
        in_channels: channels of the latent video; the network returns twice as many.
        caption_channels: channels of the text encoder's states.
        max_text_tokens: rows of the learned null text.
        text_tokens: text rows of the input, L; padding among them is masked.
        frames: latent frames, T.
        height: rows of the latent video, H.
        width: columns of the latent video, W.
        pixel_height: rows of the decoded video; scales the position embedding.
        pixel_width: columns of the decoded video.
        unshifted_pixels: pixels times latent frames of the video whose times are evenly spaced: the published networks'
            is one picture of 512×512. Larger ones are given more steps near the noise, smaller ones fewer.
    """

    depth: int = 28
    hidden_size: int = 1152
    num_heads: int = 16
    mlp_ratio: int = 4
    in_channels: int = 4
    caption_channels: int = 4096
    max_text_tokens: int = 300
    text_tokens: int = 300
    frames: int = 20
    height: int = 32
    width: int = 32
    pixel_height: int = 256
    pixel_width: int = 256
    unshifted_pixels: int = 512 * 512

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def out_channels(self) -> int:
        """Channels of the prediction: the velocity, then a variance that the sampler does not use."""
        return 2 * self.in_channels

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens in one frame: the latent size, padded to even, in patches of 2×2."""
        return (self.height + 1) // 2, (self.width + 1) // 2

    @property
    def tokens_per_frame(self) -> int:
        """Tokens of one frame, S."""
        rows, columns = self.grid
        return rows * columns


@dataclass(frozen=True)
class TextEncoderConfig:
    """Everything that fixes the shapes of a text encoder; the defaults are those of T5 v1.1-XXL.

    Attributes:
        num_layers: encoder layers.
        hidden_size: channels of a text state.
        num_heads: attention heads.
        head_dim: channels of one head; `num_heads * head_dim` need not be `hidden_size`.
        intermediate_size: hidden channels of an MLP.
        vocab_size: rows of the token table.
        position_buckets: classes of relative position that have a bias of their own; a multiple of 4.
        max_distance: from this many tokens apart, all relative positions are of one class.
        text_tokens: tokens of the input, L; padding among them is masked.
    """

    num_layers: int = 24
    hidden_size: int = 4096
    num_heads: int = 64
    head_dim: int = 64
    intermediate_size: int = 10240
    vocab_size: int = 32128
    position_buckets: int = 32
    max_distance: int = 128
    text_tokens: int = 300


@dataclass(frozen=True)
class TemporalVaeConfig:
    """Everything that fixes the shapes of the temporal VAE's decoder; the defaults are Open-Sora 1.2's.

    Attributes:
        latent_channels: channels of the latent video, and of the video that the spatial VAE decodes.
        channels: channels of each stage, from the one nearest the output; multiples of `groups`.
        doubles_time: for each stage but the first, which is the last to run, whether time is doubled after it.
        blocks_per_stage: residual blocks of a stage.
        groups: groups of a group norm.
        frames: latent frames of one window.
        height: rows of the latent video.
        width: columns of the latent video.
    """

    latent_channels: int = 4
    channels: tuple[int, ...] = (128, 256, 256, 512)
    doubles_time: tuple[bool, ...] = (False, True, True)
    blocks_per_stage: int = 4
    groups: int = 32
    frames: int = 5
    height: int = 32
    width: int = 32

    @property
    def time_factor(self) -> int:
        """Decoded frames for one latent frame."""
        factor: int = 2 ** sum(self.doubles_time)
        return factor

    @property
    def frames_dropped(self) -> int:
        """Decoded frames of a window that stand for the padding before its first frame."""
        return self.time_factor - 1

    @property
    def frames_out(self) -> int:
        """Frames of a decoded window: 17 for 5 latent frames."""
        return self.frames * self.time_factor - self.frames_dropped


@dataclass(frozen=True)
class SpatialVaeConfig:
    """Everything that fixes the shapes of the spatial VAE's decoder; the defaults are Open-Sora 1.2's.

    Attributes:
        latent_channels: channels of a latent frame.
        image_channels: channels of a picture.
        channels: channels of each stage, from the one nearest the output; multiples of `groups`.
        blocks_per_stage: residual blocks of a stage.
        groups: groups of a group norm.
        latent_scale: by which the encoder's latents were multiplied. Open-Sora uses 0.18215, although the
            network is that of SDXL, whose own factor is 0.13025.
        frames: frames that are decoded at a time.
        height: rows of the latent video.
        width: columns of the latent video.
    """

    latent_channels: int = 4
    image_channels: int = 3
    channels: tuple[int, ...] = (128, 256, 512, 512)
    blocks_per_stage: int = 3
    groups: int = 32
    latent_scale: float = 0.18215
    frames: int = 4
    height: int = 32
    width: int = 32

    @property
    def pixels_per_latent(self) -> int:
        """Rows and columns of pixels for one latent: every stage but the last doubles them."""
        pixels: int = 2 ** (len(self.channels) - 1)
        return pixels
