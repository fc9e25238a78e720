"""One denoising evaluation of STDiT3-XL from its bundle, under a memory budget, against PyTorch.

    python benchmarks/full_size_run.py --checkpoint DIR --bundle out/ondevice-sora-144p-onnx --work DIR

PyTorch runs the eager module, all its weights in memory; the bundle runs block by block with `tm-run`, which measures
its own peak RSS and fails if that is above the budget. Inputs are the model's examples: 2 × 2800 tokens.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tm_export.models.spec.registry import find_model

MODEL, COMPONENT = "ondevice-sora-144p", "denoiser"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--variant", default="full")
    parser.add_argument("--memory-budget", default="1.2GB")
    arguments = parser.parse_args()
    inputs, outputs = reference(arguments.checkpoint, arguments.variant, arguments.work)
    result = arguments.work / "result.safetensors"
    command = [
        *(str(Path(sys.executable).with_name("tm-run")), str(arguments.bundle), "--component", COMPONENT),
        *("--variant", arguments.variant, "--memory-budget", arguments.memory_budget),
        *("--inputs", str(inputs), "--out", str(result)),
    ]
    began = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    print(f"tm-run: exit code {code}, {time.monotonic() - began:.0f} s")
    if code:
        raise SystemExit(code)
    expected, found = load_file(outputs)["prediction"].double(), load_file(result)["prediction"].double()
    error = (found - expected).abs().max() / expected.abs().max()
    psnr = 10 * np.log10(float(expected.abs().max() ** 2 / ((found - expected) ** 2).mean()))
    print(f"{arguments.variant}: relative error {error:.1e}, PSNR {psnr:.1f} dB")


def reference(checkpoint: Path, variant: str, work: Path) -> tuple[Path, Path]:
    """Files with the inputs, and with what PyTorch makes of them; made once."""
    work.mkdir(exist_ok=True)
    inputs, outputs = work / "inputs.safetensors", work / f"{variant}.safetensors"
    if outputs.exists():
        return inputs, outputs
    component = next(each for each in find_model(MODEL).components if each.name == COMPONENT)
    examples = component.example_inputs(0)
    with torch.device("meta"):
        module = component.variants[variant]()
    component.load_weights(module, checkpoint)
    began = time.monotonic()
    with torch.inference_mode():
        result = module(*examples)
    print(f"PyTorch, eager: {time.monotonic() - began:.0f} s")
    save_file(dict(zip(component.input_names, examples, strict=True)), inputs)
    save_file({"prediction": result.contiguous()}, outputs)
    return inputs, outputs


if __name__ == "__main__":
    main()
