"""A ViT that merges tokens, from training on real scans to all three targets.

    python examples/digits_vit.py --out out/digits

Trains on scikit-learn's handwritten digits (1797 scans of 8×8 pixels, on disk with the package) in under two
minutes. The trained weights are exported twice to each target: `full` keeps all 64 tokens through the 4
layers, `merged` merges 8 in each. Every test image then goes through PyTorch and through each engine.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

import tm_export
from tm_export.models.merging.attention import proportional_attention
from tm_export.models.merging.bipartite import match_bipartite, merge_weighted
from tm_export.runtime.engines.base import Session

TEST_IMAGES = 360
BATCH = 60  # static in the exported programs; divides the test images, so that no batch needs padding
EPOCHS = 24
LEARNING_RATE = 4e-3
MERGED_PER_LAYER = 8


class Block(nn.Module):
    """One transformer layer that merges `r` tokens between attention and MLP."""

    def __init__(self, dim: int, heads: int, r: int) -> None:
        super().__init__()
        self.heads, self.r = heads, r
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x_BNC: Tensor, size_BN1: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, N, C] to [B, N − r, C], and how many pixels each stands for."""
        qkv = self.qkv(self.norm1(x_BNC)).unflatten(2, (3, self.heads, -1))
        q_BHNK, k_BHNK, v_BHNK = qkv.permute(2, 0, 3, 1, 4)
        x_BNC = x_BNC + self.out(proportional_attention(q_BHNK, k_BHNK, v_BHNK, size_BN1))
        x_BNC, size_BN1 = merge_weighted(x_BNC, size_BN1, match_bipartite(k_BHNK.mean(1), self.r))
        return x_BNC + self.mlp(self.norm2(x_BNC)), size_BN1


class DigitsViT(nn.Module):
    """Images [B, 1, 8, 8] to logits of the ten digits [B, 10]; one token for each pixel and its surround."""

    def __init__(self, r: int, dim: int = 48, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, dim, kernel_size=3, padding=1)
        self.position = nn.Parameter(torch.randn(1, 64, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, r) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def merging(self, r: int) -> "DigitsViT":
        """Set how many tokens each layer merges."""
        for block in self.blocks:
            block.r = r
        return self

    def forward(self, images_B1HW: Tensor) -> Tensor:
        """The logits, from the mean over all 64 pixels whichever token stands for them."""
        x_BNC = self.embed(images_B1HW).flatten(2).transpose(1, 2) + self.position
        size_BN1: Tensor | None = None
        for block in self.blocks:
            x_BNC, size_BN1 = block(x_BNC, size_BN1)
        x_BNC = self.norm(x_BNC)
        pooled_BC = x_BNC.mean(1) if size_BN1 is None else (x_BNC * size_BN1).sum(1) / 64
        logits: Tensor = self.head(pooled_BC)
        return logits


def train(seed: int = 0, epochs: int = EPOCHS) -> tuple[DigitsViT, Tensor, Tensor]:
    """Train with and without merging by turns; returns the model, the test images and their labels."""
    # One thread: the same sums on any machine, and for so small a model no slower than two.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    digits = load_digits()
    images = torch.from_numpy(digits.images / 8 - 1).float().unsqueeze(1)
    labels = torch.from_numpy(digits.target)
    train_rows, test_rows = train_test_split(
        np.arange(len(labels)), test_size=TEST_IMAGES, random_state=seed, stratify=digits.target
    )
    train_images, train_labels = images[train_rows], labels[train_rows]

    model = DigitsViT(r=0)
    steps = epochs * -(-len(train_rows) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    step = 0
    for _ in range(epochs):
        for rows in torch.randperm(len(train_rows)).split(BATCH):
            model.merging(MERGED_PER_LAYER if step % 2 else 0)
            batch = train_images[rows]
            if torch.rand(()) < 0.5:
                batch = shifted(batch)
            loss = F.cross_entropy(model(batch), train_labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
    torch.set_num_threads(threads)
    return model.merging(0).eval(), images[test_rows], labels[test_rows]


def shifted(images_B1HW: Tensor) -> Tensor:
    """The images moved by up to one pixel each way, the same for the whole batch."""
    row, column = torch.randint(0, 3, (2,)).tolist()
    return F.pad(images_B1HW, (1, 1, 1, 1), value=-1.0)[..., row : row + 8, column : column + 8]


def in_batches(run: Callable[[NDArray[np.float32]], NDArray[np.float32]], images_B1HW: Tensor) -> NDArray[np.float32]:
    """Logits [B, 10] from `run`, which takes and gives arrays of exactly `BATCH` images."""
    return np.concatenate([run(batch.numpy()) for batch in images_B1HW.split(BATCH)])


@dataclass(frozen=True)
class Row:
    """One line of the table: how one engine did on the test images."""

    tokens: str
    engine: str
    accuracy: float
    agreeing: int


def evaluate(model: DigitsViT, tokens: str, images: Tensor, labels: Tensor, out: Path) -> list[Row]:
    """Export the model to all three targets and answer every test image with each."""
    with torch.no_grad():
        expected = in_batches(lambda batch: model(torch.from_numpy(batch)).numpy(), images).argmax(1)
    answers = {"PyTorch": expected}
    for target, engine in (
        ("onnx", "ONNX Runtime"),
        ("executorch", "ExecuTorch"),
        ("coreml", "Core ML reference"),
    ):
        bundle = tm_export.export(
            model, (images[:BATCH],), target=target, out=out, precision="fp32", name=f"digits-{tokens}"
        )
        with bundle.open(component="model", variant="full") as session:
            answers[engine] = in_batches(lambda batch: one_output(session, batch), images).argmax(1)
    truth = labels.numpy()
    return [
        Row(tokens, engine, float((answer == truth).mean()), int((answer == expected).sum()))
        for engine, answer in answers.items()
    ]


def one_output(session: Session, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a session that has one input and one output."""
    (input_spec,) = session.variant.inputs
    (logits,) = session.run({input_spec.name: batch}).values()
    return logits


def main() -> None:
    """Train, export, and print the table; fails unless every engine gives PyTorch's answer on every image."""
    parser = argparse.ArgumentParser(description="Train a merging ViT on digits and run it on every engine.")
    parser.add_argument("--out", type=Path, default=Path("out/digits"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    model, images, labels = train(args.seed)
    rows = [
        row
        for tokens, r in (("full", 0), ("merged", MERGED_PER_LAYER))
        for row in evaluate(model.merging(r), tokens, images, labels, args.out)
    ]
    print(f"{'tokens':<8} {'engine':<18} {'accuracy':>8}  PyTorch's answer on")
    for row in rows:
        agreeing = f"{row.agreeing} of {len(images)} images"
        print(f"{row.tokens:<8} {row.engine:<18} {row.accuracy:>8.2%}  {agreeing}")
    if any(row.agreeing != len(images) for row in rows):
        raise SystemExit("an engine disagrees with PyTorch")


if __name__ == "__main__":
    main()
