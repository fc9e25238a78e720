"""Train the tokenizer of `tinychart-tiny` on the text that its charts give rise to, and write tokenizer.json."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from tokenizers.trainers import BpeTrainer

from tm_export.models.tinychart.prompt import AFTER_QUESTION, BEFORE_PICTURE, BEFORE_QUESTION, PROGRAM_SUFFIX
from tm_export.models.training.tinychart.charts import NAMES, SERIES, chart_rng, random_chart
from tm_export.models.training.tinychart.questions import questions_of, table_question

TEXT_END: Final = "<|endoftext|>"
TAGS: Final = ("<step>", "</step>", "<comment>", "</comment>")
VOCABULARY: Final = 512
SEED: Final = 0
CHARTS: Final = 1000


def train_tokenizer() -> Tokenizer:
    """Return a byte-level tokenizer that splits numbers into digits and decodes to exactly what it encoded."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY - len(TAGS),
        special_tokens=[TEXT_END],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return tokenizer


def training_texts() -> Iterator[str]:
    """Yield prompts, questions and what is to be written, without the tags, which are tokens of their own.

    Every name comes so often that it becomes one token, at the start of a text and after a space.
    """
    words = (*NAMES, *(word for pair in SERIES for word in pair))
    for index in range(CHARTS):
        rng = chart_rng(SEED, index)
        chart = random_chart(rng)
        yield BEFORE_PICTURE
        yield BEFORE_PICTURE
        yield from (f"{word} {word}" for word in words)
        for question in (*questions_of(chart, rng), table_question(chart)):
            yield f"{BEFORE_QUESTION}{question.text}{PROGRAM_SUFFIX}{AFTER_QUESTION}"
            target = question.target
            for tag in TAGS:
                target = target.replace(tag, "")
            yield target


def main() -> None:
    """Train and write the tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the file to write, such as tokenizer.json")
    path: Path = parser.parse_args().out
    train_tokenizer().save(str(path), pretty=False)


if __name__ == "__main__":
    main()
