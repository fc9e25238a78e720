"""Runs variants of a bundle's components on golden inputs or the caller's, in a memory budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tm_export.runtime.engines.base import Array, EngineError, require_fit
from tm_export.runtime.errors import UserError
from tm_export.runtime.loading.machinery import Machinery
from tm_export.runtime.loading.memory import MemorySampler
from tm_export.runtime.loading.process_budget import loader_within_budget
from tm_export.runtime.manifest import BundleError, Manifest
from tm_export.runtime.run.golden_check import Difference, difference
from tm_export.runtime.run.tensor_files import TensorFileError, read_tensors


class RequestError(UserError):
    """What is asked for does not fit the bundle; the message says what does."""


@dataclass(frozen=True)
class Task:
    """One variant to run, its inputs, and the outputs that it should give, if they are known."""

    component: str
    variant: str
    inputs: dict[str, Array]
    golden: dict[str, Array] | None


@dataclass(frozen=True)
class Ran:
    """What became of a task: the last run's outputs, every run's seconds, and the distance from the golden outputs."""

    task: Task
    outputs: dict[str, Array]
    seconds: tuple[float, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Outcome:
    """All tasks' results, and the largest resident set of the process while they ran."""

    ran: tuple[Ran, ...]
    peak_rss_bytes: int


def golden_tasks(bundle_dir: Path, manifest: Manifest, component: str | None, variant: str | None) -> tuple[Task, ...]:
    """A task for each golden run of the bundle, of one component or one variant if they are given.

    Raises:
        BundleError: no such component, or golden files that cannot be read or do not fit the manifest.
        RequestError: there is no such golden run.
    """
    if component is not None:
        found = manifest.component(component)
        if variant is not None:
            found.variant(variant)
    records = [
        record
        for record in manifest.golden
        if component in (None, record.component) and variant in (None, record.variant)
    ]
    if not records:
        known = ", ".join(f"{record.component} ({record.variant})" for record in manifest.golden) or "none"
        raise RequestError(
            f"the bundle has no golden inputs for {component or 'any component'} ({variant or 'any variant'}), only "
            f"for: {known}; give inputs with --inputs FILE.safetensors"
        )
    tasks = []
    for record in records:
        specs = manifest.component(record.component).variant(record.variant)
        where = f"component {record.component!r} ({record.variant})"
        try:
            inputs, outputs = (read_tensors(bundle_dir / path) for path in (record.inputs, record.outputs))
            require_fit("golden input", where, specs.inputs, inputs)
            if missing := {spec.name for spec in specs.outputs} ^ set(outputs):
                raise TensorFileError(f"{record.outputs} and the manifest disagree on the outputs {sorted(missing)}")
        except (TensorFileError, EngineError) as error:
            raise BundleError(f"{error}; export again") from error
        tasks.append(Task(record.component, record.variant, inputs, outputs))
    return tuple(tasks)


def task_of_inputs(manifest: Manifest, component: str | None, variant: str | None, inputs: dict[str, Array]) -> Task:
    """The task of running one variant on the caller's inputs; a name may be left out where there is only one.

    Raises:
        BundleError: no such component or variant.
        RequestError: there are several to choose from, or the inputs do not fit.
    """
    chosen = manifest.component(_only("component", component, [one.name for one in manifest.components]))
    specs = chosen.variant(_only("variant", variant, [one.name for one in chosen.variants]))
    try:
        require_fit("input", f"component {chosen.name!r} ({specs.name})", specs.inputs, inputs)
    except EngineError as error:
        raise RequestError(str(error)) from None
    return Task(chosen.name, specs.name, inputs, None)


def run_tasks(machinery: Machinery, tasks: Sequence[Task], repeat: int) -> Outcome:
    """Runs each task `repeat` times, one task after another, as one schedule.

    Raises:
        BudgetTooSmall: the tasks cannot run within the budget, or turned out to take more than was reckoned.
        EngineError: the engine refuses a block or fails.
    """
    ran = []
    with MemorySampler() as sampler, loader_within_budget(machinery) as loader:
        loader.schedule([(task.component, task.variant) for task in tasks for _ in range(repeat)])
        for task in tasks:
            outputs: dict[str, Array] = {}
            seconds = []
            for _ in range(repeat):
                start = time.perf_counter()
                outputs = loader.run(task.component, task.variant, task.inputs)
                seconds.append(time.perf_counter() - start)
            found = tuple(difference(name, outputs[name], golden) for name, golden in (task.golden or {}).items())
            ran.append(Ran(task, outputs, tuple(seconds), found))
        peak = sampler.peak_rss_bytes()
    return Outcome(tuple(ran), peak)


def _only(kind: str, name: str | None, names: Sequence[str]) -> str:
    if name is not None:
        return name
    if len(names) > 1:
        raise RequestError(f"the bundle has several {kind}s ({', '.join(names)}): choose one with --{kind}")
    return names[0]
