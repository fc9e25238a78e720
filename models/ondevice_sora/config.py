"""The size of one denoiser: its network and the one video size that it is built for."""

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
