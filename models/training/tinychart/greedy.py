"""What the networks write in PyTorch, the likeliest token each time, without a cache: whole sequences every time.

Slower than the exported loop and simpler, which makes it the one to compare with.

Legend: B dialogues, N tokens, P visual tokens, C channels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tm_export.models.tinychart.network.language_model import LanguageModel


@torch.no_grad()
def write_greedily(
    llm: LanguageModel, visual_BPC: Tensor, prompts: Sequence[tuple[Sequence[int], Sequence[int]]], stop: int, most: int
) -> list[list[int]]:
    """Return the ids that are written after each prompt, without the one that stops it.

    Args:
        llm: the language model, in evaluation mode.
        visual_BPC: the connector's output for each prompt.
        prompts: ids before and after the picture.
        stop: the id that ends a text.
        most: tokens at most, the last one among them.
    """
    ids = [[*before, *[0] * visual_BPC.shape[1], *after] for before, after in prompts]
    written: list[list[int]] = [[] for _ in prompts]
    running = list(range(len(prompts)))
    for _ in range(most):
        length = max(len(ids[row]) for row in running)
        # Padding stands behind, where no earlier token sees it.
        x_BNC = llm.model.embed_tokens(torch.tensor([ids[row] + [0] * (length - len(ids[row])) for row in running]))
        for place, row in enumerate(running):
            start = len(prompts[row][0])
            x_BNC[place, start : start + visual_BPC.shape[1]] = visual_BPC[row]
        logits_BNV = llm.logits(x_BNC)
        for place, row in enumerate(list(running)):
            token = int(logits_BNV[place, len(ids[row]) - 1].argmax())
            if token == stop:
                running.remove(row)
            else:
                ids[row].append(token)
                written[row].append(token)
        if not running:
            break
    return written
