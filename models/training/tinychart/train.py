"""Train `tinychart-tiny`: `python -m tm_export.models.training.tinychart.train --work DIR`.

Stopped and started again with the same folder, it goes on from its last checkpoint.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer

from tm_export.models.tinychart.tiny import WEIGHTS
from tm_export.models.tinychart.tokenizer import TOKENIZER
from tm_export.models.training.stage import Stage, run_stage
from tm_export.models.training.tinychart.answering_stage import ChartModel, answering_losses
from tm_export.models.training.tinychart.dataset import DrawnChart, draw_small
from tm_export.models.training.tinychart.reading_stage import Reader, reading_losses
from tm_export.models.training.tinychart.relating_stage import Relater, relating_losses

CHARTS = 30_000
TRAINING_SEED = 0


def train_reading(work: Path, charts: list[DrawnChart], steps: int, relating_steps: int) -> Relater:
    """Train the vision tower to read labels, and the connector with it to relate them, or load them if they are."""
    torch.manual_seed(0)
    reader = Reader()
    losses = partial(reading_losses, reader, charts)
    run_stage(Stage("reading", reader, losses, steps, learning_rate=1e-3, seed=1), work)
    relater = Relater(reader.tower)
    relations = partial(relating_losses, relater, charts)
    run_stage(Stage("relating", relater, relations, relating_steps, learning_rate=1e-3, seed=3), work)
    return relater


def train_answering(work: Path, relater: Relater, charts: list[DrawnChart], steps: int) -> ChartModel:
    """Train the language model, and the connector with it, on what the tower sees; or load them if they are."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(WEIGHTS / TOKENIZER))
    model = ChartModel(relater, tokenizer)
    losses = partial(answering_losses, model, charts, tokenizer)
    run_stage(Stage("answering", model, losses, steps, learning_rate=1e-3, seed=2), work)
    return model


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description="Train tinychart-tiny on drawn charts.")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and log; gone on with if there")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--reading-steps", type=int, default=4500)
    parser.add_argument("--relating-steps", type=int, default=7000)
    parser.add_argument("--answering-steps", type=int, default=3400)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)

    charts = [draw_small(TRAINING_SEED, number) for number in range(CHARTS)]
    relater = train_reading(options.work, charts, options.reading_steps, options.relating_steps)
    train_answering(options.work, relater, charts, options.answering_steps)


if __name__ == "__main__":
    main()
