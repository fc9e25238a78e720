"""The grammar of the captions, and which of them are held out of training.

    a <colour> <shape> moves <left|right|up|down> over <background>
    a <colour> <shape> <grows|shrinks|rotates> over <background>

A circle that rotates cannot be seen to, so there is no such caption.
"""

from dataclasses import dataclass
from itertools import product
from typing import Final

COLOURS: Final = ("red", "yellow", "green", "cyan", "blue", "purple")
SHAPES: Final = ("circle", "square", "triangle")
DIRECTIONS: Final = ("left", "right", "up", "down")
CHANGES: Final = ("grows", "shrinks", "rotates")
MOTIONS: Final = (*DIRECTIONS, *CHANGES)
BACKGROUNDS: Final = ("black", "grey", "white", "brown")


@dataclass(frozen=True)
class Caption:
    """What a video shows, in the grammar's words."""

    colour: str
    shape: str
    motion: str
    background: str

    @property
    def text(self) -> str:
        """The whole sentence."""
        return f"{self.text_without_background} over {self.background}"

    @property
    def text_without_background(self) -> str:
        """The sentence that leaves the background open."""
        motion = f"moves {self.motion}" if self.motion in DIRECTIONS else self.motion
        return f"a {self.colour} {self.shape} {motion}"


def all_captions() -> tuple[Caption, ...]:
    """Return every caption of the grammar."""
    return tuple(
        Caption(*words)
        for words in product(COLOURS, SHAPES, MOTIONS, BACKGROUNDS)
        if words[1:3] != ("circle", "rotates")
    )


def is_held_out(caption: Caption) -> bool:
    """Return whether the caption's colour, shape and motion never come together in training, over any background.

    A quarter of the combinations is held out, spread so that every two of the words are trained together.
    """
    place = COLOURS.index(caption.colour) + 2 * SHAPES.index(caption.shape) + MOTIONS.index(caption.motion)
    return place % 4 == 0


def training_captions() -> tuple[Caption, ...]:
    """Return the captions that videos are drawn for in training."""
    return tuple(caption for caption in all_captions() if not is_held_out(caption))


def held_out_captions() -> tuple[Caption, ...]:
    """Return the captions that quality is measured on."""
    return tuple(caption for caption in all_captions() if is_held_out(caption))


def words() -> tuple[str, ...]:
    """Return every word of the grammar once, in a fixed order."""
    return ("a", "moves", "over", *COLOURS, *SHAPES, *MOTIONS, *BACKGROUNDS)
