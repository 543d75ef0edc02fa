"""Whole runs with real workers, without Prefect: what is journalled, in which order, and how runs fail."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.real import create, events, front, plain, python_space, session, use_models, whole
from ziggurat import runs, stages
from ziggurat.domain import FailureKind, JobKind, TrialStatus
from ziggurat.errors import StageFailed
from ziggurat.events import (
    Decided,
    Measured,
    SegmentFinished,
    SegmentPlanned,
    SegmentStarted,
    StageFinished,
    TrialProposed,
)
from ziggurat.history import fold

pytestmark = pytest.mark.slow

LATENCY = {"metric": "latency_p50_ms", "reference": 10}
TARGET_MS = 0.05
REWARD = {"kind": "scaled", "metric": "val_accuracy", "cost": "latency_p50_ms", "target": TARGET_MS}


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    """A directory of runs; the user's module lies beside it."""
    home = tmp_path_factory.mktemp("stages")
    with pytest.MonkeyPatch.context() as patch:
        use_models(home, patch)
        yield home / "runs"


@pytest.fixture(scope="module")
def small(runs_dir):
    """The folder of a whole run."""
    settings = plain(
        derived={"reward": REWARD},  # for its sake alone candidates are measured
        objectives=[*plain()["objectives"], {"metric": "reward", "reference": 0.01}],
        validate={"candidates": 3, "seeds": 2, "subset": 0.5, "max_share": 1.0},
        search={
            "searcher": {"kind": "sobol"},
            "stopper": {"kind": "asha", "reduction_factor": 2, "floor": "chance"},
            "trials": 6,
            "workers": 2,
        },
        retrain={"k": 1, "seeds": 2, "epochs": 2, "segment_epochs": 1},
        seed=3,
    )
    with session(create(runs_dir, settings)) as here:
        whole(here)
        return here.run.folder


@pytest.fixture(scope="module")
def log(small):
    """Its events."""
    return events(small)


@pytest.fixture(scope="module")
def trouble(runs_dir, small):  # noqa: ARG001 - the other run comes first
    """The folder of a run on the same data, with candidates that cannot be built or are too slow."""
    settings = plain(
        space=python_space(width=[4, 8, 13, 16], mode=["good", "lazy"]),
        objectives=[{"metric": "val_accuracy", "reference": 0.1}, {**LATENCY, "limit": 3.5}],
        search={"searcher": {"kind": "sobol"}, "trials": 6, "workers": 1},
        fidelities=[{"epochs": 1}],
    )
    with session(create(runs_dir, settings)) as here:
        whole(here)
        return here.run.folder


def bodies(log, kind):
    return [e.body for e in log if isinstance(e.body, kind)]


def test_all_stages_end_well_in_their_order(log):
    ends = bodies(log, StageFinished)
    assert [e.stage for e in ends] == ["preflight", "validate", "search", "retrain", "measure"]
    assert {e.verdict for e in ends} == {"ok"}


def test_numbers_are_journalled_once(log):
    seen = Counter((b.job, b.trial, b.attempt, b.step) for b in bodies(log, Measured))
    assert set(seen.values()) == {1}


def test_every_epoch_of_every_training_is_journalled(log):
    history = fold(log)
    for trial in history.trials.values():
        epochs = trial.ladder[trial.rung].epochs
        assert [step for step, _ in history.curves[trial.number]] == list(range(1, epochs + 1))


def test_no_segment_is_paid_twice(log):
    history = fold(log)
    done = Counter(
        (s.job.trial, s.job.kind, s.job.to_rung, s.job.device)
        for s in history.segments.values()
        if s.end and not s.end.failure
    )
    assert set(done.values()) == {1}
    assert not history.open_segments


def test_an_intent_is_on_disk_before_its_job_starts_and_ends(log):
    order: dict[str, list[type]] = {}
    for event in log:
        key = (
            event.body.job.key if isinstance(event.body, SegmentPlanned) else getattr(event.body, "job", None)
        )
        if key and not isinstance(event.body, Measured):
            order.setdefault(key, []).append(type(event.body))
    assert {tuple(kinds) for kinds in order.values()} == {(SegmentPlanned, SegmentStarted, SegmentFinished)}


def test_proposals_and_decisions_say_what_they_have_seen(log):
    for event in log:
        if isinstance(event.body, (TrialProposed, Decided)):
            assert 0 < event.body.seen <= event.seq
    stopper = [b for b in bodies(log, Decided) if b.kind == "stopper" and b.verdict == "pause"]
    assert len(stopper) == 6


def test_about_half_of_the_trials_are_promoted(log):
    search = fold(log).of_stage("search")
    promoted = Counter(t.rung for t in search)[1]
    assert 3 <= promoted <= 4  # asynchronous: who led early is not called back
    assert {t.status for t in search} == {TrialStatus.COMPLETED, TrialStatus.STOPPED}


def test_candidates_are_profiled_alone_and_before_they_are_trained(log):
    finished: set[tuple[int, JobKind]] = set()
    history = fold(log)
    for event in log:
        if isinstance(event.body, SegmentStarted):
            job = history.segments[event.body.job].job
            if job.stage == "search" and job.kind is JobKind.TRAIN:
                assert (job.trial, JobKind.PROFILE) in finished
        if isinstance(event.body, SegmentFinished):
            job = history.segments[event.body.job].job
            assert job.exclusive is (job.kind is JobKind.PROFILE)
            finished.add((job.trial, job.kind))


def test_a_reward_is_made_of_what_the_same_model_learned_and_took(log):
    history = fold(log)
    for stage in ("search", "retrain"):
        for trial in history.of_stage(stage):
            cost = trial.value("latency_p50_ms")
            for rung in range(trial.rung + 1):
                reward = trial.value("val_accuracy", rung) * (cost / TARGET_MS) ** -0.07
                if stage == "search" or rung == trial.top_rung:  # a retrained model is measured at its end
                    assert trial.value("reward", rung) == pytest.approx(reward), (stage, rung)
    # probes are not measured, so whether few epochs rank as many is asked of what is learned
    assert history.decision("gate").facts["metric"] == "val_accuracy"


def test_the_test_part_is_opened_once_for_each_model_after_all_training(log):
    history = fold(log)
    looks = [s for s in history.segments.values() if s.job.kind is JobKind.EVALUATE]
    assert sorted(s.job.trial for s in looks) == [t.number for t in history.of_stage("retrain")]
    trained = max(s.finished_utc for s in history.segments.values() if s.job.kind is JobKind.TRAIN)
    assert min(s.planned_utc for s in looks) >= trained
    tested = [t for t in history.trials.values() if "test_accuracy" in t.static]
    assert {t.stage for t in tested} == {"retrain"}


def test_retrained_models_share_a_candidate_and_differ_in_their_seeds(log):
    retrained = fold(log).of_stage("retrain")
    assert len(retrained) == 2
    assert len({t.candidate for t in retrained}) == 1
    assert len({t.seed for t in retrained}) == 2


def test_the_proxy_is_judged_with_an_interval(log):
    gate = fold(log).decision("gate")
    assert gate.verdict == "go"
    assert -1 <= gate.facts["low"] <= gate.facts["high"] <= 1


def test_a_finished_run_taken_again_does_nothing_and_looks_at_nothing(small):
    before = fold(events(small))
    with session(runs.open_run(small)) as here:
        whole(here)
        after = here.run.history
        assert here.run.spec.sha256() == runs.look(small)[0].sha256()
    assert after.segments == before.segments
    assert [d for d in after.decisions if d.kind == "unsealed"] == [
        d for d in before.decisions if d.kind == "unsealed"
    ]


def test_looks_at_one_test_part_are_counted_across_runs(small, trouble):
    looks = [fold(events(folder)).decision("unsealed").facts for folder in (small, trouble)]
    assert [look["looks"] for look in looks] == [1, 2]
    assert looks[0]["fingerprint"] == looks[1]["fingerprint"]
    lines = (small.parent / "test_looks.jsonl").read_text().splitlines()
    assert [json.loads(line)["run_id"] for line in lines] == [small.name, trouble.name]


def test_candidates_that_cannot_be_built_are_failures_as_data(trouble):
    history = fold(events(trouble))
    bad = [t for t in history.of_stage("search") if t.candidate.choices["width"] == 13]
    assert bad
    for trial in bad:
        assert (trial.status, trial.failure.kind) == (TrialStatus.FAILED, FailureKind.USER_ERROR)
        assert "13 units bring bad luck" in trial.failure.text
    assert history.stages["search"].verdict == "ok"


def test_candidates_beyond_a_latency_limit_are_rejected_and_never_trained(trouble):
    history = fold(events(trouble))
    slow = [t for t in history.of_stage("search") if t.candidate.choices["mode"] == "lazy" and t.static]
    assert slow
    for trial in slow:
        assert trial.status is TrialStatus.REJECTED
        assert "the limit is 3.5" in trial.note
    trained = {s.job.trial for s in history.segments.values() if s.job.kind is JobKind.TRAIN}
    assert not trained & {t.number for t in slow}
    assert len([t for t in history.of_stage("search") if t.status is not TrialStatus.REJECTED]) == 6
    assert front(history)


def test_a_search_whose_trials_all_fail_ends_with_the_reason(runs_dir):
    settings = plain(space=python_space(mode=["raise"]), search={"trials": 12, "workers": 1})
    with session(create(runs_dir, settings)) as here:
        with pytest.raises(StageFailed, match=r"search: 6 trials failed.*user_error.*the user's own words"):
            stages.search(here.engine)
        assert here.run.history.stages["search"].verdict == "failed"
        assert not here.run.history.open_segments
        with pytest.raises(StageFailed, match="failed before"):
            stages.search(here.engine)


def test_a_builder_that_ends_its_process_costs_its_trials_and_not_the_run(runs_dir):
    settings = plain(
        space=python_space(mode=["good", "deadly"]),
        fidelities=[{"epochs": 1}],
        search={"trials": 2, "workers": 1, "retries": 1, "searcher": {"kind": "sobol", "ahead": 0}},
        retrain={"k": 1},
    )
    with session(create(runs_dir, settings)) as here:
        stages.search(here.engine)
        found = [
            (t.candidate.choices["mode"], t.status, t.failure) for t in here.run.history.of_stage("search")
        ]
    assert {mode for mode, _, _ in found} == {"good", "deadly"}
    for mode, status, failure in found:
        assert status is (TrialStatus.COMPLETED if mode == "good" else TrialStatus.FAILED)
        assert mode == "good" or (failure.kind is FailureKind.LOST and "exit code 9" in failure.text)


def test_data_that_nothing_can_learn_from_stops_the_run_before_the_search(runs_dir):
    settings = plain(
        data={"kind": "python", "function": "user_models:shuffled"},
        validate={"candidates": 3, "seeds": 1, "subset": 1.0},
        search={"trials": 12, "workers": 1},
    )
    with session(create(runs_dir, settings)) as here:
        stages.preflight(here.engine)
        with pytest.raises(StageFailed, match="validate: nothing learns on the subset"):
            stages.validate(here.engine)
        with pytest.raises(StageFailed, match="failed before"):
            stages.validate(here.engine)
        assert here.run.history.of_stage("search") == []


def test_runs_end_with_no_process_left(runs_dir):
    from ziggurat import processes

    assert processes.marked(f"{Path(runs_dir).resolve()}/") == []
