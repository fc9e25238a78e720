"""What a model that makes videos from prompts says beside its components: its sizes, defaults and tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class TextToVideoSpec:
    """How a host makes a video with the components text_encoder, denoiser, sampler, vae_temporal and vae_spatial.

    Attributes:
        tokenizer: from the model's checkpoint, where it has one, to the text of a `tokenizer.json`.
        synthetic_tokenizer: text of a `tokenizer.json` for a synthetic checkpoint; None for a model that has none.
        text_tokens: tokens of the text encoder's input, L.
        prompt_suffix: is put after every prompt.
        cleaning: of prompts: as Open-Sora does it, or none.
        latent_shape: [1, 4, T, H, W].
        frames: of the video.
        height: of its pictures, in pixels.
        width: of its pictures, in pixels.
        window: latent frames that the temporal VAE takes at a time.
        window_frames: frames that it makes of them.
        batch_frames: frames that the spatial VAE takes at a time.
        fps: frames for each second, if the user does not say.
        steps: of sampling, if the user does not say.
        guidance: if the user does not say.
        time_shift: of the sampler, for this many frames.
        app_time_shift: that of the published app, for the 51 frames that it takes for granted.
    """

    tokenizer: Callable[[Path | None], str]
    synthetic_tokenizer: Callable[[], str] | None
    text_tokens: int
    prompt_suffix: str
    cleaning: Literal["open-sora", "none"]
    latent_shape: tuple[Literal[1], Literal[4], int, int, int]
    frames: int
    height: int
    width: int
    window: int
    window_frames: int
    batch_frames: int
    fps: float
    steps: int
    guidance: float
    time_shift: float
    app_time_shift: float
