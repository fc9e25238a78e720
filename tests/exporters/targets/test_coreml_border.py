"""What crosses the border of a Core ML program: truth values, single numbers, narrow integers, aliases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.coreml_artifact import TARGET, on_reference
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.targets.specs import as_declared, tensor_spec

BYTES = torch.tensor([200, 100, 7, 255], dtype=torch.uint8)
SMALL = torch.tensor([-128, 100, 7, 127], dtype=torch.int8)


def test_truth_values_and_single_numbers_come_and_go_as_the_manifest_says(tmp_path: Path) -> None:
    def forward(x: Tensor, mask: Tensor, step: Tensor, flag: Tensor) -> tuple[Tensor, ...]:
        return x.masked_fill(~mask, 0.0), mask & (x > 0), step + 1, torch.where(flag, x, -x), x.sum() > 0, mask

    x = torch.linspace(-1, 2, 6).reshape(2, 3)
    sets = [(x, x > 0.5, torch.tensor(7), torch.tensor(True)), (-x, x < 1, torch.tensor(-2), torch.tensor(False))]
    for made, inputs in zip(on_reference(forward, *sets, folder=tmp_path), sets, strict=True):
        for result, wanted in zip(made, forward(*inputs), strict=True):
            assert result.dtype == (torch.float32 if wanted.dtype.is_floating_point else torch.int32)
            assert result.shape == (wanted.shape or (1,))
            assert torch.equal(result.reshape(wanted.shape).to(wanted.dtype), wanted)


def test_an_input_is_an_output_and_one_value_is_two(tmp_path: Path) -> None:
    def forward(x: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        y = x * 2
        return x, y, y, ids, y[:, 0]

    inputs = (torch.arange(6.0).reshape(1, 6), torch.tensor([3, -1]))
    (made,) = on_reference(forward, inputs, folder=tmp_path)
    for result, wanted in zip(made, forward(*inputs), strict=True):
        assert torch.equal(result.to(wanted.dtype), wanted)


def test_bytes_wrap_as_in_pytorch(tmp_path: Path) -> None:
    def forward(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        wrapped = (a + a, a * 3, a - 201, -a, b + 1, b * b, b - 100, a.to(torch.int8), b.to(torch.uint8))
        return (*wrapped, a / 255, a.sum(), a.flip(0), torch.cat([b, b + b]), a > 100, a.to(torch.int16) * 300)

    (made,) = on_reference(forward, (BYTES, SMALL), folder=tmp_path)
    for result, wanted in zip(made, forward(BYTES, SMALL), strict=True):
        assert torch.allclose(result.reshape(wanted.shape).double(), wanted.double(), rtol=1e-6, atol=0)


def test_an_integer_beyond_32_bits_is_refused_by_name() -> None:
    spec = tensor_spec("ids", torch.tensor([1, 2]), TARGET)
    assert as_declared(spec, torch.tensor([5, -(2**31)])).tolist() == [5, -(2**31)]
    with pytest.raises(ConversionRefused, match=r"'ids' holds 2147483648.*integers of 32 bits"):
        as_declared(spec, torch.tensor([5, 2**31]))


def test_masks_of_the_lowest_float_are_finite_in_half_precision(tmp_path: Path) -> None:
    lowest = torch.finfo(torch.float32).min

    def forward(x: Tensor, mask: Tensor) -> Tensor:
        hidden = torch.zeros_like(x).masked_fill(~mask, lowest)
        return (x + hidden + torch.where(mask, 0.0, lowest)).softmax(-1)

    x, mask = torch.linspace(-2, 2, 12).reshape(3, 4), torch.ones(3, 4, dtype=torch.bool)
    mask[0, 1:] = False
    mask[1] = False
    (made,) = on_reference(forward, (x, mask), folder=tmp_path, options=ExportOptions(precision="fp16"))
    assert made[0][1].isfinite().all()  # a row that is hidden whole, where PyTorch's own is NaN
    torch.testing.assert_close(made[0][[0, 2]], forward(x, mask)[[0, 2]], rtol=0, atol=1e-3)
