"""Run as a script: opens, runs and closes a block on an engine; prints what the process held as JSON.

A process of its own, since what another test has left in the heap would hide what a block takes.
"""

import gc
import json
import sys
from pathlib import Path

import numpy as np

from tm_export.runtime.engines import choose_engine
from tm_export.runtime.heap import give_back_free_memory
from tm_export.runtime.loading.memory import MemorySampler, sample_memory
from tm_export.runtime.manifest import Block


def main() -> None:
    target, folder, warm_up, block_json = sys.argv[1:]
    block = Block.model_validate_json(block_json)
    variant = block.variants[0]
    engine = choose_engine(target, threads=2)
    inputs = {spec.name: np.ones(spec.shape, spec.dtype) for spec in variant.inputs}
    with engine.open(Path(warm_up), variant) as session:  # libraries, thread pools
        session.run(inputs)
    gc.collect()
    give_back_free_memory()
    before = sample_memory().rss_bytes
    with MemorySampler() as sampler:
        session = engine.open(Path(folder) / variant.artifact, variant)
        opening = sampler.peak_rss_bytes() - before
    with MemorySampler() as sampler:
        outputs = session.run(inputs)
        running = sampler.peak_rss_bytes() - before
    del outputs
    give_back_free_memory()
    idle = sample_memory()
    session.close()
    del session
    gc.collect()
    give_back_free_memory()
    print(
        json.dumps(
            {
                "opening": opening,
                "running": running,
                "idle": idle.rss_bytes - before,
                "idle_mapped": idle.file_backed_bytes,
                "closed": sample_memory().rss_bytes - before,
            }
        )
    )


if __name__ == "__main__":
    main()
