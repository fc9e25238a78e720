"""The last stage: the language model learns to write tables, programs and short answers about what the tower sees.

To take a value by its name, the model has to find the token of the picture that shows the name of the question. That
is not found by chance in thousands of steps, so it begins near it: embeddings of names begin as what the `Relater`
looks for to tell the name, keys begin as queries are in one head of each layer, and what is known at a name in a
question has a loss of its own. In all heads it would be too much: tokens then see little but themselves, and the
names of a table, which follow each other by place, are not learned.

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

from tm_export.models.tinychart.network.language_model import LanguageModel, Layer, causal_bias
from tm_export.models.tinychart.tiny.sizes import LANGUAGE_MODEL, LANGUAGE_MODEL_FOR_UNMERGED
from tm_export.models.training.stage import Losses
from tm_export.models.training.tinychart.dataset import (
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
    random_charts,
)
from tm_export.models.training.tinychart.merge_rates import features_at, random_rate, tokens_at
from tm_export.models.training.tinychart.questions import is_held_out, questions_of, table_question
from tm_export.models.training.tinychart.relating_stage import Relater

PICTURES = 16
AT_SIGHT = ("lookup", "max_name", "max_value", "min_name", "min_value", "compare")
"""Kinds of question that can be answered without reckoning."""
DIRECT_SHARE = 0.1
"""Of questions of any kind, that are answered without a program."""
DIALOGUES = 4
"""About each picture: its table; the value of one name, which teaches to look; any question; one answered at sight."""
SPREAD = 0.04
"""Of the language model's projections at the beginning."""
QUERY_SPREAD = 0.08
"""Of those to queries and keys in each layer's first head: so much that equal tokens find each other there."""
READ_LAYER = 2
"""Whose values at a name in a question must tell its value: layers from this on can take it to where it is written."""
TEXT_SIZE = 0.05
"""Of embeddings at the beginning: so little that what a token sees outweighs soon what it is."""


@dataclass(frozen=True)
class Batch:
    """Pictures, and for each dialogue which of them it is about and its ids and targets, which begin after `seen`."""

    charts: Sequence[DrawnChart]
    rate: int
    owner_D: Tensor
    ids_DN: Tensor
    targets_DN: Tensor
    before: int

    @property
    def seen(self) -> int:
        """Tokens up to the picture's last."""
        return self.before + tokens_at(self.rate)


class ChartModel(nn.Module):
    """Picture and text to the logits of the tokens that answer."""

    def __init__(self, relater: Relater, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tower = relater.tower.requires_grad_(False)
        self.connector = relater.connector
        self.llm = LanguageModel(LANGUAGE_MODEL_FOR_UNMERGED)
        self.words = ids_of_words(tokenizer)
        self.digits = [tokenizer.encode(str(digit)).ids[0] for digit in range(10)]
        self.value = nn.Linear(LANGUAGE_MODEL.hidden_size, 2 * (BLANK_DIGIT + 1))
        for parameter in self.llm.model.layers.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=SPREAD)
        nn.init.normal_(self.llm.lm_head.weight, std=SPREAD / 2)
        with torch.no_grad():
            for layer in self.llm.model.layers:
                assert isinstance(layer, Layer)
                queries, keys = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight
                nn.init.normal_(queries[: LANGUAGE_MODEL.head_size], std=QUERY_SPREAD)
                keys[: LANGUAGE_MODEL.head_size] = queries[: LANGUAGE_MODEL.head_size]
            looks_WC = names_in_pictures(relater)
            for token, word in self.words.items():
                self.llm.model.embed_tokens.weight[token] = looks_WC[WORDS.index(word)]
            self.llm.model.embed_tokens.weight.mul_(TEXT_SIZE)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits [T, V] for the targets, row by row, and what `READ_LAYER` tells [D, N, C] after the picture."""
        embed, decoder = self.llm.model.embed_tokens, self.llm.model
        visual_BPC = self.connector(features_at(self.tower, batch.rate, pixels_of(batch.charts))[0])
        before_1NC = embed(batch.ids_DN[:1, : batch.before])
        x_BPC = torch.cat([before_1NC.expand(len(visual_BPC), -1, -1), visual_BPC], dim=1)
        seen = torch.arange(batch.seen)
        _, caches = decoder(x_BPC, seen, causal_bias(seen), [])
        of_dialogues = [(keys[batch.owner_D], values[batch.owner_D]) for keys, values in caches]
        x_DNC = embed(batch.ids_DN[:, batch.seen :])
        own = torch.arange(x_DNC.shape[1])
        bias_NX = torch.cat([torch.zeros(len(own), len(seen)), causal_bias(own)], dim=1)
        states_DNC, made = decoder(x_DNC, batch.seen + own, bias_NX, of_dialogues)
        told_DNC = made[READ_LAYER][1].transpose(1, 2).flatten(2)
        return self.llm.lm_head(states_DNC[batch.targets_DN[:, batch.seen :] != IGNORED]), told_DNC


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


def random_batch(charts: Sequence[DrawnChart], tokenizer: Tokenizer, generator: torch.Generator) -> Batch:
    """Return some charts, each with its dialogues, none of a phrasing that is held out."""
    rng = chance(generator)
    picked = random_charts(charts, PICTURES, generator)
    dialogues: list[Dialogue] = []
    for drawn in picked:
        questions = [question for question in questions_of(drawn.chart, rng) if not is_held_out(question)]
        lookups = [question for question in questions if question.kind == "lookup"] or questions
        at_sight = [question for question in questions if question.kind in AT_SIGHT] or questions
        dialogues += [
            dialogue(tokenizer, table_question(drawn.chart), program=False),
            dialogue(tokenizer, rng.choice(lookups), program=rng.random() < 0.5),
            dialogue(tokenizer, rng.choice(questions), program=rng.random() > DIRECT_SHARE),
            dialogue(tokenizer, rng.choice(at_sight), program=False),
        ]
    owner_D = torch.arange(len(picked)).repeat_interleave(DIALOGUES)
    return batch_of(picked, random_rate(generator), owner_D, dialogues)


def batch_of(charts: Sequence[DrawnChart], rate: int, owner_D: Tensor, dialogues: Sequence[Dialogue]) -> Batch:
    """Return the dialogues as tensors, each about the chart of its number."""
    ids, targets = pad(dialogues, tokens_at(rate))
    return Batch(charts, rate, owner_D, ids, targets, len(dialogues[0].before))


def values_of_names(batch: Batch, words: Mapping[int, str]) -> list[tuple[int, int, int]]:
    """Return for each name in a question its dialogue, its place behind the picture, and the value that it has.

    Args:
        batch: see `Batch`.
        words: by id.
    """
    found = []
    for row, owner in enumerate(batch.owner_D.tolist()):
        chart = batch.charts[owner].chart
        asked = batch.targets_DN[row, batch.seen :] == IGNORED
        ids = batch.ids_DN[row, batch.seen :].tolist()
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
    """Return the loss of the answers' tokens, and which part of each sort of answer has none wrong.

    Names and digits, few among the tokens, weigh as much as all tokens together, and so do answers at sight: with every
    token alike, names stay at chance for thousands of steps.
    """
    batch = random_batch(charts, tokenizer, generator)
    logits_TV, told_DNC = model(batch)
    wanted_DN = batch.targets_DN != IGNORED
    targets_T = batch.targets_DN[wanted_DN]
    losses_T = F.cross_entropy(logits_TV, targets_T, reduction="none")
    right_T = logits_TV.argmax(dim=1) == targets_T
    sort_T = (torch.arange(len(wanted_DN)) % DIALOGUES)[:, None].expand_as(wanted_DN)[wanted_DN]
    loss, found = losses_T.mean() + losses_T[sort_T == DIALOGUES - 1].mean(), {}
    for kind, ids in (("names", list(model.words)), ("digits", model.digits)):
        of_kind_T = torch.isin(targets_T, torch.tensor(ids))
        loss = loss + losses_T[of_kind_T].mean()
        found[kind] = right_T[of_kind_T].float().mean()
    rows, places, values = zip(*values_of_names(batch, model.words), strict=True)
    digits_M2 = torch.tensor([digits_of(str(value)) for value in values])
    said_M2X = model.value(told_DNC[list(rows), list(places)]).unflatten(1, (2, BLANK_DIGIT + 1))
    loss = loss + F.cross_entropy(said_M2X.flatten(0, 1), digits_M2.flatten())
    found["looked"] = (said_M2X.argmax(dim=2) == digits_M2).all(dim=1).float().mean()
    right_DN = torch.ones_like(wanted_DN)
    right_DN[wanted_DN] = right_T
    whole_D = right_DN.all(dim=1).float()
    sorts = ("tables", "lookups", "questions", "at_sight")
    whole = {sort: whole_D[i::DIALOGUES].mean() for i, sort in enumerate(sorts)}
    return {"loss": loss, "writing": losses_T.mean(), **whole, **found}
