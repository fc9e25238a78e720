"""The reference engine where each reader rounds its own copy of a value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb

from tests.support.coreml_programs import save_mil, variant_of
from tm_export.runtime.engines.coreml_reference import CoreMLReferenceEngine
from tm_export.runtime.engines.coreml_reference.readings import ROUNDED, Readings, RoundedByEachReader

SHAPE = (40, 50)


def run(package: Path, args: list[torch.Tensor], readings: Readings) -> list[np.ndarray]:
    variant = variant_of(package)
    with CoreMLReferenceEngine(readings).open(package, variant) as session:
        outputs = session.run({spec.name: arg.numpy() for spec, arg in zip(variant.inputs, args, strict=True)})
    return [outputs[spec.name] for spec in variant.outputs]


def drawn(dtype: torch.dtype, whole: bool = False) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    draw: Callable[[], Any] = lambda: torch.rand(SHAPE, generator=generator) * 30 + 1  # noqa: E731
    return [(draw().floor() if whole else draw()).to(dtype) for _ in range(2)]


def product_and_equal(x: Any, y: Any) -> list[Any]:
    product = mb.mul(x=x, y=y)
    equal = mb.cast(x=mb.equal(x=product, y=product), dtype="int32")
    moved = mb.reshape(x=product, shape=SHAPE[::-1])
    return [product, equal, mb.sub(x=moved, y=moved)]


@pytest.fixture(scope="module", params=[torch.float16, torch.float32], ids=["fp16", "fp32"])
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.dtype, Path]:
    folder = tmp_path_factory.mktemp("readings")
    return request.param, save_mil(product_and_equal, drawn(request.param), folder / "p.mlpackage")


def test_copies_of_a_product_are_equal_or_one_unit_apart(package: tuple[torch.dtype, Path]) -> None:
    dtype, path = package
    args = drawn(dtype)
    product, equal, differences = run(path, args, RoundedByEachReader(0))
    exact = args[0].double() * args[1].double()
    assert np.array_equal(product, exact.to(dtype).numpy())  # what leaves is rounded to nearest
    assert 0.3 < equal.mean() < 0.8  # two fair draws are the same every other time
    unit = np.spacing(np.abs(product)).reshape(differences.shape)
    assert np.isin(differences / unit, (-1, -0.5, 0, 0.5, 1)).all()  # below a power of two, units are half as large
    assert (np.abs(differences) == unit).mean() > 0.3 and differences.min() < 0 < differences.max()


def test_what_is_held_exactly_is_the_same_for_all(package: tuple[torch.dtype, Path]) -> None:
    dtype, path = package
    product, equal, differences = run(path, drawn(dtype, whole=True), RoundedByEachReader(0))
    assert product.max() > 500 and equal.all() and not differences.any()


def test_draws_follow_from_the_seed(package: tuple[torch.dtype, Path]) -> None:
    dtype, path = package
    first, again, other = (run(path, drawn(dtype), RoundedByEachReader(seed))[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_by_default_all_readers_see_the_same(package: tuple[torch.dtype, Path]) -> None:
    dtype, path = package
    for results in (run(path, drawn(dtype), ROUNDED), run(path, drawn(dtype), CoreMLReferenceEngine().readings)):
        assert results[1].all() and not results[2].any()


def test_beyond_the_largest_number_it_is_infinite_for_all(tmp_path: Path) -> None:
    args = [torch.full(SHAPE, 300.0, dtype=torch.float16)] * 2
    path = save_mil(product_and_equal, args, tmp_path / "p.mlpackage")
    product, equal, _ = run(path, args, RoundedByEachReader(0))
    assert np.isposinf(product).all() and equal.all()
