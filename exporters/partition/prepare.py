"""From a component to blocks that can be converted: capture, raise its merges, cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from tm_export.exporters.capture.capacity.returned import with_room
from tm_export.exporters.capture.capture import Captured, capture, capture_in_room
from tm_export.exporters.capture.normalise import normalise
from tm_export.exporters.capture.normalise.interface import as_artifact, interface_of, said
from tm_export.exporters.capture.normalise.widths import Widening, widening_of
from tm_export.exporters.errors import ConversionRefused, UsageError
from tm_export.exporters.graph.liveness import liveness_of, weight_bytes, weight_keys
from tm_export.exporters.graph.nodes import value_of
from tm_export.exporters.graph.retrace import note_captured
from tm_export.exporters.graph.tensors import tensors_of
from tm_export.exporters.merging.raise_merges import Raised, raise_merges
from tm_export.exporters.options import Capacities, ExportOptions
from tm_export.exporters.partition.cut import BlockPieces, cut, outputs_of, whole, with_own_outputs
from tm_export.exporters.partition.search import Need, partition
from tm_export.exporters.partition.signature import signature_of
from tm_export.exporters.record.progress import Progress
from tm_export.exporters.record.records import ParityRecord, StageRecord
from tm_export.exporters.record.stopwatch import Stopwatch
from tm_export.exporters.record.units import in_bytes
from tm_export.exporters.reference.cases import CAPTURED, EXAMPLE, SourceCheck, check_source
from tm_export.exporters.reference.first_layers import run_first_layers
from tm_export.exporters.reference.gates import gate_for
from tm_export.exporters.reference.parity import NONE, WHOLE, Subject, records_of
from tm_export.exporters.source.model_source import ComponentSource
from tm_export.exporters.targets.base import Signature
from tm_export.exporters.weights.narrow import is_narrowed, rounded
from tm_export.exporters.weights.readers import ModuleWeights, RoundedWeights, WeightReader


@dataclass(frozen=True)
class Prepared:
    """A component in blocks.

    Attributes:
        source: what it was made from.
        signature: its public inputs and outputs, the same for all variants.
        raised: each variant whole.
        outputs: shapes and dtypes of each variant's outputs, without values.
        blocks: what is converted, in the order of running.
        needs: what each block takes.
        weights: where they are read from.
        stages: what it took.
        checks: each variant held against the user's own module; none for a streamed model, whose module has no weights.
        captured: each variant as it was captured; of a streamed model alone, whose blocks are held against it.
        first_layers: by variant, up to which part a streamed model's captured program was held against its module.
        source_parity: how the captured and the raised programs, or those of a streamed model's twin, fared against the
            module.
        coarsest: the dtype of the least precise floats that the module computes with.
        widenings: by variant, what it costs to compute in 32 bits what the module computes in others.
    """

    source: ComponentSource
    signature: Signature
    raised: Mapping[str, Raised]
    outputs: Mapping[str, tuple[Tensor, ...]]
    blocks: tuple[BlockPieces, ...]
    needs: tuple[Need, ...]
    weights: WeightReader
    stages: tuple[StageRecord, ...]
    checks: Mapping[str, SourceCheck]
    captured: Mapping[str, ExportedProgram]
    first_layers: Mapping[str, str]
    source_parity: tuple[ParityRecord, ...]
    coarsest: torch.dtype
    widenings: Mapping[str, Widening]


def prepare(component: ComponentSource, options: ExportOptions, report: Progress) -> Prepared:
    """Capture every variant of a component, find its merges, and cut it into blocks.

    Raises:
        BudgetExceeded: no cut makes every block fit the block budget.
        UsageError: the component's variants have different weights.
    """
    raised: dict[str, Raised] = {}
    stages: list[StageRecord] = []
    checks: dict[str, SourceCheck] = {}
    source_parity: list[ParityRecord] = []
    streamed: dict[str, ExportedProgram] = {}
    first_layers: dict[str, str] = {}
    widenings: dict[str, Widening] = {}
    coarsest = torch.float32
    component, as_written, lines, records = _as_written(component, options, report)
    stages += records
    for name in component.variants:
        watch = Stopwatch(component.name, name, report)
        with watch.stage("normalise"):
            captured = normalise(as_written[name])
        if component.weights is not None:
            note_captured(captured)
            streamed[name] = captured
        with watch.stage("rewrite"):
            raised[name] = raise_merges(captured, options.seed)
        own = _coarsest(as_written[name])
        if (widening := widening_of(as_written[name])) is not None:
            widenings[name] = widening
            _say_widening(component.name, name, widening, report)
        coarsest = max(coarsest, own, key=lambda dtype: torch.finfo(dtype).eps)
        with watch.stage("check"):
            if component.weights is None:
                checks[name] = _checked(component, name, captured, raised[name], options, own)
                source_parity += checks[name].records
                if lines:
                    _refuse_read_capacities(component.name, name, lines, checks[name].records)
            else:
                if component.twin is not None and name in component.twin[1].variants:
                    source_parity += _checked_twin(*component.twin, name, options).records
                # Once, on what the last variant does: that the others are captured as they are, their twins show.
                is_last = name == tuple(component.variants)[-1]
                if is_last and (held := _first_layers(component, name, as_written[name], options, own)) is not None:
                    first_layers[name], layer_records = held
                    source_parity += layer_records
        if name in checks:
            _say_draws(component.name, name, checks[name].draws, options.seed, report)
        stages += watch.records
    programs = {name: each.program for name, each in raised.items()}
    if options.block_budget is not None:
        programs = {name: with_own_outputs(program) for name, program in programs.items()}
    outputs = {name: tuple(map(value_of, outputs_of(program))) for name, program in programs.items()}
    signature = signature_of(component, next(iter(outputs.values())))
    lives = [liveness_of(program, partial(_widened_bytes, options)) for program in programs.values()]
    stored = partial(_stored_bytes, options)
    sizes = {key: size for program in programs.values() for key, size in weight_bytes(program, stored).items()}
    found = partition(lives, sizes, options.block_budget)
    if len(found.needs) == 1:
        blocks: tuple[BlockPieces, ...] = (whole(programs, signature.inputs, signature.outputs),)
    else:
        cuts = [each.positions for each in found.cuts]
        blocks = cut(programs, cuts, signature.inputs, signature.outputs)
    weights = component.weights or _module_weights(component.name, programs)
    if options.weights == "fp16":
        weights = RoundedWeights(weights)
    return Prepared(
        component,
        signature,
        raised,
        outputs,
        blocks,
        found.needs,
        weights,
        tuple(stages),
        checks,
        streamed,
        first_layers,
        tuple(source_parity),
        coarsest,
        widenings,
    )


def _as_written(
    component: ComponentSource, options: ExportOptions, report: Progress
) -> tuple[ComponentSource, dict[str, ExportedProgram], tuple[str, ...], list[StageRecord]]:
    """The component as an artifact can have it, each variant captured, lines that have a capacity, and what it took.

    What a variant writes besides what it returns is known when it is captured; it is then captured anew, with that as
    inputs and outputs.
    """
    captured, stages = _capture_variants(component, options, report)
    further = len(next(iter(captured.values())).rooms)
    example_inputs = [value for name in captured for value in component.inputs_of(name)]
    interface = interface_of(_programs(captured), example_inputs, further)
    if not interface.is_plain:
        component = as_artifact(component, interface)
        report.say(f"{component.name}: {said(interface, component.state)}")
        captured, again = _capture_variants(component, options, report)
        stages += again
    if options.capacities:
        component = _with_room(component, captured, options.capacities, report)
    lines = tuple(dict.fromkeys(line for each in captured.values() for line in each.capacities))
    return component, _programs(captured), lines, stages


def _programs(captured: Mapping[str, Captured]) -> dict[str, ExportedProgram]:
    return {name: each.program for name, each in captured.items()}


def _with_room(
    component: ComponentSource, captured: Mapping[str, Captured], capacities: Capacities, report: Progress
) -> ComponentSource:
    """The component whose modules return as many tokens as there is room for, as its programs do.

    Raises `UsageError` for a capacity of a line that selects nothing, and for variants whose outputs differ by it.
    """
    lines = {line: room for each in captured.values() for line, room in each.capacities.items()}
    for line, _ in capacities.by_line:
        if line not in lines:
            raise UsageError(
                f"--capacity is given for {line}, where {component.name} selects nothing by a mask: give it for a line "
                "that a refusal names, or for all of them (--capacity 48)"
            )
    (first, one), *others = captured.items()
    for name, other in others:
        if other.rooms != one.rooms:
            raise UsageError(
                f"variants {first!r} and {name!r} of {component.name} select tokens for other outputs, or of other "
                "capacities: give both the same selections, or export them as models of their own"
            )
    for line, room in lines.items():
        report.say(f"{component.name}: {line} has room for {room} tokens; of more, the first are taken")
    if not one.rooms:
        return component
    returned = sum(spec.kind is OutputKind.USER_OUTPUT for spec in one.program.graph_signature.output_specs)
    return with_room(component, one.rooms, lines, returned - len(one.rooms))


def _capture_variants(
    component: ComponentSource, options: ExportOptions, report: Progress
) -> tuple[dict[str, Captured], list[StageRecord]]:
    captured: dict[str, Captured] = {}
    stages: list[StageRecord] = []
    for name, build in component.variants.items():
        watch = Stopwatch(component.name, name, report)
        with watch.stage("capture"):
            captured[name] = capture_in_room(build(), component.inputs_of(name), options.seed, options.capacities)
        stages += watch.records
    return captured, stages


def _checked(
    component: ComponentSource,
    variant: str,
    captured: ExportedProgram,
    raised: Raised,
    options: ExportOptions,
    coarsest: torch.dtype,
) -> SourceCheck:
    """The variant held against the user's module, which computes with floats as coarse as these."""
    outputs = range(len(captured.graph_signature.output_specs))
    names = component.output_names or tuple(f"output_{i}" for i in outputs)

    def subject(engine: str) -> Subject:
        return Subject(component.name, WHOLE, variant, engine, names)

    return check_source(
        subject,
        component.variants[variant](),
        captured,
        raised.program,
        component.inputs_of(variant),
        component.fresh_inputs.get(variant),
        options.seed,
        gate_for("fp32", coarsest),
        rounded if options.weights == "fp16" else None,
    )


def _refuse_read_capacities(
    component: str, variant: str, lines: Sequence[str], records: Sequence[ParityRecord]
) -> None:
    """Raise `ConversionRefused` if a program with room for more tokens behind these lines is not the module's.

    What was captured has the capacity wherever Python asks how many tokens there are.
    """
    if any(record.engine == CAPTURED and not record.passed for record in records):
        raise ConversionRefused(
            f"{component} {variant} does not compute the same with room for more tokens behind {', '.join(lines)}: "
            "where it computes with Python's number of tokens (x.shape[0], len(x), numel), that is the capacity in the "
            "artifact, and mask.sum() is what it should compute with; else choose a fixed number of tokens there (topk "
            "with a constant k)"
        )


def _first_layers(
    component: ComponentSource, variant: str, as_written: ExportedProgram, options: ExportOptions, coarsest: torch.dtype
) -> tuple[str, list[ParityRecord]] | None:
    """A streamed model's first layers, held against the module's own; also returns the path of the last of them."""
    assert component.weights is not None
    module, inputs = component.variants[variant](), component.inputs_of(variant)
    found = run_first_layers(module, as_written, inputs, component.weights, options.seed)
    if found is None:
        return None
    subject = Subject(component.name, f"up to {found.last}", variant, CAPTURED, (found.last,))
    gate = gate_for("fp32", coarsest)
    return found.last, records_of(subject, EXAMPLE, [found.captured], [found.in_eager], NONE, gate)


def _checked_twin(model: str, twin: ComponentSource, variant: str, options: ExportOptions) -> SourceCheck:
    """The same variant of a smaller model, whose module can run, through the same capture and the same rules."""
    as_written = capture(twin.variants[variant](), twin.inputs_of(variant), options.seed)
    captured, named = normalise(as_written), replace(twin, name=f"{twin.name} of {model}")
    raised, own = raise_merges(captured, options.seed), replace(options, weights=None)
    return _checked(named, variant, captured, raised, own, _coarsest(as_written))


def _say_draws(component: str, variant: str, draws: tuple[str, ...], seed: int, report: Progress) -> None:
    if draws:
        report.say(
            f"{component} {variant}: random numbers are drawn once, from --seed {seed}, and stay the same in every run "
            f"of the artifact: {'; '.join(draws)}"
        )


def _say_widening(component: str, variant: str, widening: Widening, report: Progress) -> None:
    dtypes, before, after = ", ".join(widening.dtypes), in_bytes(widening.bytes_before), in_bytes(widening.bytes_after)
    weights = f", and {before} of weights become {after}" if widening.bytes_before != widening.bytes_after else ""
    report.say(f"{component} {variant}: {dtypes} is computed with in 32 bits{weights}")


def _coarsest(program: ExportedProgram) -> torch.dtype:
    """The dtype of the least precise floats in a program."""
    dtypes = {
        value.dtype
        for node in program.graph.nodes
        if isinstance(value := node.meta.get("val"), Tensor) and value.dtype.is_floating_point
    }
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def _stored_bytes(options: ExportOptions, weight: Tensor) -> int:
    narrow = options.weights == "fp16" and is_narrowed(weight)
    half = options.precision == "fp16" and weight.is_floating_point()
    return weight.numel() * (2 if narrow or half else weight.element_size())


def _widened_bytes(options: ExportOptions, weight: Tensor) -> int:
    """What the copy takes of a weight that is stored in 16 bits and computed with in 32."""
    is_widened = options.weights == "fp16" and options.precision != "fp16" and is_narrowed(weight)
    return weight.numel() * weight.element_size() if is_widened else 0


def _module_weights(component: str, programs: Mapping[str, ExportedProgram]) -> ModuleWeights:
    """The weights that the captured programs hold, which must be the same in all variants."""
    tensors: dict[str, Tensor] = {}
    for variant, program in programs.items():
        held = tensors_of(program)
        for key in weight_keys(program).values():
            tensor = held[key]
            if key in tensors and not _same(tensors[key], tensor):
                raise UsageError(
                    f"weight {key!r} of {component} is not the same in variant {variant!r}: variants run the same "
                    "weights; give them the same, or export them as models of their own"
                )
            tensors[key] = tensor
    return ModuleWeights(tensors)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() or torch.equal(one, other)
