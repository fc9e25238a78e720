"""Turns a schedule of component variants into the sequence of block uses that is planned."""

from __future__ import annotations

from collections.abc import Sequence

from tm_export.runtime.engines.base import Engine, bytes_of
from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.loading.policy import BlockKey, Use
from tm_export.runtime.manifest import Call, Component, ComponentVariant, Manifest, TensorSpec


def uses_of(manifest: Manifest, engine: Engine, schedule: Sequence[tuple[str, str]]) -> tuple[Use, ...]:
    """The uses of running these (component, variant) one after another.

    The bytes of values that wait for a later call count as a use's `run_bytes`.

    Raises:
        BundleError: no such component or variant.
    """
    once = {run: _uses_of_run(manifest.component(run[0]), run[1], engine) for run in dict.fromkeys(schedule)}
    return tuple(use for run in schedule for use in once[run])


def last_reads(variant: ComponentVariant) -> dict[str, int]:
    """For each value of a component variant the index of the last call that reads it; -1 if none does.

    What the variant returns is read by nobody after the last call: its index is the number of calls.
    """
    last = {spec.name: -1 for spec in variant.inputs}
    for index, call in enumerate(variant.calls):
        last |= dict.fromkeys(call.writes, -1)
        last |= dict.fromkeys(call.reads, index)
    return last | {spec.name: len(variant.calls) for spec in variant.outputs}


def _uses_of_run(component: Component, variant_name: str, engine: Engine) -> tuple[Use, ...]:
    variant = component.variant(variant_name)
    last = last_reads(variant)
    specs = {spec.name: spec for spec in variant.inputs}
    uses = []
    for index, call in enumerate(variant.calls):
        block = component.block(call.block)
        function = next(one for one in block.variants if one.name == variant_name)
        waiting = _bytes_waiting(specs, last, index, call)
        footprint = engine.footprint(block, function)
        uses.append(
            Use(
                BlockKey(component.name, block.name, variant_name),
                Footprint(footprint.open_bytes, footprint.load_bytes, footprint.run_bytes + waiting),
            )
        )
        specs |= dict(zip(call.writes, function.outputs, strict=True))
    return tuple(uses)


def _bytes_waiting(specs: dict[str, TensorSpec], last: dict[str, int], index: int, call: Call) -> int:
    """What is kept for later calls while this one runs; its own inputs and outputs are part of its activations."""
    waiting = (spec for value, spec in specs.items() if last[value] > index and value not in call.reads)
    return bytes_of(tuple(waiting))
