"""The last stage: the language model learns to write tables, programs and short answers about what the tower sees.

To take a value by its name, the model has to find the token of the picture that shows the name of the question. That
is not found by chance in thousands of steps, so it begins near it: embeddings of names begin as what the `Relater`
looks for to tell the name, keys begin as queries are, and what is known at a name in a question has a loss of its own.

The tower stays as it is. What all dialogues about a picture begin with is computed once for the picture, and the rest
of each over those keys and values, as an exported model does it.

Legend: B pictures, D dialogues about them, N tokens, P of them up to the picture's last, T targets, M names in
questions, W words, X classes, C channels, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from tm_export.models.tinychart.language_model import MASKED, LanguageModel, Layer
from tm_export.models.tinychart.tiny.dataset import (
    BLANK_DIGIT,
    CLASSES,
    IGNORED,
    NO_WORD,
    WORDS,
    Dialogue,
    DrawnChart,
    chance,
    dialogue,
    digits_of,
    pad,
    pixels_of,
)
from tm_export.models.tinychart.tiny.questions import is_held_out, questions_of, table_question
from tm_export.models.tinychart.tiny.relating_stage import Relater
from tm_export.models.tinychart.tiny.sizes import LANGUAGE_MODEL, VISION_TOWER
from tm_export.models.training_stage import Losses

PICTURES = 16
DIRECT_SHARE = 0.3
"""Of the questions, that are answered without a program."""
DIALOGUES = 3
"""About each picture: its table, the value of one name, which teaches to look, and any question."""
SPREAD = 0.04
"""Of the language model's projections at the beginning."""
QUERY_SPREAD = 0.08
"""Of those to queries and keys: so much that equal tokens find each other."""
READ_LAYER = 2
"""Whose values at a name in a question must tell its value: layers from this on can take it to where it is written."""
VISUAL_SIZE = 0.2
"""The connector's output at the beginning, by what the relater made of it: about that of text."""


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
    """Picture and text to the logits of the tokens that answer."""

    def __init__(self, relater: Relater, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tower = relater.tower.requires_grad_(False)
        self.connector = relater.connector
        self.llm = LanguageModel(LANGUAGE_MODEL)
        self.value = nn.Linear(LANGUAGE_MODEL.hidden_size, 2 * (BLANK_DIGIT + 1))
        for parameter in self.llm.model.layers.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=SPREAD)
        nn.init.normal_(self.llm.lm_head.weight, std=SPREAD / 2)
        with torch.no_grad():
            for layer in self.llm.model.layers:
                assert isinstance(layer, Layer)
                nn.init.normal_(layer.self_attn.q_proj.weight, std=QUERY_SPREAD)
                layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
            for parameter in self.connector[2].parameters():
                parameter.mul_(VISUAL_SIZE)
            looks_WC = names_in_pictures(relater)
            for token, word in ids_of_words(tokenizer).items():
                self.llm.model.embed_tokens.weight[token] = looks_WC[WORDS.index(word)]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits [T, V] for the targets, row by row, and what `READ_LAYER` tells [D, N, C] after the picture."""
        embed, decoder = self.llm.model.embed_tokens, self.llm.model
        visual_BPC = self.connector(self.tower(batch.pixels_BCHW))
        before_1NC = embed(batch.ids_DN[:1, : batch.before])
        x_BPC = torch.cat([before_1NC.expand(len(visual_BPC), -1, -1), visual_BPC], dim=1)
        seen = x_BPC.shape[1]
        _, caches = decoder(x_BPC, torch.arange(seen), causal(seen), [])
        of_dialogues = [(keys[batch.owner_D], values[batch.owner_D]) for keys, values in caches]
        x_DNC = embed(batch.ids_DN[:, seen:])
        length = x_DNC.shape[1]
        bias_NX = torch.cat([torch.zeros(length, seen), causal(length)], dim=1)
        states_DNC, made = decoder(x_DNC, seen + torch.arange(length), bias_NX, of_dialogues)
        told_DNC = made[READ_LAYER][1].transpose(1, 2).flatten(2)
        return self.llm.lm_head(states_DNC[batch.targets_DN[:, seen:] != IGNORED]), told_DNC


def names_in_pictures(relater: Relater) -> Tensor:
    """Return for each word what the relater looks for in a token to tell the word: [W, C], of the size of text."""
    weights_XC = relater.head.weight * relater.norm.weight
    own, whose = (sum(CLASSES[:i]) for i in (2, 3))
    looks_WC = weights_XC[own : own + NO_WORD] + weights_XC[whose : whose + NO_WORD]
    looks_WC = looks_WC - looks_WC.mean(dim=0)
    looks_WC = looks_WC - looks_WC.mean(dim=1, keepdim=True)
    return looks_WC / looks_WC.std()


def ids_of_words(tokenizer: Tokenizer) -> dict[int, str]:
    """Return the words that are tokens, alone or behind a blank, by id."""
    spelled = {text: word for word in WORDS for text in (word, f" {word}")}
    return {ids[0]: word for text, word in spelled.items() if len(ids := tokenizer.encode(text).ids) == 1}


def causal(length: int) -> Tensor:
    """Return what is added to the logits of keys [N, N], so that no token sees a later one."""
    own = torch.arange(length)
    return MASKED * (own[None, :] > own[:, None]).float()


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


def values_of_names(batch: Batch, words: Mapping[int, str]) -> list[tuple[int, int, int]]:
    """Return for each name in a question its dialogue, its place behind the picture, and the value that it has.

    Args:
        batch: see `Batch`.
        words: by id.
    """
    seen = batch.before + VISION_TOWER.tokens_out
    found = []
    for row, owner in enumerate(batch.owner_D.tolist()):
        chart = batch.charts[owner].chart
        asked = batch.targets_DN[row, seen:] == IGNORED
        ids = batch.ids_DN[row, seen:].tolist()
        for place, token in enumerate(ids):
            word = words.get(token)
            if asked[place] and word in chart.names:
                # Of a grouped chart it says "Old in Fox".
                series = chart.series.index(words[ids[place - 2]]) if chart.series else 0
                found.append((row, place, chart.values[series][chart.names.index(word)]))
    return found


def answering_losses(
    model: ChartModel, charts: Sequence[DrawnChart], tokenizer: Tokenizer, generator: torch.Generator
) -> Losses:
    """Return the loss of the answers' tokens, and which part of the answers, and of the tables, has none wrong.

    Names and digits, few among the tokens, weigh as much as all tokens together: with every token alike, names stay
    at chance for thousands of steps.
    """
    batch = random_batch(charts, tokenizer, generator)
    words = ids_of_words(tokenizer)
    logits_TV, told_DNC = model(batch)
    wanted_DN = batch.targets_DN != IGNORED
    targets_T = batch.targets_DN[wanted_DN]
    losses_T = F.cross_entropy(logits_TV, targets_T, reduction="none")
    right_T = logits_TV.argmax(dim=1) == targets_T
    loss, found = losses_T.mean(), {}
    digits = [tokenizer.encode(str(digit)).ids[0] for digit in range(10)]
    for kind, ids in (("names", list(words)), ("digits", digits)):
        of_kind_T = torch.isin(targets_T, torch.tensor(ids))
        loss = loss + losses_T[of_kind_T].mean()
        found[kind] = right_T[of_kind_T].float().mean()
    rows, places, values = zip(*values_of_names(batch, words), strict=True)
    digits_M2 = torch.tensor([digits_of(str(value)) for value in values])
    said_M2X = model.value(told_DNC[list(rows), list(places)]).unflatten(1, (2, BLANK_DIGIT + 1))
    loss = loss + F.cross_entropy(said_M2X.flatten(0, 1), digits_M2.flatten())
    found["looked"] = (said_M2X.argmax(dim=2) == digits_M2).all(dim=1).float().mean()
    right_DN = torch.ones_like(wanted_DN)
    right_DN[wanted_DN] = right_T
    whole_D = right_DN.all(dim=1).float()
    return {
        "loss": loss,
        "writing": losses_T.mean(),
        "right": whole_D.mean(),
        "tables": whole_D[::DIALOGUES].mean(),
        "lookups": whole_D[1::DIALOGUES].mean(),
        **found,
    }
