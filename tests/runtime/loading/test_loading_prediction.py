"""Predicted wall time: by hand on small plans, and against the loader itself with known times."""

from pathlib import Path

import pytest

from tests.support.chain_bundles import COMPONENT, Chain, make_chain
from tests.support.simulated_time import SimulatedTime, simulate_loaders
from tests.support.timed_engine import TimedEngine
from tm_export.runtime.engines.footprint import Footprint
from tm_export.runtime.loading.loader import Loader
from tm_export.runtime.loading.policy import BlockKey, Use, plan_loading
from tm_export.runtime.loading.prediction import Timings, fastest_plan, predicted_seconds, timings_of


def uses(blocks: int, steps: int) -> tuple[Use, ...]:
    one = tuple(Use(BlockKey("net", f"{number}", "full"), Footprint(10, 0, 0)) for number in range(blocks))
    return one * steps


def timings(load: float, run: float, close: float = 0.0) -> Timings:
    keys = [use.block for use in uses(9, 1)]
    return Timings(*(dict.fromkeys(keys, seconds) for seconds in (load, run, close)))


@pytest.mark.parametrize(
    ("depth", "load", "run", "beside", "in_turn"),
    [
        (0, 2.0, 5.0, 4 * 7, 4 * 7),  # nothing is prefetched
        (1, 2.0, 5.0, 2 + 4 * 5, 4 * 7),  # the first load alone is waited for
        (1, 5.0, 2.0, 4 * 5 + 2, 4 * 7),  # loads are the bottleneck: only the last run is behind them
        (3, 2.0, 5.0, 2 + 4 * 5, 4 * 7),
    ],
)
def test_four_streamed_blocks_take_what_one_reckons_by_hand(
    depth: int, load: float, run: float, beside: float, in_turn: float
) -> None:
    plan = plan_loading(uses(4, 1), None, depth)
    assert predicted_seconds(plan, timings(load, run), loads_while_running=True) == beside
    assert predicted_seconds(plan, timings(load, run), loads_while_running=False) == in_turn
    closing = predicted_seconds(plan, timings(load, run, 0.25), loads_while_running=True)
    assert beside <= closing <= beside + 1


def test_the_saving_is_the_papers() -> None:
    """On-device Sora, concurrent inference: b blocks of load l and run e save b·min(l, e), but for the first load."""
    for load, run in ((2.0, 5.0), (5.0, 2.0), (3.0, 3.0)):
        blocks = 8
        alone, ahead = (
            predicted_seconds(plan_loading(uses(blocks, 1), 20, depth), timings(load, run), loads_while_running=True)
            for depth in (0, 1)
        )
        assert alone - ahead == (blocks - 1) * min(load, run)


def test_the_fastest_plan_keeps_blocks_where_prefetching_costs_more_loads() -> None:
    cycle = uses(3, 20)
    compute_bound = fastest_plan(cycle, 20, 2, timings(1, 5), loads_while_running=True)
    assert compute_bound == plan_loading(cycle, 20, 1)
    load_bound = fastest_plan(cycle, 20, 2, timings(50, 1), loads_while_running=True)
    assert load_bound == plan_loading(cycle, 20, 0)


def followed(
    chain: Chain, engine: TimedEngine, time: SimulatedTime, *, slots: int, depth: int, steps: int
) -> tuple[float, Loader]:
    one = chain.manifest.component(COMPONENT).blocks[0].weight_bytes
    start = time.now
    with Loader(chain.path, chain.manifest, engine, memory_budget=slots * one, prefetch_depth=depth) as loader:
        loader.schedule([(COMPONENT, "full")] * steps)
        for _ in range(steps):
            loader.run(COMPONENT, "full", chain.inputs())
    return time.now - start, loader


@pytest.mark.parametrize(
    ("load", "run", "slots", "depth"),
    [(0.02, 0.04, 2, 1), (0.04, 0.02, 2, 1), (0.03, 0.03, 4, 2), (0.02, 0.04, 5, 1), (0.05, 0.02, 3, 0)],
)
def test_the_prediction_is_what_the_loader_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: float, run: float, slots: int, depth: int
) -> None:
    time = simulate_loaders(monkeypatch)
    chain = make_chain(tmp_path / "bundle")
    engine = TimedEngine(load, run, sleep=time.sleep)
    _, probe = followed(chain, engine, time, slots=1, depth=0, steps=2)
    seconds, loader = followed(chain, engine, time, slots=slots, depth=depth, steps=4)
    predicted = predicted_seconds(loader.plan, timings_of(probe.events), loads_while_running=True)
    assert predicted == pytest.approx(seconds)


def test_when_runs_last_longer_than_loads_only_the_first_load_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = simulate_loaders(monkeypatch)
    chain = make_chain(tmp_path / "bundle")
    engine = TimedEngine(0.02, 0.03, sleep=time.sleep)
    resident, all_open = followed(chain, engine, time, slots=5, depth=1, steps=4)
    streamed, loader = followed(chain, engine, time, slots=2, depth=1, steps=4)
    assert len(all_open.plan.loads()) == 5 and len(loader.plan.loads()) >= 4 * 4
    assert resident == pytest.approx(0.02 + 4 * 5 * 0.03)
    assert streamed == pytest.approx(resident)
