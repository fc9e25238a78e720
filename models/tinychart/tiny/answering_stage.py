"""The last stages: all networks together learn to write tables, programs and short answers.

The tower goes on with what it learned to read; then it stays as it is, and the language model learns alone.

Legend: B pictures, D dialogues about them, N tokens, C channels, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from tm_export.models.tinychart.connector import Connector
from tm_export.models.tinychart.language_model import LanguageModel
from tm_export.models.tinychart.tiny.dataset import (
    CLASSES,
    IGNORED,
    Dialogue,
    DrawnChart,
    chance,
    dialogue,
    pad,
    pixels_of,
)
from tm_export.models.tinychart.tiny.questions import is_held_out, questions_of, table_question
from tm_export.models.tinychart.tiny.reading_stage import Reader, label_losses
from tm_export.models.tinychart.tiny.sizes import LANGUAGE_MODEL, VISION_TOWER
from tm_export.models.training_stage import Losses

PICTURES = 16
DIRECT_SHARE = 0.3
"""Of the questions, that are answered without a program."""
DIALOGUES = 3
"""About each picture: its table, the value of one name, which teaches to look, and any question."""
READING_WEIGHT = 0.1
"""Of the loss of reading, beside that of writing."""
SPREAD = 0.02
"""Of the language model's weights at the beginning."""


@dataclass(frozen=True)
class Batch:
    """Pictures, and for each dialogue which of them it is about and its ids and targets."""

    charts: Sequence[DrawnChart]
    pixels_BCHW: Tensor
    owner_D: Tensor
    ids_DN: Tensor
    targets_DN: Tensor
    before: int


class ChartModel(nn.Module):
    """Picture and text to the logits of each next token."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader
        self.connector = Connector(LANGUAGE_MODEL)
        self.llm = LanguageModel(LANGUAGE_MODEL)
        for name, parameter in self.llm.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=SPREAD if "lm_head" in name or "embed" in name else 2 * SPREAD)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits [D, N, V], and what the reader says of the pictures' labels."""
        x_BPC, matches = self.reader.tower.vision_model(batch.pixels_BCHW)
        visual_BPC = self.connector(x_BPC)
        text_DNC = self.llm.model.embed_tokens(batch.ids_DN)
        after = batch.before + visual_BPC.shape[1]
        x_DNC = torch.cat([text_DNC[:, : batch.before], visual_BPC[batch.owner_D], text_DNC[:, after:]], dim=1)
        return self.llm.logits(x_DNC), self.reader(x_BPC, matches)


def random_batch(charts: Sequence[DrawnChart], tokenizer: Tokenizer, generator: torch.Generator) -> Batch:
    """Return some charts, each with its table and two questions, none of a phrasing that is held out."""
    rng = chance(generator)
    picked = rng.choices(charts, k=PICTURES)
    dialogues: list[Dialogue] = []
    for drawn in picked:
        questions = [question for question in questions_of(drawn.chart, rng) if not is_held_out(question)]
        dialogues.append(dialogue(tokenizer, table_question(drawn.chart), program=False))
        lookups = [question for question in questions if question.kind == "lookup"]
        for question in (rng.choice(lookups or questions), rng.choice(questions)):
            dialogues.append(dialogue(tokenizer, question, program=rng.random() > DIRECT_SHARE))
    return batch_of(picked, torch.arange(PICTURES).repeat_interleave(DIALOGUES), dialogues)


def batch_of(charts: Sequence[DrawnChart], owner_D: Tensor, dialogues: Sequence[Dialogue]) -> Batch:
    """Return the dialogues as tensors, each about the chart of its number."""
    ids, targets = pad(dialogues, VISION_TOWER.tokens_out)
    return Batch(charts, pixels_of(charts), owner_D, ids, targets, len(dialogues[0].before))


def answering_losses(
    model: ChartModel, charts: Sequence[DrawnChart], tokenizer: Tokenizer, generator: torch.Generator
) -> Losses:
    """Return the loss of the answers' tokens, and which part of the answers, and of the tables, has none wrong."""
    batch = random_batch(charts, tokenizer, generator)
    logits_DNV, out_BNX = model(batch)
    writing = F.cross_entropy(logits_DNV.flatten(0, 1), batch.targets_DN.flatten(), ignore_index=IGNORED)
    reading = label_losses(out_BNX, batch.charts, len(CLASSES))
    right_DN = (logits_DNV.argmax(dim=2) == batch.targets_DN) | (batch.targets_DN == IGNORED)
    whole_D = right_DN.all(dim=1).float()
    found = {"right": whole_D.mean(), "tables": whole_D[::DIALOGUES].mean(), "related": reading["related"]}
    return {"loss": writing + READING_WEIGHT * reading["loss"], "writing": writing, **found}
