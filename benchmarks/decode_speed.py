"""Tokens per second of TinyChart's language model on ONNX Runtime, against one pass over its weights.

    python benchmarks/decode_speed.py --layers 4 --threads 2

Some layers of the published size, with its head and random weights, are exported as ONNX, and the variant `decode` runs
over a cache of 1024 tokens. A token cannot come faster than its weights are read once. How fast this machine reads is
measured in turn with the runs, by as many threads: PyTorch's sum over as many bytes. Reported are medians and
their ratio; the embedding, of which one row is read, does not count, caches do.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import tm_export
from tm_export.models.tinychart.components import build_llm, llm_inputs
from tm_export.models.tinychart.config import LanguageModelConfig
from tm_export.runtime.engines.onnx_runtime import OnnxRuntimeEngine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--weights", choices=("mapped", "packed"), default="mapped")
    arguments = parser.parse_args()
    config = replace(LanguageModelConfig(), num_layers=arguments.layers, max_tokens=1024)
    torch.manual_seed(0)
    model = build_llm(config)
    inputs = llm_inputs(config, 1, 0)
    parameters = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    caches = sum(tensor.numel() for tensor in inputs[5:])
    read = 4 * (parameters + caches)
    with tempfile.TemporaryDirectory() as folder:
        bundle = tm_export.export({"decode": model}, inputs, target="onnx", out=folder, name="llm", verify="converted")
        (block,) = bundle.manifest.components[0].blocks
        (variant,) = block.variants
        del model
        runs, sums = [], []
        memory = torch.ones(read // 4)
        torch.set_num_threads(arguments.threads)
        engine = OnnxRuntimeEngine(threads=arguments.threads, weights=arguments.weights)
        with engine.open(Path(bundle.path) / variant.artifact, variant) as session:
            feeds = {spec.name: tensor.numpy() for spec, tensor in zip(variant.inputs, inputs, strict=True)}
            for _ in range(arguments.tokens + 1):
                start = time.perf_counter()
                session.run(feeds)
                ran = time.perf_counter()
                memory.sum()
                runs.append(ran - start)
                sums.append(time.perf_counter() - ran)
    run, once = statistics.median(runs[1:]), statistics.median(sums[1:])
    print(
        f"{arguments.layers} layers, {read / 1e9:.2f} GB read: {run * 1e3:.0f} ms a token, {1 / run:.2f} tokens/s; "
        f"one pass over as many bytes {once * 1e3:.0f} ms ({read / once / 1e9:.1f} GB/s); ratio {run / once:.2f}"
    )


if __name__ == "__main__":
    main()
