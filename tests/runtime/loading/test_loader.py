"""The loader: right results in any budget, everything closed, and no failure swallowed."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.chain_bundles import COMPONENT, SCALES, Chain, make_chain
from tests.support.simulated_time import simulate_loaders
from tests.support.timed_engine import TimedEngine
from tm_export.runtime.engines.base import EngineError
from tm_export.runtime.engines.onnx_runtime import OnnxRuntimeEngine
from tm_export.runtime.loading.events import Event
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.loading.policy import BlockKey, BudgetTooSmall, least_budget
from tm_export.runtime.loading.uses import last_reads, uses_of
from tm_export.runtime.manifest import BundleError

ENGINE = OnnxRuntimeEngine(threads=1)
RUNS = [(COMPONENT, "merged")] * 3 + [(COMPONENT, "full")] * 2


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain(tmp_path_factory.mktemp("chain") / "bundle")


@pytest.fixture
def own_chain(tmp_path: Path) -> Chain:
    return make_chain(tmp_path / "bundle")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]


def least(chain: Chain) -> int:
    return least_budget(uses_of(chain.manifest, ENGINE, RUNS))


@given(slots=st.integers(0, 10), depth=st.integers(0, 3), runs=st.lists(st.sampled_from(list(SCALES)), max_size=5))
def test_outputs_are_right_in_any_budget(chain: Chain, slots: int, depth: int, runs: list[str]) -> None:
    one = uses_of(chain.manifest, ENGINE, RUNS)[0].footprint.open_bytes
    budget = least(chain) + slots * one
    with Loader(chain.path, chain.manifest, ENGINE, memory_budget=budget, prefetch_depth=depth) as loader:
        loader.schedule([(COMPONENT, variant) for variant in runs])
        for seed, variant in enumerate(runs):
            inputs = chain.inputs(seed)
            (got,) = loader.run(COMPONENT, variant, inputs).values()
            np.testing.assert_allclose(got, chain.expected(variant, inputs), rtol=1e-5, atol=1e-5)
    check_events(loader.events, budget, list(loader.plan.loads()))
    assert sum(event.kind == "run" for event in loader.events) == len(runs) * 5


def check_events(events: tuple[Event, ...], budget: int, loads: list[BlockKey]) -> None:
    """Events tell a possible story: what runs is open, loads are the plan's, and open bytes stay in the budget."""

    def key(event: Event) -> BlockKey:
        return BlockKey(event.component, event.block, event.variant)

    assert [key(event) for event in events if event.kind == "load"] == loads
    held: dict[BlockKey, int] = {}
    moments = sorted(events, key=lambda event: event.start_ns if event.kind == "load" else event.end_ns)
    for event in moments:
        assert event.start_ns <= event.end_ns
        if event.kind == "load":
            assert event.thread.startswith("loader") and key(event) not in held
            held[key(event)] = event.bytes
            assert sum(held.values()) <= budget
        else:
            assert event.thread == threading.current_thread().name
            if event.kind == "run":
                assert sum(held.values()) - held[key(event)] + event.bytes <= budget
            else:
                assert held.pop(key(event)) == event.bytes
    assert not held


def test_a_schedule_keeps_blocks_open_between_runs_and_single_runs_do_not(chain: Chain) -> None:
    with Loader(chain.path, chain.manifest, ENGINE) as loader:
        loader.schedule(RUNS)
        for component, variant in RUNS:
            loader.run(component, variant, chain.inputs())
        assert sum(event.kind == "load" for event in loader.events) == 10
        loader.run(COMPONENT, "full", chain.inputs())
        loader.run(COMPONENT, "full", chain.inputs())
    assert sum(event.kind == "load" for event in loader.events) == 20


def test_loads_go_on_beside_runs_and_across_runs(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TimedEngine(load_seconds=0.02, run_seconds=0.03, sleep=simulate_loaders(monkeypatch).sleep)
    one = chain.manifest.component(COMPONENT).blocks[0].weight_bytes
    with Loader(chain.path, chain.manifest, engine, memory_budget=3 * one) as loader:
        loader.schedule(RUNS[:2])
        for component, variant in RUNS[:2]:
            loader.run(component, variant, chain.inputs())
    runs = [event for event in loader.events if event.kind == "run"]
    loads = [event for event in loader.events if event.kind == "load"]
    beside = [load for load in loads if any(run.start_ns <= load.start_ns < run.end_ns for run in runs)]
    assert len(beside) == len(loads) - 1  # all but the very first, those of the second run's blocks too
    assert len(loads) > 5


def test_another_schedule_may_be_stated_at_any_time(chain: Chain) -> None:
    engine = TimedEngine()
    with Loader(chain.path, chain.manifest, engine, prefetch_depth=2) as loader:
        loader.schedule(RUNS)
        loader.run(COMPONENT, "merged", chain.inputs())
        loader.schedule([(COMPONENT, "full")])
        assert sorted(engine.opened) == sorted(engine.closed)
        loader.run(COMPONENT, "full", chain.inputs())
    assert sorted(engine.opened) == sorted(engine.closed)


def test_only_the_scheduled_run_is_taken_and_a_wrong_request_changes_nothing(chain: Chain) -> None:
    with Loader(chain.path, chain.manifest, ENGINE) as loader:
        loader.schedule(RUNS)
        with pytest.raises(
            EngineError, match=r"'net' \(full\) is not the run that is scheduled next, 'net' \(merged\)"
        ):
            loader.run(COMPONENT, "full", chain.inputs())
        with pytest.raises(EngineError, match=r"input 'tokens' of component 'net' \(merged\) must be float32\[3, 16\]"):
            loader.run(COMPONENT, "merged", {"tokens": np.zeros((3, 15), np.float32)})
        with pytest.raises(EngineError, match=r"inputs of component 'net' \(merged\).*missing \['tokens'\]"):
            loader.run(COMPONENT, "merged", {})
        with pytest.raises(BundleError, match="'half'; there are: full, merged"):
            loader.run(COMPONENT, "half", chain.inputs())
        with pytest.raises(BundleError, match="'other'; there are: net"):
            loader.schedule([("other", "full")])
        inputs = chain.inputs()
        (got,) = loader.run(COMPONENT, "merged", inputs).values()
        np.testing.assert_allclose(got, chain.expected("merged", inputs), rtol=1e-5, atol=1e-5)


def test_a_budget_that_is_too_small_is_refused_before_anything_is_opened(chain: Chain) -> None:
    engine = TimedEngine()
    with (
        Loader(chain.path, chain.manifest, engine, memory_budget=1000) as loader,
        pytest.raises(BudgetTooSmall, match=r"net/00 \(variant full\).*least budget that works is") as caught,
    ):
        loader.run(COMPONENT, "full", chain.inputs())
    assert engine.opened == []
    with Loader(chain.path, chain.manifest, engine, memory_budget=caught.value.least_bytes) as loader:
        loader.run(COMPONENT, "full", chain.inputs())


def run_in_a_thread(loader: Loader, chain: Chain, variant: str) -> None:
    """Runs with a bound on time: a test must fail, not hang, if the loader hangs."""
    with ThreadPoolExecutor(1) as caller:
        caller.submit(loader.run, COMPONENT, variant, chain.inputs()).result(timeout=30)


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("damage", ["missing", "cut off", "garbage"])
def test_a_damaged_file_stops_the_run_at_its_block(own_chain: Chain, damage: str, depth: int) -> None:
    weights, graph = own_chain.path / "net/03.bin", own_chain.path / "net/03_full.onnx"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut off":
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        graph.write_bytes(b"\xff" * graph.stat().st_size)
    message = {
        "missing": "03.bin cannot be read",
        "cut off": "03.bin has 1023 bytes",
        "garbage": "refuses .*03_full.onnx",
    }
    loader = Loader(own_chain.path, own_chain.manifest, ENGINE, prefetch_depth=depth)
    with pytest.raises(EngineError, match=rf"block net/03 \(variant full\) cannot be loaded.*{message[damage]}"):
        run_in_a_thread(loader, own_chain, "full")
    ran = [event.block for event in loader.events if event.kind == "run"]
    assert ran == ["00", "01", "02"]
    loaded, closed = (sorted(e.block for e in loader.events if e.kind == kind) for kind in ("load", "close"))
    assert loaded == closed
    with pytest.raises(EngineError, match="the loader is closed"):
        loader.run(COMPONENT, "full", own_chain.inputs())


def test_a_file_that_vanishes_between_steps_is_found_at_the_next_load(own_chain: Chain) -> None:
    one = uses_of(own_chain.manifest, ENGINE, RUNS)[0].footprint.open_bytes
    budget = least(own_chain) + one  # every block is loaded anew at each step
    loader = Loader(own_chain.path, own_chain.manifest, ENGINE, memory_budget=budget)
    loader.schedule([(COMPONENT, "full")] * 2)
    run_in_a_thread(loader, own_chain, "full")
    (own_chain.path / "net/02.bin").unlink()
    with pytest.raises(EngineError, match=r"net/02 .*02\.bin"):
        run_in_a_thread(loader, own_chain, "full")


def test_a_failing_run_closes_everything(chain: Chain) -> None:
    engine = TimedEngine(load_seconds=0.01, fails=lambda artifact: "02_" in artifact)
    loader = Loader(chain.path, chain.manifest, engine, prefetch_depth=3)
    with pytest.raises(RuntimeError, match="the engine has failed"):
        run_in_a_thread(loader, chain, "full")
    assert sorted(engine.opened) == sorted(engine.closed) != []
    loader.close()


def test_leaving_early_waits_for_no_load_but_the_one_that_goes_on(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TimedEngine(load_seconds=0.05, run_seconds=0.01, sleep=simulate_loaders(monkeypatch).sleep)
    with (
        pytest.raises(KeyboardInterrupt),
        Loader(chain.path, chain.manifest, engine, prefetch_depth=4) as loader,
    ):
        loader.schedule(RUNS)
        loader.run(COMPONENT, "merged", chain.inputs())
        raise KeyboardInterrupt
    assert sorted(engine.opened) == sorted(engine.closed)
    assert len(engine.opened) <= 7  # of ten


def test_values_are_kept_until_their_last_reader(chain: Chain) -> None:
    variant = chain.manifest.component(COMPONENT).variant("full")
    assert last_reads(variant) == {"tokens": 4, "h0": 1, "h1": 2, "h2": 3, "h3": 4, "h4": 5}
    array = 3 * 16 * 4
    extra = [use.footprint.run_bytes for use in uses_of(chain.manifest, ENGINE, [(COMPONENT, "full")])]
    assert extra == [2 * 4 * array] * 5  # so little counts twice; tokens are read by every call: nothing waits
