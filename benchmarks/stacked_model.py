"""A tiny model that is cut into six blocks: a stem, four layers that are one program, and a head.

tm-export -m benchmarks/stacked_model.py:build --target onnx --block-budget 7KiB
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

BLOCK_BUDGET: Final = "7KiB"
"""One layer fits into it, and two do not."""


class Layer(nn.Module):
    """An MLP with a skip connection, on all tokens [B, N, C] or on means of neighbours."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, 2 * dim)
        self.narrow = nn.Linear(2 * dim, dim)

    def forward(self, tokens: Tensor, merges: bool) -> Tensor:
        x = (tokens[:, ::2] + tokens[:, 1::2]) / 2 if merges else tokens
        x = self.narrow(nn.functional.gelu(self.widen(self.norm(x))))
        return tokens + (x.repeat_interleave(2, dim=1) if merges else x)


class Stack(nn.Module):
    """Tokens [1, 8, 8] to [1, 8, 4]."""

    def __init__(self, dim: int = 16, layers: int = 4) -> None:
        super().__init__()
        self.stem = nn.Linear(8, dim)
        self.layers = nn.ModuleList(Layer(dim) for _ in range(layers))
        self.head = nn.Linear(dim, 4)

    def forward(self, tokens: Tensor, merges: bool = False) -> Tensor:
        x = self.stem(tokens)
        for layer in self.layers:
            x = layer(x, merges)
        return self.head(x)


class Merging(nn.Module):
    """The same weights, run on half as many tokens inside each layer."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, tokens: Tensor) -> Tensor:
        return self.stack(tokens, merges=True)


class Plain(nn.Module):
    """The same weights, run on all tokens."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, tokens: Tensor) -> Tensor:
        return self.stack(tokens)


def build() -> tuple[dict[str, nn.Module], Tensor]:
    torch.manual_seed(0)
    stack = Stack().eval()
    return {"full": Plain(stack), "merged": Merging(stack)}, torch.randn(1, 8, 8)
