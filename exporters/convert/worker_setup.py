"""Imported once by the server that conversion workers are forked from: slow imports, quiet and quick converters."""

from __future__ import annotations

import logging
import os
import warnings

logging.disable(logging.WARNING)  # what converters warn of, the user can do nothing about
warnings.simplefilter("ignore")
os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported; coremltools has no other way to be quiet

import executorch.exir  # noqa: E402
import torch.onnx  # noqa: E402

import tm_export.exporters.graph.torch_patches  # noqa: E402, F401
from tm_export.runtime.coremltools_alone import coremltools  # noqa: E402

__all__ = ["coremltools", "executorch", "torch"]
