"""Imported by the server that conversion workers are forked from: what every ONNX conversion would do anew.

`torch.onnx` parses the source of all 497 functions of onnxscript's library for each conversion: most of the time of a
small one. They are parsed once here, and no conversion changes them.
"""

from __future__ import annotations

from functools import cache

from torch.onnx._internal.exporter._registration import ONNXRegistry

from tm_export.exporters.targets.onnx.target import OPSET

_read_once = staticmethod(cache(ONNXRegistry.from_torchlib))
setattr(ONNXRegistry, "from_torchlib", _read_once)  # noqa: B010 - a method may not be assigned
ONNXRegistry.from_torchlib(opset_version=OPSET)
