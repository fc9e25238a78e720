"""Prompts: cleaned as diffusers' copy of the T5 cleaning does it, and made into ids as T5 does."""

from pathlib import Path

import numpy as np
import pytest
from diffusers import PixArtAlphaPipeline
from hypothesis import given
from hypothesis import strategies as st

from tests.support.video_bundles import TOKENS, VIDEO, WORDS, make_video_bundle
from tm_export.runtime.apps.tokenizer_file import read_tokenizer
from tm_export.runtime.apps.videos.clean import clean_caption, clean_prompt
from tm_export.runtime.apps.videos.tokenize import PromptError, Tokens, tokenize
from tm_export.runtime.manifest import BundleError

PARTS = (
    *("a Red Circle", " ", "\n", ".", "...", ",", ":", "-", "_", "'", '"', "“", "’", "&amp;", "&quot;", "%20", "+"),  # noqa: RUF001
    *("https://a.com/b ", "www.site.org", "<b>", "</b>", "<person>", "@me", "漢字", "—", "10.0.0.1", "1:23 ", "\\n"),
    *("#12", "#12345", "1234567", "cat.png", "(", "]", "/", "*", "ab1234", "a1b", "12ab34", "free shipping", "mp4"),
    *("download free", "click on it", "page 3", "12x34", "Ã©", "привет", "page", "5.5", "a2b3c4"),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("video") / "bundle"
    make_video_bundle(root)
    return root


def independent(caption: str) -> str:
    return PixArtAlphaPipeline._clean_caption(PixArtAlphaPipeline, caption)  # type: ignore[no-any-return]


@given(st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=5)), max_size=8).map("".join))
def test_captions_are_cleaned_as_by_diffusers(caption: str) -> None:
    assert clean_caption(caption) == independent(caption)
    assert clean_prompt(caption, "open-sora") == independent(independent(caption))
    assert clean_prompt(caption, "none") == caption


def test_the_score_that_open_sora_appends_is_left_as_it_is() -> None:
    prompt = "A Red circle — moves LEFT. See https://example.com/x! aesthetic score: 6.5."
    assert clean_prompt(prompt, "open-sora") == "a red circle - moves left. see ! aesthetic score: 6.5."


def tokens_of(bundle: Path, prompt: str) -> Tokens:
    return tokenize(prompt, read_tokenizer(bundle, VIDEO), VIDEO)


def test_a_prompt_ends_with_the_end_token_and_is_padded(bundle: Path) -> None:
    got = tokens_of(bundle, "a RED\tcircle")
    assert got.input_ids_BL.tolist() == [[WORDS.index("a"), WORDS.index("red"), WORDS.index("circle"), 1, 0, 0]]
    assert got.mask_BL.tolist() == [[1, 1, 1, 1, 0, 0]] and got.input_ids_BL.dtype == np.int64
    assert (got.left_out, got.unknown) == (0, ())


def test_a_prompt_that_is_too_long_is_cut_and_says_so(bundle: Path) -> None:
    got = tokens_of(bundle, "a " * 9)
    assert got.input_ids_BL.tolist() == [[3] * (TOKENS - 1) + [1]] and got.mask_BL.all() and got.left_out == 4
    assert tokens_of(bundle, "a " * 5).left_out == 0


def test_what_the_tokenizer_does_not_know_is_named(bundle: Path) -> None:
    assert tokens_of(bundle, "a purple circle").unknown == ("purple",)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty: say in words"),
        (" \n", "the prompt is empty: say in words"),
        ("a\x07b", r"has U\+0007 at position 1"),
        ("red \udc80", r"has U\+DC80 at position 4"),
        ("красный круг", "the tokenizer knows nothing of the prompt"),
        ("漢字", "the tokenizer knows nothing of the prompt"),
    ],
)
def test_prompts_that_make_no_video_are_refused(bundle: Path, prompt: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        tokens_of(bundle, prompt)


def test_a_prompt_of_which_cleaning_leaves_nothing_is_refused(bundle: Path) -> None:
    cleaned = VIDEO.model_copy(update={"cleaning": "open-sora", "prompt_suffix": " aesthetic score: 6.5."})
    with pytest.raises(PromptError, match="empty once it is cleaned"):
        tokenize("漢字", read_tokenizer(bundle, VIDEO), cleaned)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / VIDEO.tokenizer).write_text("{}")
    with pytest.raises(BundleError, match=r"host/tokenizer.json is no tokenizer .*export again"):
        read_tokenizer(tmp_path, VIDEO)
