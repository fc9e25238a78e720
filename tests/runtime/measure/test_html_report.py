"""The page: whole, self-contained, escaped, labelled, and drawn to scale."""

import re
from html.parser import HTMLParser

import pytest

from tests.support.measured import MS, recording, report
from tm_export.runtime.loading.memory import MemorySample
from tm_export.runtime.measure.compare import NamedReport
from tm_export.runtime.measure.html_report import render_comparison, render_report
from tm_export.runtime.measure.latency_report import Device, Series, Statistics
from tm_export.runtime.measure.series import series_of
from tm_export.runtime.measure.timeline import Window, timeline, windows_of
from tm_export.runtime.readable import in_bytes, in_milliseconds

VOID = {"meta", "link", "br", "line", "rect", "polygon", "polyline"}


class Page(HTMLParser):
    """Every element in order with its attributes and text; closing tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.stack: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page() -> str:
    made = recording()
    return render_report(report(series=series_of(made), memory_budget_bytes=220 * 10**6), [made])


def test_the_page_is_whole_and_asks_for_nothing() -> None:
    parsed = Page(page())
    tags = {tag for tag, _ in parsed.elements}
    assert {"svg", "table", "title"} <= tags and not tags & {"script", "img", "iframe", "object"}
    assert not re.findall(r"https?://|url\(|@import", page())
    assert all(value == "data:," for tag, attrs in parsed.elements if tag == "link" for value in [attrs["href"]])


def test_the_same_recording_is_the_same_page() -> None:
    assert page() == page()


@pytest.mark.parametrize("kind", ["phone", "desktop", "emulator"])
def test_the_label_is_on_the_page_and_in_its_title(kind: str) -> None:
    made = report(kind=kind, build="debug")
    text = "".join(Page(render_report(made)).text)
    assert text.count(made.label) >= 2
    assert made.label in "".join(Page(render_comparison([NamedReport("a", made), NamedReport("b", made)])).text)


def test_text_is_escaped_wherever_it_stands() -> None:
    attack = '<script>alert("1")</script>'
    made = recording(component=attack)
    hostile = report(
        model=attack,
        device=Device(name=attack, kind="phone"),
        series=(Series.of("run", [1.0], component=attack, variant="full", block=attack), *series_of(made)),
    )
    for text in (render_report(hostile, [made]), render_comparison([NamedReport(attack, hostile)])):
        assert "<script" not in text
        assert attack in "".join(Page(text).text)


def test_percentiles_and_blocks_stand_in_tables() -> None:
    text = " ".join("".join(Page(page()).text).split())
    assert "cold load" in text and "27.0 ms" in text and "All 2 blocks" in text
    made = report(series=(Series(quantity="run", component="net", statistics=Statistics(estimate=22.0)),))
    assert "Estimate" in "".join(Page(render_report(made)).text)


def bars(window: Window, style: str) -> list[tuple[float, float]]:
    drawn = str(timeline(recording(), window, None))
    found = [attrs for tag, attrs in Page(drawn).elements if tag == "svg" and attrs.get("class") == f"event {style}"]
    return [(float(attrs["x"][:-1]), float(attrs["width"][:-1])) for attrs in found]


def test_bars_stand_where_the_events_were() -> None:
    second = Window("run 1", 1040 * MS, 1080 * MS)
    assert bars(second, "load") == [(2.5, 20.0)]  # 1 to 9 of 40 ms
    assert bars(second, "run") == [(0.0, 25.0), (30.0, 50.0)]
    assert bars(second, "phase run") == [(0.0, 87.5)]
    assert bars(Window("half a run", 1060 * MS, 1080 * MS), "run") == [(0.0, 60.0)]  # cut where the window begins


def test_bars_too_thin_to_tell_apart_are_drawn_as_one() -> None:
    wide = Window("long", 1000 * MS, 60_000 * MS)
    assert len(bars(wide, "load")) < len([event for event in recording().events if event.kind == "load"])
    assert "loads:" in str(timeline(recording(), wide, None))


def heights(window: Window, budget: int | None) -> tuple[list[float], float | None]:
    """The values of the resident set that are drawn, in MB, and the budget line's."""
    drawn = str(timeline(recording(), window, budget))
    ticks = [
        (float(y), label)
        for y, label in re.findall(
            r'<text class="lane" x="0%" dx="-8" y="([\d.]+)" dy="4" [^>]*>([\d.]+ [kMG]?B)<', drawn
        )
    ]
    bottom = next(y for y, label in ticks if label == "0 B")
    top, label = min(ticks)
    scale = float(label.split()[0]) / (bottom - top)
    line = re.search(r'<polyline class="curve file-backed" points="([^"]*)"', drawn)
    assert line is not None
    height = bottom - top
    values = [scale * height * (1 - float(point.split(",")[1]) / 100) for point in line[1].split()]
    drawn_budget = re.search(r'<line class="budget"[^>]* y1="([\d.]+)"', drawn)
    return values, scale * (bottom - float(drawn_budget[1])) if drawn_budget else None


def test_memory_is_drawn_to_scale_with_the_budget_as_a_line() -> None:
    window = Window("run 1", 1000 * MS, 1020 * MS)
    values, budget = heights(window, 265 * 10**6)
    # One sample before the window, five in it, one after: 145, 150, … 175 MB.
    assert values == pytest.approx([145, 150, 155, 160, 165, 170, 175], abs=1)
    assert budget == pytest.approx(265, abs=2)
    assert heights(window, None)[1] is None


def test_no_peak_is_lost_when_there_are_more_samples_than_pixels() -> None:
    many = tuple(MemorySample(1000 * MS + at * 1000, 10**6, 10**6, 0) for at in range(5000))
    spike = MemorySample(many[2500].time_ns, 800 * 10**6, 10**6, 0)
    drawn = str(
        timeline(recording(memory=(*many[:2500], spike, *many[2501:])), Window("w", 1000 * MS, 1005 * MS), None)
    )
    (points,) = re.findall(r'<polyline class="curve file-backed" points="([^"]*)"', drawn)
    assert len(points.split()) <= 800
    assert min(float(point.split(",")[1]) for point in points.split()) == 0.0


def test_windows_are_the_whole_the_median_run_and_the_first_cold_load() -> None:
    titles = [window.title for window in windows_of(recording())]
    assert titles == ["The whole measurement", "The median of 2 runs: run 1", "The first cold load"]
    assert windows_of(recording(phases=())) == ()


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0.00 ms"), (0.0123, "12.3 µs"), (0.9999, "1.00 ms"), (9.996, "10.0 ms"), (999.6, "1.00 s"), (None, "-")],
)
def test_times_are_readable(milliseconds: float | None, text: str) -> None:
    assert in_milliseconds(milliseconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1_200_000_000, "1.20 GB"), (None, "-")])
def test_sizes_are_readable(count: int | None, text: str) -> None:
    assert in_bytes(count) == text
