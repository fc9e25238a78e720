"""The size of TinyChart's vision tower."""

from dataclasses import dataclass


@dataclass(frozen=True)
class VisionTowerConfig:
    """Everything that fixes the shapes of a vision tower; the defaults are those of TinyChart-3B-768.

    Attributes:
        hidden_size: channels of a token.
        intermediate_size: hidden channels of an MLP.
        num_layers: encoder layers. SigLIP has 27; TinyChart deletes the last.
        num_heads: attention heads.
        patch_size: rows and columns of pixels in one patch.
        image_size: rows and columns of the image.
        tome_r: tokens that each layer merges away; 0 merges nothing.
    """

    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_layers: int = 26
    num_heads: int = 16
    patch_size: int = 14
    image_size: int = 768
    tome_r: int = 84

    @property
    def side(self) -> int:
        """Rows and columns of patches; pixels at the right and bottom that fill no patch are lost."""
        return self.image_size // self.patch_size

    @property
    def tokens_in(self) -> int:
        """Tokens before the first layer."""
        return self.side**2

    @property
    def tokens_out(self) -> int:
        """Tokens after the last layer."""
        tokens = self.tokens_in
        for _ in range(self.num_layers):
            tokens -= min(self.tome_r, tokens // 2)
        return tokens


@dataclass(frozen=True)
class LanguageModelConfig:
    """Everything that fixes the shapes of the connector and the language model; the defaults are TinyChart-3B's.

    Attributes:
        vocab_size: rows of the embedding and of the head.
        hidden_size: channels of a token.
        intermediate_size: hidden channels of an MLP.
        num_layers: decoder layers.
        num_heads: attention heads.
        rotary_channels: channels of a head that are rotated by position, the first ones.
        token_ids: ids that the tokenizer has, the first ones of the vocabulary; no other is ever picked.
        visual_size: channels of a visual token.
        visual_tokens: of one image.
        max_tokens: of picture, prompt and answer together: the length of the cache.
        chunk: tokens that `prefill` takes at a time.
    """

    vocab_size: int = 51200
    hidden_size: int = 2560
    intermediate_size: int = 10240
    num_layers: int = 32
    num_heads: int = 32
    rotary_channels: int = 32
    token_ids: int = 50295
    visual_size: int = 1152
    visual_tokens: int = 732
    max_tokens: int = 2048
    chunk: int = 128

    @property
    def head_size(self) -> int:
        """Channels of one head."""
        return self.hidden_size // self.num_heads
