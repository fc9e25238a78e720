"""The sizes that a model can be exported in."""

from dataclasses import dataclass


class SizeRefused(ValueError):
    """A model has no networks of this size; the message names the sizes that it has."""


@dataclass(frozen=True)
class ModelSize:
    """What a model is to be made for; None wherever its own size will do.

    Attributes:
        frames: of the videos that it makes.
        pixels: their height and width.
        max_tokens: of picture, prompt and answer together.
    """

    frames: int | None = None
    pixels: tuple[int, int] | None = None
    max_tokens: int | None = None

    def __str__(self) -> str:
        """The options of `tm-export` that ask for it."""
        return " ".join(
            [
                *([] if self.frames is None else [f"--frames {self.frames}"]),
                *([] if self.pixels is None else ["--frame-size {}x{}".format(*self.pixels)]),
                *([] if self.max_tokens is None else [f"--max-tokens {self.max_tokens}"]),
            ]
        )
