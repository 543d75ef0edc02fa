"""Money in real runs: the limit is never passed, whatever segments take, and more money continues a run."""

from collections import Counter

import pytest

from tests.real import create, events, plain, python_space, session, use_models, whole
from ziggurat import runs, stages
from ziggurat.domain import FailureKind, JobKind, RunStatus, TrialStatus
from ziggurat.events import Alert
from ziggurat.history import History, fold

pytestmark = pytest.mark.slow

USD_PER_HOUR = 3600.0
"""One US dollar for each second of a worker."""


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    home = tmp_path_factory.mktemp("budget")
    with pytest.MonkeyPatch.context() as patch:
        use_models(home, patch)
        yield home / "runs"


@pytest.fixture(scope="module")
def short(runs_dir):
    """A run whose money ends in the middle of the search: its folder and its limit."""
    limit = 11.0
    settings = plain(
        space=python_space(mode=["slow"]),
        fidelities=[{"epochs": 1}],
        search={"trials": 12, "workers": 2},
        retrain={"k": 1, "seeds": 1, "epochs": 2, "segment_epochs": 1},
        launcher={"kind": "local", "usd_per_hour": USD_PER_HOUR},
        budget={"limit_usd": limit, "warn_at": 0.3, "stop_margin_s": 1.0},
    )
    with session(create(runs_dir, settings)) as here:
        whole(here)
        assert here.result()["status"] == "stopped_by_budget"
        return here.run.folder, limit


def most_spent(log):
    """Cost after every event."""
    history, costs = History(), []
    for event in log:
        history.apply(event)
        costs.append(history.spent_usd)
    return max(costs)


def test_the_limit_is_never_passed(short):
    folder, limit = short
    assert 0.3 * limit < most_spent(events(folder)[: first_resume(folder)]) <= limit


def test_the_search_stops_and_retraining_and_measuring_have_their_reserve(short):
    folder, limit = short
    history = fold(events(folder)[: first_resume(folder)])
    assert history.status is RunStatus.STOPPED_BY_BUDGET
    search = [t for t in history.of_stage("search") if t.rung == t.top_rung]
    assert 1 <= len(search) < 12
    verdicts = {name: end.verdict for name, end in history.stages.items()}
    assert (verdicts["search"], verdicts["retrain"], verdicts["measure"]) == ("stopped_by_budget", "ok", "ok")
    assert f"limit of {limit:g} USD" in history.stages["search"].summary["reason"]
    assert [t.status for t in history.of_stage("retrain")] == [TrialStatus.COMPLETED]
    assert "test_accuracy" in history.of_stage("retrain")[0].static


def test_the_warning_is_raised_once(short):
    folder, _ = short
    raised = keys_raised(events(folder)[: first_resume(folder)])
    assert Counter(raised)["budget_warning"] == 1
    assert set(Counter(raised).values()) == {1}


def test_more_money_continues_the_search_and_completes_the_run(short):
    folder, _ = short
    with session(runs.open_run(folder, {"budget.limit_usd": 100.0})) as here:
        whole(here)
        assert here.run.limit_usd == 100.0
        history = here.run.history
        assert here.result()["status"] == "completed"
    assert len([t for t in history.of_stage("search") if t.rung == t.top_rung]) == 12
    looks = [s for s in history.segments.values() if s.job.kind is JobKind.EVALUATE]
    assert len(looks) == 1
    warnings = [key for key in keys_raised(events(folder)) if "budget_warning" in key]
    assert len(warnings) == len(set(warnings))


def keys_raised(log):
    return [e.body.key for e in log if isinstance(e.body, Alert) and e.body.state == "raised"]


def first_resume(folder):
    """Number of events of the first sitting."""
    log = events(folder)
    return next((e.seq for e in log if getattr(e.body, "resumed", False)), len(log))


def test_a_segment_that_outruns_its_forecast_is_kept_and_stopped_before_the_limit(runs_dir):
    settings = plain(
        space=python_space(mode=["creep"]),
        fidelities=[{"epochs": 1}, {"epochs": 6}],
        search={"trials": 1, "workers": 1},
        retrain={"enabled": False},
        launcher={"kind": "local", "usd_per_hour": USD_PER_HOUR},
        budget={"limit_usd": 10.0, "stop_margin_s": 4.0},
    )
    with session(create(runs_dir, settings)) as here:
        stages.search(here.engine)
        history = here.run.history
        folder = here.run.folder
        assert history.stages["search"].verdict == "stopped_by_budget"
        assert "outran its forecast" in history.decision("budget").reason
        assert history.spent_usd <= 10.0
        (trial,) = history.of_stage("search")
        *_, last = history.segments.values()
        assert (last.end.failure.kind, last.end.retry) == (FailureKind.PREEMPTED, True)
        assert last.end.seconds > last.forecast_s
        assert (folder / trial.checkpoint).is_file()
        reached = history.curves[0][-1][0]
        assert 1 < reached < 6
