"""Settings of all tests: one thread, since two on contended cores take a hundred times as long."""

import pytest
import torch
from hypothesis import settings

from tm_export.exporters.targets.base import find_target, target_names
from tm_export.exporters.worker import warm_up

torch.set_num_threads(1)
settings.register_profile("tm_export", deadline=None, max_examples=40)
settings.load_profile("tm_export")


@pytest.fixture(scope="session", autouse=True)
def _warm_workers() -> None:
    """Start the server of conversion workers warm for all targets: tests come in any order."""
    warm_up(map(find_target, target_names()))
