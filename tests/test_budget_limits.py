"""Money: whatever durations, overruns, failures, kills and resumes do, no limit is passed, and it is used."""

import contextlib
import itertools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import real
from ziggurat import runs
from ziggurat.domain import TrialStatus
from ziggurat.engine import Engine
from ziggurat.stages import search

EPOCHS, ROWS = 6, 40
DUST = 1e-6


class Killed(BaseException):
    """The controller died."""


@pytest.fixture(scope="module")
def folder():
    memory = Path("/dev/shm")  # hundreds of runs write thousands of events, each kept on disk before the next
    home = Path(tempfile.mkdtemp(prefix="ziggurat-money-", dir=memory if memory.is_dir() else None))
    yield home
    shutil.rmtree(home)


_NUMBERS = itertools.count()


def table(folder, seed, spread):
    """Trainings whose epochs take from one second to `spread` seconds; some diverge."""
    rng = np.random.default_rng(seed)
    loss = rng.random((ROWS, EPOCHS)) + 0.1
    loss[rng.random(ROWS) < 0.1] = np.nan
    seconds = spread ** rng.random((ROWS, 1)) * np.ones((1, EPOCHS))
    path = folder / f"curves-{next(_NUMBERS)}.npz"
    np.savez(path, val_loss=loss, test_loss=loss, wall_time_s=seconds, params=np.ones(ROWS))
    return str(path)


def spec_of(path, **changes):
    launcher = {"kind": "simulated", "usd_per_hour": 3600.0, "charge": changes.pop("charge", "busy")}
    return {
        "name": "money",
        "space": {"kind": "table", "curves": path},
        "objectives": [{"metric": "val_loss", "reference": 2.0}],
        "fidelities": [{"epochs": 1}, {"epochs": 3}, {"epochs": EPOCHS}],
        "validate": {"enabled": False},
        "retrain": {"enabled": False},
        "tracking": {"enabled": False},
        "search": {
            "trainer": {"kind": "table"},
            "trials": ROWS - 4,
            "workers": changes.pop("workers", 3),
            "searcher": {"kind": "random"},
            "stopper": {"kind": "asha", "reduction_factor": 2},
            "max_failures": 1.0,
        },
        "launcher": launcher,
        **changes,
    }


def accrued(engine, before):
    """What is spent, with what runs or is held and no event tells of yet; a second of a machine is a dollar.

    Args:
        engine: Drives the run.
        before: What earlier controllers have spent.
    """
    if engine.run.spec.launcher.charge == "held":
        held_s = engine.pool.clock.monotonic() - engine.pool.since[""]
        return before + held_s * engine.run.spec.search.workers
    meter = engine.money.meter()
    running = sum(meter.accrued_usd(s) for s in engine.run.history.open_segments.values())
    return engine.run.history.spent_usd + running + meter.unpaid_usd


def played(run, limit, kill_after=None):
    """A search to its end, or until it is killed; accrued money is held against the limit all the while."""
    seen, left = [], [kill_after]

    def watch(_now):
        seen.append(accrued(engine, before))
        assert seen[-1] <= limit + DUST
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
        return ()

    engine = Engine(run, ticks=[watch])
    before = run.history.spent_usd
    try:
        with contextlib.suppress(Killed):
            search(engine)
    finally:
        dead = left[0] is not None and left[0] < 0
        if dead:  # nothing more is written
            engine.pool.close()
        else:
            engine.close()
        run.close()
    assert run.history.spent_usd <= limit + DUST
    return dead


@given(
    seed=st.integers(0, 999),
    spread=st.sampled_from([1.0, 4.0, 30.0]),
    limit=st.floats(4.0, 400.0),
    workers=st.integers(1, 5),
    charge=st.sampled_from(["busy", "held"]),
    margin=st.sampled_from([0.0, 2.0]),
    kills=st.lists(st.integers(0, 25), max_size=2),
)
@settings(max_examples=15)
def test_no_limit_is_ever_passed(folder, seed, spread, limit, workers, charge, margin, kills):
    path = table(folder, seed, spread)
    given_ = spec_of(
        path, workers=workers, charge=charge, budget={"limit_usd": limit, "stop_margin_s": margin}
    )
    run = real.create(folder / f"runs-{next(_NUMBERS)}", given_)
    for kill in kills:
        if not played(run, limit, kill):
            return
        run = runs.open_run(run.folder)
    played(run, limit)
    history = run.history
    left = [t for t in history.of_stage("search") if not t.ended and t.status is not TrialStatus.PAUSED]
    stopped = history.stages["search"].verdict == "stopped_by_budget"
    assert stopped == bool(history.stages["search"].summary["reason"])
    if stopped:
        dearest = 3 * spread + margin  # the longest segment there is, at a dollar a second
        wait = workers if charge == "held" else 1.0
        assert history.spent_usd >= limit - dearest * wait * workers - DUST
    else:
        assert not left


def searched(folder, path, **changes):
    run = real.create(folder / f"runs-{next(_NUMBERS)}", spec_of(path, **changes))
    engine = Engine(run)
    try:
        search(engine)
    finally:
        engine.close()
        run.close()
    return run


def test_a_stage_ends_at_its_own_limit_and_goes_on_when_that_is_raised(folder):
    path = table(folder, 1, 4.0)
    run = searched(folder, path, budget={"limit_usd": 1000.0, "stages": {"search": 60.0}})
    end = run.history.stages["search"]
    assert end.verdict == "stopped_by_budget"
    assert end.summary["stage_limit_usd"] == 60.0
    assert "budget.stages.search" in end.summary["reason"]
    assert 45.0 <= run.history.spent_usd <= 60.0
    for amendments, most in (
        ({}, 60.0),
        ({"budget.limit_usd": 2000.0}, 60.0),
        ({"budget.stages.search": 90.0}, 90.0),
    ):
        again = runs.open_run(run.folder, amendments)
        assert not played(again, most)
    assert 75.0 <= again.history.spent_usd <= 90.0


def test_idle_machines_are_charged_where_they_are_held_and_nowhere_else(folder):
    path = table(folder, 2, 4.0)
    free, held = searched(folder, path, workers=4), searched(folder, path, workers=4, charge="held")
    assert free.history.charges == []
    assert {c.reason for c in held.history.charges} == {"idle"}
    assert all(c.seconds >= 10.0 * 4 for c in held.history.charges[:-1])  # in batches
    jobs = sum(s.end.cost_usd for s in held.history.segments.values())
    idle = sum(c.cost_usd for c in held.history.charges)
    began, ended = held.history.stage_times["search"]
    assert jobs + idle == pytest.approx(4 * (ended - began), rel=1e-6)
    assert idle > 0
    assert held.history.spent_usd == pytest.approx(jobs + idle)


def test_a_limit_is_used_up_to_a_segment_where_machines_are_held(folder):
    path = table(folder, 3, 1.0)  # every epoch takes a second
    run = searched(folder, path, workers=2, charge="held", budget={"limit_usd": 50.0, "stop_margin_s": 0.0})
    assert run.history.stages["search"].verdict == "stopped_by_budget"
    assert 50.0 - 2 * 3.1 <= run.history.spent_usd <= 50.0


def test_machines_that_wait_for_the_last_trial_cost_as_much_as_it_does(folder):
    path = table(folder, 0, 1.0)
    given_ = spec_of(path, workers=5, charge="held", budget={"limit_usd": 26.0, "stop_margin_s": 0.0})
    given_["search"] |= {"trials": 1, "stopper": {"kind": "never"}}
    run = real.create(folder / f"runs-{next(_NUMBERS)}", given_)  # six seconds, of five machines: 30 dollars
    assert not played(run, 26.0)
    assert run.history.stages["search"].verdict == "stopped_by_budget"
    assert 15.0 - DUST <= run.history.spent_usd <= 26.0
