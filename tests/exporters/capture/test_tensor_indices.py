"""Indices that are tensors of one number: what is captured selects and writes what eager does, for others too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tests.support.programs import program_of, run

X = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
TABLE = torch.randn(9, 5, generator=torch.Generator().manual_seed(1))
PAIR = torch.tensor([0, 1])


def _written(x: Tensor, at: Tensor) -> Tensor:
    y = x.clone()
    y[:, at] = 1.5
    y[at, 1:, 2] = x[0, 1:, 0]
    y[0, at, at] += 7.0
    return y


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "a row of a table": lambda x, at: x + TABLE[at],
    "along another dimension": lambda x, at: (x[:, at], x[..., at], x[0, at, 1:3]),
    "counted from the end": lambda x, at: x[-at, at - 1],
    "beside new dimensions": lambda x, at: (x[None, at], x[:, None, at]),
    "beside a list of rows": lambda x, at: (x[PAIR, :, at], x[at, :, PAIR], x[at, PAIR]),
    "beside a mask": lambda x, at: (x * 1)[torch.tensor([True, False, True]), at],
    "that the model computes": lambda x, at: x[0, x[0, :, 0].argmax()],
    "of 32 bits": lambda x, at: x[at.int()],
    "writes": _written,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_selects_and_writes_what_eager_does(name: str) -> None:
    function = FUNCTIONS[name]
    program = program_of(function, X, torch.tensor(1))
    for at in (torch.tensor(1), torch.tensor(2), torch.tensor(0)):
        for x in (X, X.flip(1)):
            for found, wanted in zip(run(program, x, at), pytree.tree_leaves(function(x, at)), strict=True):
                torch.testing.assert_close(found, wanted)
