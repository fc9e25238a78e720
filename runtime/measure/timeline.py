"""The timeline as inline SVG: threads as lanes, loads and runs on them, memory below on the same time axis.

Horizontal positions are percentages, so that a timeline is as wide as its surroundings while text and lines keep their
size. Colours come from the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from tm_export.runtime.loading.events import Event
from tm_export.runtime.loading.memory import MemorySample
from tm_export.runtime.measure.chrome_trace import phase_name, threads_of
from tm_export.runtime.measure.recording import Phase, Recording
from tm_export.runtime.readable import in_bytes, in_milliseconds

_LANE = 26
_BAR = 20
_GAP = 14
_MEMORY = 130
_AXIS = 22
_MAX_POINTS = 800
# Bars that are closer than this share of the width cannot be told apart: they are drawn as one.
_SMALLEST = 1 / 700


@dataclass(frozen=True)
class Window:
    """The stretch of time that a timeline shows; times are `time.perf_counter_ns`."""

    title: str
    start_ns: int
    end_ns: int

    def share(self, time_ns: int) -> float:
        """Where a time stands: 0 at the window's start, 1 at its end."""
        return (time_ns - self.start_ns) / (self.end_ns - self.start_ns)

    def shows(self, start_ns: int, end_ns: int) -> bool:
        """Whether any of it is in the window."""
        return start_ns < self.end_ns and end_ns > self.start_ns


def windows_of(recording: Recording) -> tuple[Window, ...]:
    """What to show of a recording: all of it, the run whose time is the median, and the first cold load."""
    if not recording.phases:
        return ()
    phases = recording.phases
    found = [Window("The whole measurement", phases[0].start_ns, phases[-1].end_ns)]
    runs = sorted((phase for phase in phases if phase.kind == "run"), key=lambda p: p.end_ns - p.start_ns)
    if runs:
        median = runs[(len(runs) - 1) // 2]
        found.append(_window(f"The median of {len(runs)} runs: {phase_name(median)}", median))
    cold = next((phase for phase in phases if phase.kind in ("cold_load", "load")), None)
    if cold is not None:
        found.append(_window("The first cold load" if cold.kind == "cold_load" else "The first load", cold))
    return tuple(window for window in found if window.end_ns > window.start_ns)


def _window(title: str, phase: Phase) -> Window:
    return Window(title, phase.start_ns, phase.end_ns)


def timeline(recording: Recording, window: Window, budget_bytes: int | None) -> Markup:
    """Draw what happened in a window: phases, then a lane for each thread, then memory with the budget as a line."""
    threads = threads_of(recording)
    top = _LANE * (1 + len(threads)) + _GAP
    height = top + _MEMORY + _AXIS
    parts = [
        *_time_axis(window, top + _MEMORY),
        *_lane("phases", 0),
        *(_phase_bar(window, phase) for phase in recording.phases if window.shows(phase.start_ns, phase.end_ns)),
    ]
    for number, thread in enumerate(threads, start=1):
        parts += _lane(thread, number)
        parts += _bars(window, [event for event in recording.events if event.thread == thread], number)
    parts += _memory(window, recording, budget_bytes, top)
    return Markup('<svg class="timeline" role="img" aria-label="{}" style="height: {}px">{}</svg>').format(
        window.title, height, Markup("").join(parts)
    )


def _lane(name: str, number: int) -> Iterator[Markup]:
    middle = number * _LANE + _BAR / 2
    yield Markup('<text class="lane" x="0%" dx="-8" y="{}" dy="4" text-anchor="end">{}</text>').format(middle, name)
    yield Markup('<line class="grid" x1="0%" x2="100%" y1="{y}" y2="{y}"/>').format(y=middle)


def _phase_bar(window: Window, phase: Phase) -> Markup:
    took = in_milliseconds((phase.end_ns - phase.start_ns) / 1e6)
    name = phase_name(phase)
    return _bar(window, phase.start_ns, phase.end_ns, 0, f"phase {phase.kind}", f"{name}: {took}", name)


def _bars(window: Window, events: Sequence[Event], lane: int) -> Iterator[Markup]:
    shown = [event for event in events if window.shows(event.start_ns, event.end_ns)]
    for group in _together(window, sorted(shown, key=lambda event: event.start_ns)):
        first, last = group[0], group[-1]
        if len(group) == 1:
            title = (
                f"{first.kind} {first.component}/{first.block} ({first.variant}): "
                f"{in_milliseconds((first.end_ns - first.start_ns) / 1e6)}, {in_bytes(first.bytes)}"
            )
            yield _bar(window, first.start_ns, first.end_ns, lane, first.kind, title, first.block)
        else:
            took = in_milliseconds(sum(event.end_ns - event.start_ns for event in group) / 1e6)
            title = f"{len(group)} {first.kind}s: {took} together"
            yield _bar(window, first.start_ns, last.end_ns, lane, first.kind, title, f"{len(group)} {first.kind}s")


def _together(window: Window, events: Sequence[Event]) -> Iterator[list[Event]]:
    """Neighbours of one kind that are drawn as one bar, since bars or gaps between them would be too thin to see."""
    smallest = (window.end_ns - window.start_ns) * _SMALLEST
    for _, same in groupby(events, key=lambda event: event.kind):
        group: list[Event] = []
        for event in same:
            if (
                group
                and event.start_ns - group[-1].end_ns < smallest
                and (event.end_ns - event.start_ns < smallest or group[-1].end_ns - group[-1].start_ns < smallest)
            ):
                group.append(event)
                continue
            if group:
                yield group
            group = [event]
        yield group


def _bar(window: Window, start_ns: int, end_ns: int, lane: int, style: str, title: str, text: str) -> Markup:
    left, right = max(0.0, window.share(start_ns)), min(1.0, window.share(end_ns))
    # An inner svg cuts the text off where the bar ends.
    caption = Markup('<text x="4" y="14">{}</text>').format(text) if right - left > 0.035 else Markup("")
    return Markup(
        '<svg class="event {}" x="{:.3f}%" y="{}" width="{:.3f}%" height="{}">'
        '<title>{}</title><rect width="100%" height="100%"/>{}</svg>'
    ).format(style, 100 * left, lane * _LANE, 100 * max(right - left, _SMALLEST), _BAR, title, caption)


def _memory(window: Window, recording: Recording, budget: int | None, top: int) -> Iterator[Markup]:
    shown = _thinned(list(_around(window, recording.memory)))
    if not shown:
        yield Markup('<text class="lane" x="0%" y="{}">no sample of memory fell into this time</text>').format(top + 20)
        return
    ticks = _round_steps(max(budget or 0, *(sample.rss_bytes for sample in shown)))
    scale = ticks[-1]
    for tick in ticks:
        y = top + _MEMORY * (1 - tick / scale)
        yield Markup(
            '<line class="grid" x1="0%" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text class="lane" x="0%" dx="-8" y="{y:.1f}" dy="4" text-anchor="end">{tick}</text>'
        ).format(y=y, tick=in_bytes(tick).replace(".00 ", " ").replace(".0 ", " "))
    yield Markup(
        '<svg x="0" y="{}" width="100%" height="{}" viewBox="0 0 1000 100" preserveAspectRatio="none">'
    ).format(top, _MEMORY)
    yield _area(window, [(s.time_ns, s.rss_bytes) for s in shown], scale, "file-backed")
    if all(sample.anonymous_bytes is not None for sample in shown):
        yield _area(window, [(s.time_ns, s.anonymous_bytes or 0) for s in shown], scale, "anonymous")
    yield Markup("</svg>")
    if budget is not None:
        y = top + _MEMORY * (1 - budget / scale)
        yield Markup(
            '<line class="budget" x1="0%" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text class="budget" x="100%" dx="-4" y="{y:.1f}" dy="-5" text-anchor="end">{text}</text>'
        ).format(y=y, text=f"budget {in_bytes(budget)}")


def _around(window: Window, samples: Sequence[MemorySample]) -> Iterator[MemorySample]:
    """The samples inside a window and the nearest on either side, so that the curve fills it."""
    before = [sample for sample in samples if sample.time_ns < window.start_ns]
    after = [sample for sample in samples if sample.time_ns > window.end_ns]
    yield from before[-1:]
    yield from (sample for sample in samples if window.start_ns <= sample.time_ns <= window.end_ns)
    yield from after[:1]


def _thinned(samples: Sequence[MemorySample]) -> list[MemorySample]:
    """At most so many samples that a screen shows them; of each stretch the largest stays, so that no peak is lost."""
    stretch = math.ceil(len(samples) / _MAX_POINTS)
    if stretch <= 1:
        return list(samples)
    stretches = [samples[start : start + stretch] for start in range(0, len(samples), stretch)]
    return [max(part, key=lambda sample: sample.rss_bytes) for part in stretches]


def _area(window: Window, points: Sequence[tuple[int, int]], scale: int, style: str) -> Markup:
    line = " ".join(f"{1000 * window.share(time):.2f},{100 * (1 - value / scale):.2f}" for time, value in points)
    first, last = points[0][0], points[-1][0]
    ends = f"{1000 * window.share(first):.2f},100 {line} {1000 * window.share(last):.2f},100"
    return Markup(
        '<polygon class="area {style}" points="{ends}"/><polyline class="curve {style}" points="{line}"/>'
    ).format(style=style, ends=ends, line=line)


def _time_axis(window: Window, bottom: int) -> Iterator[Markup]:
    duration_ms = (window.end_ns - window.start_ns) / 1e6
    step = _round_step(duration_ms, 7)
    for number in range(math.floor(duration_ms / step) + 1):
        x = 100 * number * step / duration_ms
        yield Markup(
            '<line class="grid" x1="{x:.3f}%" x2="{x:.3f}%" y1="0" y2="{bottom}"/>'
            '<text class="lane" x="{x:.3f}%" y="{below}" text-anchor="middle">{time}</text>'
        ).format(x=x, bottom=bottom, below=bottom + 16, time=_tick(number * step, step))


def _tick(milliseconds: float, step: float) -> str:
    if step >= 500:
        return f"{milliseconds / 1000:g} s"
    return f"{milliseconds:g} ms" if step >= 0.5 else f"{milliseconds * 1000:.3g} µs"


def _round_step(largest: float, at_most: int) -> float:
    """The smallest of 1, 2 or 5 times a power of ten of which at most so many fit."""
    magnitude = 10.0 ** math.floor(math.log10(largest / at_most))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude * at_most >= largest)


def _round_steps(largest: int) -> list[int]:
    """From 0 in equal round steps, four at most, to `largest` or just above it."""
    step = max(1, round(_round_step(max(largest, 1), 4)))
    return [step * number for number in range(math.ceil(max(largest, 1) / step) + 1)]
