"""The tokenizer of the grammar's words."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from tm_export.models.ondevice_sora.tiny.captions import words


def build_tokenizer() -> Tokenizer:
    """Return a tokenizer that lower-cases, splits at spaces and ends with `</s>`; a word it lacks is `<unk>`."""
    vocabulary = {word: number for number, word in enumerate(("<pad>", "</s>", "<unk>", *words()))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def encode_texts(tokenizer: Tokenizer, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
    """Return token ids [B, L], int64, padded with 0, and the mask [B, L] of real ones, float32."""
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    encoded = tokenizer.encode_batch(texts)
    ids = torch.tensor([text.ids for text in encoded])
    return ids, torch.tensor([text.attention_mask for text in encoded], dtype=torch.float32)
