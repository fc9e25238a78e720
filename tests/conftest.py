"""Settings of all tests: one thread, since two on contended cores take a hundred times as long."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("tm_export", deadline=None, max_examples=40)
settings.load_profile("tm_export")
