"""Settings of all tests: one thread, since two on contended cores take a hundred times as long."""

import gc
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import settings

from tm_export.exporters.convert.worker import warm_up
from tm_export.exporters.record.collecting import collect_seldom
from tm_export.exporters.targets.base import find_target, target_names

torch.set_num_threads(1)
collect_seldom()  # as `tm-export` itself
settings.register_profile("tm_export", deadline=None, max_examples=40)
settings.load_profile("tm_export")


@pytest.fixture(scope="session", autouse=True)
def _warm_workers() -> None:
    """Start the server of conversion workers warm for all targets: tests come in any order."""
    warm_up(map(find_target, target_names()))


@pytest.fixture(scope="session", autouse=True)
def _coremltools_collects_no_garbage() -> None:
    """It looks through all of memory after each conversion, which is half of the time of a small one."""
    import tm_export.runtime.coremltools_alone  # noqa: F401  # which must be the first to import it

    entry = sys.modules["coremltools.converters._converters_entry"]
    entry.gc = SimpleNamespace(collect=lambda: 0)  # type: ignore[attr-defined]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What has been imported by now is no garbage to look through."""
    gc.collect()
    gc.freeze()
