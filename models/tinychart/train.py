"""Train `tinychart-tiny`: `python -m tm_export.models.tinychart.train --work DIR`.

Stopped and started again with the same folder, it goes on from its last checkpoint.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer

from tm_export.models.tinychart.tiny import WEIGHTS
from tm_export.models.tinychart.tiny.answering_stage import ChartModel, answering_losses
from tm_export.models.tinychart.tiny.dataset import CLASSES, DrawnChart, draw_small
from tm_export.models.tinychart.tiny.reading_stage import OWN, Reader, reading_losses
from tm_export.models.tinychart.tokenizer import TOKENIZER
from tm_export.models.training_stage import Stage, run_stage

CHARTS = 30_000
TRAINING_SEED = 0


def train_reading(work: Path, charts: list[DrawnChart], steps: int, relating_steps: int) -> Reader:
    """Train the vision tower to read labels, and then to relate them, or load it if it has been."""
    torch.manual_seed(0)
    model = Reader()
    own = partial(reading_losses, model, charts, OWN)
    run_stage(Stage("reading", model, own, steps, learning_rate=1e-3, seed=1), work)
    whole = partial(reading_losses, model, charts, len(CLASSES))
    run_stage(Stage("relating", model, whole, relating_steps, learning_rate=1e-3, seed=3), work)
    return model


def train_answering(work: Path, reader: Reader, charts: list[DrawnChart], steps: int, writing_steps: int) -> ChartModel:
    """Train all networks to answer, then the language model alone on what the tower sees; or load them if they are."""
    torch.manual_seed(0)
    model = ChartModel(reader)
    losses = partial(answering_losses, model, charts, Tokenizer.from_file(str(WEIGHTS / TOKENIZER)))
    run_stage(Stage("answering", model, losses, steps, learning_rate=1e-3, seed=2), work)
    model.reader.requires_grad_(False)
    run_stage(Stage("writing", model, losses, writing_steps, learning_rate=1e-3, seed=4), work)
    return model


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description="Train tinychart-tiny on drawn charts.")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and log; gone on with if there")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--reading-steps", type=int, default=4500)
    parser.add_argument("--relating-steps", type=int, default=1000)
    parser.add_argument("--answering-steps", type=int, default=800)
    parser.add_argument("--writing-steps", type=int, default=1700)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)

    charts = [draw_small(TRAINING_SEED, number) for number in range(CHARTS)]
    reader = train_reading(options.work, charts, options.reading_steps, options.relating_steps)
    train_answering(options.work, reader, charts, options.answering_steps, options.writing_steps)


if __name__ == "__main__":
    main()
