"""Imported once by the server that conversion workers are forked from: slow imports, quiet and quick converters."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

logging.disable(logging.WARNING)  # what converters warn of, the user can do nothing about
warnings.simplefilter("ignore")
os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported; coremltools has no other way to be quiet

import executorch.exir  # noqa: E402
import torch.fx.traceback  # noqa: E402
import torch.onnx  # noqa: E402

from tm_export.runtime.coremltools_alone import coremltools  # noqa: E402

__all__ = ["coremltools", "executorch", "torch"]


def _without_provenance(source: Any, node: Any, pass_name: str = "", action: Any = None) -> None:
    """Stand in for `NodeSource.__init__`, without the chain of nodes that a node comes from.

    PyTorch copies that chain, deeply, for each node of each pass, and ExecuTorch has over a hundred passes: it was a
    third of the time of a conversion. Nothing that is emitted contains it.
    """
    source.pass_name, source.action, source.from_node = pass_name, [], []
    source.node_info = None
    source._dict = source._action_string = None


setattr(torch.fx.traceback.NodeSource, "__init__", _without_provenance)  # noqa: B010 - a method may not be assigned
