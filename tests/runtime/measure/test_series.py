"""From a recording to its series: known times in, known samples out."""

from tests.support.measured import MS, recording
from tm_export.runtime.loading.events import Event
from tm_export.runtime.measure.latency_report import Series
from tm_export.runtime.measure.recording import Phase
from tm_export.runtime.measure.series import resource_use_of, series_of


def samples(found: tuple[Series, ...]) -> dict[tuple[str, str | None], tuple[float, ...]]:
    return {(series.quantity, series.block): series.samples_ms for series in found}


def test_every_quantity_is_what_the_recording_says() -> None:
    assert samples(series_of(recording())) == {
        ("cold_load", None): (27.0,),  # 12 and 15: closing is no part of loading
        ("cold_load", "a"): (12.0,),
        ("cold_load", "b"): (15.0,),
        ("streamed_load", "b"): (8.0, 8.0),
        ("run", None): (35.0, 35.0),  # of the phase, with what lies between the blocks
        ("run", "a"): (10.0, 10.0),
        ("run", "b"): (20.0, 20.0),
    }


def test_a_load_that_goes_on_into_the_next_run_is_counted_once() -> None:
    phases = (Phase("run", 1, 0, 10 * MS), Phase("run", 2, 10 * MS, 20 * MS))
    across = Event("load", "net", "a", "full", 8 * MS, 14 * MS, "loader_0", 1)
    found = samples(series_of(recording(phases=phases, events=(across,))))
    assert found == {("streamed_load", "a"): (6.0,), ("run", None): (10.0, 10.0)}


def test_a_load_of_unknown_state_is_not_called_cold() -> None:
    made = recording()
    phases = tuple(
        phase if phase.kind != "cold_load" else Phase("load", 1, phase.start_ns, phase.end_ns) for phase in made.phases
    )
    found = samples(series_of(recording(phases=phases)))
    assert found["load", None] == (27.0,)
    assert not any(quantity == "cold_load" for quantity, _ in found)


def test_memory_is_that_of_the_runs() -> None:
    use = resource_use_of(recording())
    assert (use.peak_bytes, use.baseline_bytes) == (300 * 10**6, 145 * 10**6)
    assert use.peak_anonymous_bytes == 100 * 10**6
    assert use.peak_file_backed_bytes == (50 + 115) * 10**6  # of the last sample before the last run ended
