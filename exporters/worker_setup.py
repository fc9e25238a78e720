"""Imported once by the server that conversion workers are forked from: slow imports, and quiet converters."""

import os

os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported; coremltools has no other way to be quiet

import coremltools
import executorch.exir
import torch
import torch.onnx

__all__ = ["coremltools", "executorch", "torch"]
