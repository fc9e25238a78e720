"""The cleaning of captions that Open-Sora's text encoder was trained with, and prompts must go through.

It is that of DeepFloyd IF's T5 embedder (https://github.com/deep-floyd/IF), which Open-Sora applies twice. What it
removes in which order decides which tokens a prompt becomes: it is followed to the letter, oddities included.
"""

from __future__ import annotations

import html
import re
from typing import Final, Literal
from urllib.parse import unquote_plus

_SUFFIXES: Final = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"
_SITE: Final = r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b/?(?!@)"
_DASHES: Final = "-\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0\ufe31\ufe32"

_Rules = tuple[tuple[str, str], ...]

_ADDRESSES: Final[_Rules] = (
    ("<person>", "person"),
    (rf"\b(?:https?:(?:/{{1,3}}|[a-zA-Z0-9%])|{_SITE})", ""),
    (rf"\b(?:www:(?:/{{1,3}}|[a-zA-Z0-9%])|{_SITE})", ""),
)
"""Before tags of HTML are taken out."""

_CHARACTERS: Final[_Rules] = (
    (r"@\w+\b", ""),  # nicknames
    ("[\u31c0-\u31ff\u3200-\u4dff\u4e00-\u9fff]+", ""),  # Chinese characters, and what is set among them
    (rf"[{_DASHES}\ufe58\ufe63\uff0d]+", "-"),
    ("[`´«»“”¨]", '"'),  # noqa: RUF001
    ("[‘’]", "'"),  # noqa: RUF001
    ("&quot;?", ""),
    ("&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),  # IP addresses
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),  # the two characters
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"\S+\.(?:{_SUFFIXES})", ""),
    (r"[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~()\[\]{}|\\/*]+", " "),
    (r"\s+\.\s+", " "),
)
"""Before broken encodings are repaired."""

_WORDS: Final[_Rules] = (
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # names of products and the like
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
    (r"\b\d+[a-zA-Z]+\d+\b", ""),
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{_SUFFIXES})(?:\simages?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),  # sizes; the second x is Cyrillic  # noqa: RUF001
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"']([\w\W]+)[\"']$", r"\1"),
    (r"^['_,\-:;]", ""),
    (r"['_,\-:+]$", ""),
    (r"^\.\S+$", ""),
)
"""At the end; spaces at either end are still there."""

_MOST_HYPHENS: Final = 3
"""With more, they stand for spaces."""


def clean_prompt(prompt: str, cleaning: Literal["open-sora", "none"]) -> str:
    """The prompt as the text encoder was trained to see it: cleaned twice, or as it is."""
    return clean_caption(clean_caption(prompt)) if cleaning == "open-sora" else prompt


def clean_caption(caption: str) -> str:
    """The caption in lower case, without addresses, tags, Chinese characters, file names, and what shops write."""
    import ftfy  # heavy, and not every model needs them
    from bs4 import BeautifulSoup

    text = _replaced(unquote_plus(caption).strip().lower(), _ADDRESSES)
    text = _replaced(BeautifulSoup(text, features="html.parser").text, _CHARACTERS)
    if len(re.findall("[-_]", text)) > _MOST_HYPHENS:
        text = re.sub("[-_]", " ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return _replaced(text, _WORDS).strip()


def _replaced(text: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text
