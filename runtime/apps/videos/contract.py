"""What a host needs to make a video of a prompt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tm_export.runtime.apps.contract import HostContract, TokenizerFile
from tm_export.runtime.manifest.document import Count

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TextToVideo(HostContract):
    """What a host needs beside the components to make a video from a prompt.

    The prompt, with `prompt_suffix` at its end, is cleaned as `cleaning` says, and made into at most `text_tokens`
    ids by the tokenizer, a file of the `tokenizers` library. `latent_shape` is [1, 4, T, H, W]. The temporal half of
    the VAE takes `window` of the T latent frames at a time and gives `window_frames`; the spatial half takes
    `batch_frames` of those and gives pictures of `height` × `width` pixels, of which the first `frames` are the video.
    `fps`, `steps` and `guidance` are taken unless the user says otherwise. `time_shift` is the ratio r of the timestep
    transform for this many frames, `app_time_shift` that of the published app, which takes 51 frames for granted.
    """

    kind: Literal["video"] = "video"
    version: Literal[1] = 1
    files: TokenizerFile
    text_tokens: Annotated[int, Field(ge=2)]
    prompt_suffix: str
    cleaning: Literal["open-sora", "none"]
    latent_shape: tuple[Literal[1], Literal[4], Count, Count, Count]
    frames: Count
    height: Count
    width: Count
    window: Count
    window_frames: Count
    batch_frames: Count
    fps: Positive
    steps: Count
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    time_shift: Positive
    app_time_shift: Positive

    @property
    def windows(self) -> int:
        """How many calls of the temporal VAE a video takes."""
        return self.latent_shape[2] // self.window

    @property
    def batches(self) -> int:
        """How many calls of the spatial VAE a video takes, the last one filled up."""
        return -(-self.frames // self.batch_frames)

    @model_validator(mode="after")
    def _windows_make_the_frames(self) -> TextToVideo:
        latent_frames = self.latent_shape[2]
        if latent_frames % self.window:
            raise ValueError(f"{latent_frames} latent frames are not whole windows of {self.window}")
        if self.windows * self.window_frames < self.frames:
            raise ValueError(
                f"{self.windows} windows of {self.window_frames} frames are fewer than the video's {self.frames}"
            )
        return self
