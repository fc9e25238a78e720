"""Draw fresh inputs like the example inputs: what holds for one example may hold for it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor

FRESH: Final = 2
"""How many sets of fresh inputs a model is verified on, beside its example inputs."""
_TRIES: Final = 12


def fresh_inputs(
    examples: tuple[Tensor, ...], seed: int, accepts: Callable[[tuple[Tensor, ...]], bool]
) -> tuple[Tensor, ...] | None:
    """Inputs of the examples' shapes and dtypes that the model accepts, or None where no draw was accepted.

    Floats are drawn with the mean and the spread of the example's and within its range, integers and truth values
    within its range; where the example's numbers ascend, so do those drawn: bounds to search in, offsets of sequences.
    Draws that are not accepted come nearer to the examples: first integers and truth values are
    the example's own in another order, then just floats are drawn, then floats are the example's own in another order.
    """
    generator = torch.Generator().manual_seed(seed)
    for draw in _draws(generator):
        drawn = tuple(_ordered_as(example, draw(example)) for example in examples)
        if accepts(drawn):
            return drawn
    return None


def _draws(generator: torch.Generator) -> Iterator[Callable[[Tensor], Tensor]]:
    def anew(x: Tensor) -> Tensor:
        return _floats(x, generator) if x.is_floating_point() else _whole(x, generator)

    def in_another_order(x: Tensor) -> Tensor:
        return _floats(x, generator) if x.is_floating_point() else _shuffled(x, generator)

    def floats_alone(x: Tensor) -> Tensor:
        return _floats(x, generator) if x.is_floating_point() else x.clone()

    def same_floats(x: Tensor) -> Tensor:
        return _shuffled(x, generator) if x.is_floating_point() else x.clone()

    for draw in (anew, in_another_order, floats_alone, same_floats):
        for _ in range(_TRIES // 4):
            yield draw


def _ordered_as(x: Tensor, drawn: Tensor) -> Tensor:
    """The drawn numbers in ascending order, if the example's are, in every row of three or more.

    Positions, which go up by one, may stand in any order.
    """
    if x.dim() == 0 or x.shape[-1] < 3 or x.dtype == torch.bool or x.numel() == 0:
        return drawn
    steps = x.detach()[..., 1:] - x.detach()[..., :-1]
    ascends = bool((steps >= 0).all()) and bool((steps > 0).any(-1).all()) and bool((steps != 1).any())
    return drawn.sort(-1).values if ascends else drawn


def _floats(x: Tensor, generator: torch.Generator) -> Tensor:
    """Normal, with the example's mean and deviation; what falls outside its range is drawn evenly within it."""
    if x.numel() == 0:
        return x.clone()
    wide = x.detach().to(torch.float64)
    low, high = wide.min(), wide.max()
    if low == high:  # no scale but the value's own: zeros are most likely a stand-in for anything
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return (noise if low == 0 else low * (1 + 0.25 * noise.clamp(-2, 2))).to(x.dtype)
    drawn = wide.mean() + wide.std() * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    evenly = low + (high - low) * torch.rand(x.shape, generator=generator, dtype=torch.float64)
    return drawn.where((drawn >= low) & (drawn <= high), evenly).to(x.dtype)


def _whole(x: Tensor, generator: torch.Generator) -> Tensor:
    if x.numel() == 0:
        return x.clone()
    if x.dtype == torch.bool:
        return torch.rand(x.shape, generator=generator) < x.float().mean()
    low, high = int(x.min()), int(x.max())
    return torch.randint(low, high + 1, x.shape, generator=generator).to(x.dtype)


def _shuffled(x: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(x.numel(), generator=generator)
    return x.detach().reshape(-1)[order].reshape(x.shape)
