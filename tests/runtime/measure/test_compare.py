"""The comparison: ratios of equal statistics only, and no difference between devices left unsaid."""

import io

from rich.console import Console

from tests.support.measured import report
from tm_export.runtime.measure.compare import ComparedRow, NamedReport, compare
from tm_export.runtime.measure.html_report import render_comparison
from tm_export.runtime.measure.latency_report import EngineInfo, LatencyReport, ResourceUse, Series, Statistics
from tm_export.runtime.measure.tables import comparison_table


def named(*reports: LatencyReport) -> list[NamedReport]:
    return [NamedReport(f"r{number}", one) for number, one in enumerate(reports)]


def shown(rows: tuple[ComparedRow, ...], width: int = 300) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(comparison_table(rows))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_ratios_are_of_medians_and_to_the_first() -> None:
    rows = compare(named(report((10, 20, 90)), report((5, 10, 11)), report((40,))))
    assert [row.ratio for row in rows] == [1.0, 0.5, 2.0]
    assert {row.ratio_of for row in rows} == {"p50"}
    assert [row.differences for row in rows] == [(), (), ()]
    assert "0.50x" in shown(rows) and "2.00x" in shown(rows)


def test_variants_are_compared_with_the_first_variant() -> None:
    series = tuple(
        Series.of("run", [time], component=component, variant=variant)
        for component, variant, time in (
            ("denoiser", "full", 30.0),
            ("vae", "full", 7.0),
            ("denoiser", "merged", 15.0),
        )
    )
    rows = compare(named(report(series=series)))
    assert [(row.component, row.variant, row.ratio) for row in rows] == [
        ("denoiser", "full", 1.0),
        ("denoiser", "merged", 0.5),
        ("vae", "full", 1.0),
    ]


def test_a_phone_beside_a_desktop_is_said_in_every_table() -> None:
    reports = named(report(kind="phone"), report(kind="desktop"))
    rows = compare(reports)
    assert rows[1].differences == ("a desktop, not a phone",)
    for text in (shown(rows), render_comparison(reports)):
        assert "a desktop, not a phone" in text
        assert "desktop figure, not a phone&#39;s" in text or "desktop figure, not a phone's" in text
        assert "phone figure" in text
    assert "1.00x !" in shown(rows)


def test_other_differences_are_said_too() -> None:
    first = report(engine=EngineInfo(name="onnxruntime", threads=1))
    other = report(engine=EngineInfo(name="onnxruntime", threads=4), build="debug", memory_budget_bytes=10)
    (row,) = compare(named(first, other))[1:]
    assert row.differences == ("build debug, not release", "4 threads, not 1 threads", "another memory budget")


def test_a_median_is_not_divided_by_a_mean() -> None:
    mean_only = report(series=(Series(quantity="run", component="net", statistics=Statistics(mean=22.0)),))
    estimate = report(series=(Series(quantity="run", component="net", statistics=Statistics(estimate=22.0)),))
    samples = report((10.0, 11.0, 12.0))
    _, by_mean, none = compare(named(samples, mean_only, estimate))
    assert (by_mean.ratio, by_mean.ratio_of) == (2.0, "mean")
    assert (none.ratio, none.ratio_of) == (None, None)
    assert none.run is not None and none.run.statistic == "estimate"
    assert "22.0 ms (estimate)" in shown(compare(named(samples, mean_only, estimate)))


def test_reports_of_one_component_each_are_compared_whatever_its_name() -> None:
    other = report(series=(Series.of("run", [22.0], component="MobileTests.testRun"),))
    rows = compare(named(report((11.0,)), other))
    assert [row.ratio for row in rows] == [1.0, 2.0]


def test_memory_and_loads_stand_in_the_row() -> None:
    made = report(
        series=(
            Series.of("cold_load", [30.0], component="net", variant="full"),
            Series.of("load", [3.0], component="net", variant="full"),
            Series.of("run", [10.0], component="net", variant="full"),
        ),
        resources=(ResourceUse(component="net", variant="full", peak_bytes=1_234_000_000),),
    )
    (row,) = compare(named(made))
    assert row.cold_load is not None and row.cold_load.milliseconds == 30.0
    assert row.warm_load is not None and row.warm_load.milliseconds == 3.0
    assert "1.23 GB" in shown((row,))


def test_the_label_is_never_cut_off() -> None:
    first, other = report(kind="emulator", build="debug"), report(kind="tablet")
    text = " ".join(shown(compare(named(first, other)), width=60).split())
    assert first.label in text and other.label in text
