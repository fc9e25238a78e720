"""From blocks to artifacts: each distinct program is converted once, and its other blocks are written by weights."""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from torch import Tensor
from torch.export import ExportedProgram

from tm_export.exporters.convert.journal import Journal, step_key
from tm_export.exporters.convert.template import NotATemplate, Slot, fill, find_slots
from tm_export.exporters.convert.worker import Emission, SavedBlock, save_block, start_emission
from tm_export.exporters.errors import ConversionRefused
from tm_export.exporters.graph.retrace import KEEP, retrace
from tm_export.exporters.graph.tensors import is_fake, probe_tensor, tensors_of, with_tensors
from tm_export.exporters.lowering.choose import lower_merges
from tm_export.exporters.options import ExportOptions
from tm_export.exporters.partition.cut import BlockPieces
from tm_export.exporters.partition.names import block_name, signature_of_piece
from tm_export.exporters.partition.prepare import Prepared
from tm_export.exporters.record.progress import Progress, counted
from tm_export.exporters.record.records import StageRecord
from tm_export.exporters.record.stopwatch import Stopwatch
from tm_export.exporters.targets.base import Function, Legalized, Target
from tm_export.exporters.targets.tool_versions import tool_versions
from tm_export.exporters.weights.readers import block_weights, fingerprint_of
from tm_export.runtime.heap import give_back_free_memory

STEM: Final = "block"
"""What every block is called while it is converted, so that blocks of one program become equal files."""


@dataclass(frozen=True)
class Workshop:
    """Where an export works.

    Attributes:
        bundle: the bundle's folder, as far as it is.
        scratch: for what is not part of it.
        journal: what has been finished.
        jobs: how many conversions may run at a time.
    """

    bundle: Path
    scratch: Path
    journal: Journal
    jobs: int


@dataclass(frozen=True)
class Converted:
    """A component's artifacts.

    `programs` says how many different programs its blocks are, `conversions` how often a converter ran for them:
    more often where an artifact cannot be written by weights.
    """

    programs: int
    conversions: int
    stages: tuple[StageRecord, ...]
    legalized: Mapping[str, Mapping[str, Legalized]]
    """Each program that was converted, by its structure and variant; its weights are shapes alone."""


class Conversion:
    """A component on its way to artifacts: its first programs are being converted, while the caller does other things.

    Either `finish` or `cancel` it.

    Args:
        at_once: so many programs at most are begun with; `finish` takes as many as there may be jobs.
    """

    def __init__(
        self,
        prepared: Prepared,
        target: Target,
        options: ExportOptions,
        workshop: Workshop,
        report: Progress,
        *,
        at_once: int,
    ) -> None:
        self._converter = _Converter(prepared, target, options, workshop, report)
        self._label, self._jobs, self._report = f"{prepared.source.name}: programs converted", workshop.jobs, report
        groups: dict[str, list[int]] = {}
        for i, block in enumerate(prepared.blocks):
            groups.setdefault(block.structure, []).append(i)
        self._programs = len(groups)
        self._pending = [group for group in groups.values() if not self._converter.finished(group)]
        self._running = [self._converter.start(group) for group in self._pending[:at_once]]

    @property
    def has_more(self) -> bool:
        """Whether there are programs that have not been begun with."""
        return len(self._running) < len(self._pending)

    @property
    def unfinished(self) -> list[Future[int]]:
        """The conversions that are under way."""
        return [each.emission.job for each in self._running if not each.emission.job.done()]

    def finish(self) -> Converted:
        """Write the artifacts of all blocks to the component's folder in the bundle; raises `ConversionRefused`."""
        converter, started = self._converter, len(self._running)
        for number, group in enumerate(counted(self._pending, self._label, self._report)):
            if number >= started:
                if len(self._running) == self._jobs:
                    converter.finish(self._running.pop(0))
                self._running.append(converter.start(group))
        while self._running:
            converter.finish(self._running.pop(0))
        return Converted(self._programs, converter.conversions, tuple(converter.stages), converter.legalized)

    def cancel(self) -> None:
        """Let go of what is being converted, once its workers have come to their end."""
        for each in self._running:
            with suppress(ConversionRefused):
                each.emission.wait()
            each.emission.discard()


def lower(program: ExportedProgram, target: Target, options: ExportOptions) -> Legalized:
    """A raised program in the operators that the target runs best."""
    program = retrace(program, lambda _node, _values: KEEP)  # a piece's inputs have strides of their own
    half = target.precision(options) == "fp16"
    return target.legalize(lower_merges(program, target.costs(options), options, half=half), options)


def weights_of(prepared: Prepared, block: BlockPieces) -> dict[str, Tensor]:
    """A block's weights, in the dtypes that its pieces compute with."""
    dtypes = {name: tensor.dtype for name, tensor in _held_weights(block).items()}
    return block_weights(prepared.weights, block.weights, dtypes)


@dataclass(frozen=True)
class _Running:
    """A conversion under way: for which blocks, and by what recipe for each variant.

    More than one block are converted over probes. Nothing here holds them or weights, which the worker holds now.
    """

    group: list[int]
    emission: Emission
    legalized: Mapping[str, Legalized]
    watch: Stopwatch


class _Converter:
    def __init__(
        self, prepared: Prepared, target: Target, options: ExportOptions, workshop: Workshop, report: Progress
    ) -> None:
        self._prepared, self._target, self._options = prepared, target, options
        self._workshop, self._report = workshop, report
        self._folder = workshop.bundle / prepared.source.name
        self._keys: dict[int, str] = {}
        self.legalized: dict[str, dict[str, Legalized]] = {}
        self.conversions = 0
        self.stages: list[StageRecord] = []

    def finished(self, group: list[int]) -> bool:
        """Whether all these blocks are written."""
        return all(self._workshop.journal.recall(self._key(i)) is not None for i in group)

    def start(self, group: list[int]) -> _Running:
        """Start to convert the program of these blocks: over its own weights if it is one, else over probes."""
        first = self._prepared.blocks[group[0]]
        watch = Stopwatch(self._prepared.source.name, self._label(group), self._report)
        with watch.stage("lower"):
            saved, legalized = self._lowered(group)
        if _is_streamed(first):
            # What it took in memory must not stay while the worker converts it, not even in cycles of graphs.
            gc.collect()
            give_back_free_memory()
        self.conversions += 1
        self.legalized[first.structure] = legalized
        return _Running(group, start_emission(saved, STEM, self._target, self._options), legalized, watch)

    def _lowered(self, group: list[int]) -> tuple[SavedBlock, dict[str, Legalized]]:
        """The program of these blocks, ready to be converted; its weights are on disk alone if they were read here."""
        first = self._prepared.blocks[group[0]]
        weights = self._weights_to_convert(group)
        legalized = {
            variant: lower(with_tensors(piece.program, weights), self._target, self._options)
            for variant, piece in first.pieces.items()
        }
        functions = {
            variant: Function(each.program, signature_of_piece(self._prepared, first, variant))
            for variant, each in legalized.items()
        }
        saved = save_block(functions, self._workshop.scratch)
        return saved, {
            variant: Legalized(_without_weights(each, weights), each.recipe) for variant, each in legalized.items()
        }

    def _weights_to_convert(self, group: list[int]) -> dict[str, Tensor]:
        """Probes if there are several blocks; else the weights of the one, if it does not hold them as they are."""
        block = self._prepared.blocks[group[0]]
        if len(group) > 1:
            return _probes_of(block)
        held = not _is_streamed(block) and self._options.weights != "fp16"
        return {} if held else weights_of(self._prepared, block)

    def finish(self, running: _Running) -> None:
        """Wait for a conversion, and write its blocks."""
        with running.watch.stage("convert"):
            running.watch.worker_peak_bytes = running.emission.wait()
        self.stages += running.watch.records
        try:
            if len(running.group) == 1:
                self._place(running.emission.folder, running.group[0])
            else:
                self._write_all(running)
        finally:
            running.emission.discard()

    def _write_all(self, running: _Running) -> None:
        watch = Stopwatch(self._prepared.source.name, self._label(running.group), self._report)
        try:
            with watch.stage("find weights"):
                slots = find_slots(running.emission.folder, self._probes_in(running))
        except NotATemplate as problem:
            self._report.say(f"{self._prepared.source.name}: {problem}; each block is converted by itself")
            for i in running.group:
                self.finish(self.start([i]))
            return
        with watch.stage("write"):
            for i in counted(running.group, f"{self._prepared.source.name}: blocks written", self._report):
                if self._workshop.journal.recall(self._key(i)) is None:
                    self._write(running, slots, i)
        self.stages += watch.records

    def _probes_in(self, running: _Running) -> dict[str, Tensor]:
        """What has become of the probes that a program was converted over, by variant and name."""
        return _distinct(_followed(running.legalized, _probes_of(self._prepared.blocks[running.group[0]])))

    def _write(self, running: _Running, slots: tuple[Slot, ...], i: int) -> None:
        """Write one block into a copy of the artifact."""
        tensors = _followed(running.legalized, weights_of(self._prepared, self._prepared.blocks[i]))
        with tempfile.TemporaryDirectory(prefix="writing-", dir=self._workshop.scratch) as folder:
            fill(running.emission.folder, slots, tensors, Path(folder))
            self._target.seal(Path(folder))
            self._place(Path(folder), i)

    def _place(self, made: Path, i: int) -> None:
        """Move a block's artifacts into the bundle."""
        self._folder.mkdir(parents=True, exist_ok=True)
        files = []
        for path in sorted(made.iterdir()):
            place = self._folder / path.name.replace(STEM, block_name(i, len(self._prepared.blocks)), 1)
            if place.is_dir():
                shutil.rmtree(place)
            path.replace(place)
            files += [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
        names = [file.relative_to(self._workshop.bundle).as_posix() for file in files]
        self._workshop.journal.record(self._key(i), files, names)

    def _key(self, i: int) -> str:
        if i not in self._keys:
            self._keys[i] = self._new_key(self._prepared.blocks[i], i)
        return self._keys[i]

    def _new_key(self, block: BlockPieces, i: int) -> str:
        return step_key(
            "block",
            self._prepared.source.name,
            block_name(i, len(self._prepared.blocks)),
            block.structure,
            self._prepared.weights.fingerprint(block.weights.values()),
            sorted(asdict(self._options).items()),
            [signature_of_piece(self._prepared, block, variant) for variant in block.pieces],
            sorted(tool_versions(self._target).items()),
        )

    def _label(self, group: list[int]) -> str:
        count = len(self._prepared.blocks)
        if count == 1:
            return ", ".join(self._prepared.raised)
        same = f" and {len(group) - 1} like it" if len(group) > 1 else ""
        return f"block {block_name(group[0], count)}{same}"


def _is_streamed(block: BlockPieces) -> bool:
    return any(is_fake(t) for piece in block.pieces.values() for t in tensors_of(piece.program).values())


def _probes_of(block: BlockPieces) -> dict[str, Tensor]:
    """A probe in place of each of a block's weights, of which only the shapes are looked at."""
    return {name: probe_tensor(name, tensor) for name, tensor in _held_weights(block).items()}


def _held_weights(block: BlockPieces) -> dict[str, Tensor]:
    """A block's weights as its pieces hold them: perhaps shapes alone, perhaps not yet rounded."""
    held = {name: tensor for piece in block.pieces.values() for name, tensor in tensors_of(piece.program).items()}
    return {name: held[name] for name in block.weights if name in held}


def _followed(legalized: Mapping[str, Legalized], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that each variant's program has in place of these weights, by variant and name."""
    followed: dict[str, Tensor] = {}
    for variant, each in legalized.items():
        held = tensors_of(each.program)
        followed |= {f"{variant}/{n}": tensor for n, tensor in each.recipe.follow(weights).items() if n in held}
    return followed


def _without_weights(legalized: Legalized, weights: Mapping[str, Tensor]) -> ExportedProgram:
    """The program over shapes where it holds weights that were read for it: others are in memory anyway."""
    if not weights:
        return legalized.program
    held = tensors_of(legalized.program)
    made = {name: held[name].to("meta") for name in legalized.recipe.follow(weights) if name in held}
    return with_tensors(legalized.program, made)


def _distinct(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor once: variants hold the same ones."""
    seen: dict[str, str] = {}
    for name, tensor in tensors.items():
        seen.setdefault(fingerprint_of(tensor), name)
    return {name: tensors[name] for name in seen.values()}
