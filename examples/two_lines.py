"""The two-line use in Python, on whatever `vit_tome.build()` returns."""

from vit_tome import build

import tm_export

module, inputs = build()
bundle = tm_export.export(module, inputs, target="onnx", out="out")

print(bundle.path)
