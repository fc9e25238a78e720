"""The tokenizer of T5 v1.1, from its checkpoint's own files, and a made-up one to rehearse without them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import T5Tokenizer

from tm_export.models.checkpoints.errors import TokenizerMissing

TOKENIZER_FILES: Final = ("tokenizer.json", "spiece.model")
"""By preference: that of the `tokenizers` library, and SentencePiece's, which DeepFloyd/t5-v1_1-xxl publishes."""

_SPECIAL: Final = ("<pad>", "</s>", "<unk>")


def tokenizer_of_t5(folder: Path) -> str:
    """Return the text of a `tokenizer.json` for the tokenizer in a folder of T5's files.

    Raises:
        TokenizerMissing: there is none, or it cannot be read.
    """
    found = next((folder / name for name in TOKENIZER_FILES if (folder / name).is_file()), None)
    if found is None:
        raise TokenizerMissing(f"{folder} has no tokenizer: put {' or '.join(TOKENIZER_FILES)} of the checkpoint there")
    try:
        if found.name == TOKENIZER_FILES[0]:
            text: str = Tokenizer.from_file(str(found)).to_str()
        else:
            text = T5Tokenizer.from_pretrained(str(folder), local_files_only=True).backend_tokenizer.to_str()
    except Exception as error:  # neither library raises anything more special
        raise TokenizerMissing(f"{found} is no tokenizer ({error}): copy it again") from error
    return text


def synthetic_tokenizer() -> str:
    """Return the text of a `tokenizer.json` that takes a prompt's bytes one by one, after T5's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((*_SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token=_SPECIAL[2]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text: str = tokenizer.to_str()
    return text
