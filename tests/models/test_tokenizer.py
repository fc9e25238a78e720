"""The text encoder's tokenizer, from either file that a checkpoint may bring, and the made-up one."""

from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer

from tm_export.models.checkpoints.checkpoint import CheckpointError
from tm_export.models.ondevice_sora.tokenizer import synthetic_tokenizer, tokenizer_of_t5

TEXTS = (
    "a red circle moves left over black. aesthetic score: 6.5.",
    "the quick brown fox jumps over the lazy dog, again and again",
    "waves on a beach at sunset, seen from above, in slow motion",
    "two cats play with a ball of wool; one of them is grey",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unigram model with T5's special tokens, as DeepFloyd/t5-v1_1-xxl has one."""
    path = tmp_path_factory.mktemp("t5")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_prefix=str(path / "spiece"),
        vocab_size=90,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return path


@pytest.mark.parametrize("text", [*TEXTS, "  spaces   between\twords ", "Ünknown 漢字 letters", "a"])
def test_ids_are_those_of_sentencepiece(folder: Path, text: str) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_of_t5(folder))
    independent = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    assert tokenizer.encode(text, add_special_tokens=False).ids == independent.encode(text)
    assert [tokenizer.token_to_id(token) for token in ("<pad>", "</s>", "<unk>")] == [0, 1, 2]


def test_a_tokenizer_json_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(synthetic_tokenizer())
    (tmp_path / "spiece.model").write_bytes((folder / "spiece.model").read_bytes())
    assert tokenizer_of_t5(tmp_path) == synthetic_tokenizer()


def test_the_made_up_one_takes_any_prompt_byte_by_byte() -> None:
    tokenizer = Tokenizer.from_str(synthetic_tokenizer())
    for text in (*TEXTS, "漢字", "\n\t~"):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert len(ids) == len(text.encode()) and min(ids) > 2


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no tokenizer: put tokenizer\.json or spiece\.model"):
        tokenizer_of_t5(tmp_path)
    for name, content in (("spiece.model", b"\x00broken"), ("tokenizer.json", b"{}")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{name} is no tokenizer .* copy it again"):
            tokenizer_of_t5(tmp_path)
