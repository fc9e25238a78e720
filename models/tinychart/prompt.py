"""The prompt that TinyChart was trained with: conversation "phi", without a token at its beginning.

Source: mPLUG's repository, facts in its `conversation.py`; Zhang et al., "TinyChart", arXiv 2404.16635, section 3.
"""

from typing import Final

SYSTEM: Final = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
BEFORE_PICTURE: Final = f"{SYSTEM} USER: "
BEFORE_QUESTION: Final = "\n"
AFTER_QUESTION: Final = " ASSISTANT:"
PROGRAM_SUFFIX: Final = " Answer with detailed steps."
