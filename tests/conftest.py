"""Settings of all tests: one thread, since two on contended cores take a hundred times as long."""

import gc

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


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What has been imported by now is no garbage to look through."""
    gc.collect()
    gc.freeze()
