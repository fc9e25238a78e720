"""TinyChart's tokenizer, which is CodeGen's with added tokens, and a made-up one to rehearse without its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tm_export.models.checkpoints.errors import TokenizerMissing

TOKENIZER: Final = "tokenizer.json"
VOCABULARY: Final = "vocab.json"
MERGES: Final = "merges.txt"
ADDED: Final = "added_tokens.json"
"""What mPLUG/TinyChart-3B-768 publishes, the first three of them or `tokenizer.json`."""

PHI_STOP: Final = 50256
TEXT_END: Final = "<|endoftext|>"


def tokenizer_of_phi(folder: Path) -> str:
    """Return the text of a `tokenizer.json` for the tokenizer in a folder of the checkpoint's files.

    Raises:
        TokenizerMissing: there is none, or it cannot be read.
    """
    ready, parts = folder / TOKENIZER, [folder / VOCABULARY, folder / MERGES]
    if not ready.is_file() and not all(part.is_file() for part in parts):
        raise TokenizerMissing(
            f"{folder} has no tokenizer: put {TOKENIZER}, or {VOCABULARY} and {MERGES}, of the checkpoint there"
        )
    try:
        text: str = (Tokenizer.from_file(str(ready)) if ready.is_file() else _from_parts(folder)).to_str()
    except Exception as error:  # the library raises nothing more special
        raise TokenizerMissing(f"the tokenizer in {folder} cannot be read ({error}): copy it again") from error
    return text


def _from_parts(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / VOCABULARY), str(folder / MERGES)))
    added = folder / ADDED
    if added.is_file():
        ids: dict[str, Any] = json.loads(added.read_text(encoding="utf-8"))
        # By id: each new token takes the next one.
        tokenizer.add_tokens([AddedToken(token, normalized=False) for token in sorted(ids, key=ids.__getitem__)])
    return _byte_level(tokenizer)


def synthetic_tokenizer() -> str:
    """Return the text of a `tokenizer.json` that takes a text's bytes one by one, with the published stop token."""
    vocabulary = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    text: str = _byte_level(Tokenizer(models.BPE(vocabulary | {TEXT_END: PHI_STOP}, []))).to_str()
    return text


def _byte_level(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
