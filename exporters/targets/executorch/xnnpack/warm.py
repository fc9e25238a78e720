"""Imported by the server that conversion workers are forked from: what every XNNPACK conversion would do anew.

The delegate's passes export patterns of attention and of resizing when they first run, three quarters of the time of a
small conversion. They are cached by the library itself.
"""

from __future__ import annotations

import torch
import tqdm
from executorch.backends.xnnpack.partition.graphs import bilinear_2d, sdpa

tqdm.tqdm.monitor_interval = 0  # a server that forks has one thread
_threads = torch.get_num_threads()
torch.set_num_threads(1)
bilinear_2d.get_graphs()
sdpa.get_graphs()
torch.set_num_threads(_threads)
