"""One stage of training: a loss is lowered for a number of steps, with checkpoints to go on from.

Every step draws its batch from a generator of its own, seeded by the stage's seed and the step's number. So a run
that was stopped and goes on gives the bytes of one that was not.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

Losses = Mapping[str, Tensor]
"""Scalars by name: `loss`, which is lowered, and what else goes to the log."""


@dataclass(frozen=True)
class Stage:
    """What is trained, and how.

    Attributes:
        name: of the stage's checkpoint, and in the log.
        module: holds the trained parameters.
        losses: from a generator to the losses of a random batch.
        steps: after which the stage is done.
        learning_rate: of AdamW; it rises over the first 100 steps and falls to 0 over the last three tenths.
        ema_decay: of the running mean of the weights, which is what the stage results in.
        seed: of the batches.
    """

    name: str
    module: nn.Module
    losses: Callable[[torch.Generator], Losses]
    steps: int
    learning_rate: float
    ema_decay: float = 0.999
    seed: int = 0


WARM_UP_STEPS = 100
COOL_DOWN = 0.3
GRADIENT_NORM = 1.0
LOG_EVERY = 50


def run_stage(stage: Stage, work: Path, *, checkpoint_every: int = 200, stop_after: int | None = None) -> bool:
    """Train from the stage's checkpoint in `work`, if there is one, to its end; leave the mean weights in the module.

    Args:
        stage: what to do.
        work: an existing folder for `<name>.pt` and `log.jsonl`.
        checkpoint_every: steps between checkpoints.
        stop_after: make at most so many steps now.

    Returns:
        Whether the stage is done. Its module then holds the running mean of its weights, in evaluation mode.
    """
    path = work / f"{stage.name}.pt"
    optimizer = torch.optim.AdamW(stage.module.parameters(), lr=stage.learning_rate, betas=(0.9, 0.95), weight_decay=0)
    mean = {key: tensor.detach().clone() for key, tensor in stage.module.state_dict().items()}
    first = 0
    if path.is_file():
        saved = torch.load(path, weights_only=True, map_location=next(stage.module.parameters()).device)
        stage.module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        mean, first = saved["mean"], saved["step"]
    last = stage.steps if stop_after is None else min(stage.steps, first + stop_after)
    began = time.monotonic()
    stage.module.train()
    for step in range(first, last):
        losses = train_step(stage, optimizer, mean, step)
        done = step + 1
        if done % LOG_EVERY == 0 or done == stage.steps:
            values = {name: round(float(value.detach()), 5) for name, value in losses.items()}
            seconds = round(time.monotonic() - began, 1)
            append_line(work / "log.jsonl", {"stage": stage.name, "step": done, "seconds": seconds, **values})
        if done % checkpoint_every == 0 or done == last:
            state = {
                "module": stage.module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "mean": mean,
                "step": done,
            }
            torch.save(state, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
    if last < stage.steps:
        return False
    stage.module.load_state_dict(mean)
    stage.module.eval()
    return True


def train_step(stage: Stage, optimizer: torch.optim.Optimizer, mean: dict[str, Tensor], step: int) -> Losses:
    """Make one step, and take it into the running mean of the weights."""
    generator = torch.Generator().manual_seed(stage.seed * 1_000_003 + step)
    for group in optimizer.param_groups:
        group["lr"] = stage.learning_rate * rate_at(step, stage.steps)
    losses = stage.losses(generator)
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(stage.module.parameters(), GRADIENT_NORM)
    if not math.isfinite(float(norm)):
        raise FloatingPointError(
            f"stage {stage.name!r}: the gradient of step {step} is {float(norm)}; delete its checkpoint, and start "
            "again with a lower learning rate"
        )
    optimizer.step()
    # Short at first, so that the mean soon forgets the weights that training began with.
    decay = min(stage.ema_decay, (1 + step) / (10 + step))
    for key, tensor in stage.module.state_dict().items():
        mean[key].lerp_(tensor, 1 - decay)
    return losses


def rate_at(step: int, steps: int) -> float:
    """Return the learning rate of a step by the highest one."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, (steps - step) / (COOL_DOWN * steps))


def append_line(path: Path, values: Mapping[str, object]) -> None:
    """Add one line of JSON to a file."""
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")
