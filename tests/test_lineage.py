"""Trials that begin from another's checkpoint: in the history, the plan, whole runs and retraining."""

import json

import pytest

from tests.real import create, events, plain, session, whole
from tests.support import ACCURACY, LADDER, Story
from ziggurat.domain import (
    Candidate,
    FailureKind,
    Fidelity,
    JobKind,
    Parent,
    Proposal,
    Recipe,
    TrialStatus,
)
from ziggurat.events import SegmentFinished, SegmentPlanned, TrialProposed, body_from_plain, to_plain
from ziggurat.history import fold
from ziggurat.lineage import replayed, stretches
from ziggurat.plan.draft import other_job, train_job
from ziggurat.protocols import Forecast

FIRST, SECOND, THIRD = (Candidate({"learning_rate": rate}) for rate in (0.1, 0.2, 0.3))


def family():
    """A trial at rung 1, its child from rung 0, and a grandchild from the child's rung 1."""
    story = Story()
    parent = story.propose(FIRST)
    story.finish(parent, val_accuracy=0.5)
    story.verdict(parent, "continue")
    story.finish(parent, val_accuracy=0.6)
    child = story.propose(Proposal(SECOND, parent=Parent(parent, 0)))
    return story, parent, child


def test_a_child_begins_at_the_rung_of_its_parent_with_the_checkpoint_of_that_rung():
    story, parent, child = family()
    assert story.trial(parent).checkpoint == "trials/00000/rung-1.ckpt"
    assert story.trial(child).checkpoint == "trials/00000/rung-0.ckpt"
    assert story.trial(child).rung == 0


def test_inherited_results_are_not_the_childs():
    story, _, child = family()
    assert story.trial(child).value("val_accuracy") != story.trial(child).value("val_accuracy")
    assert [t.number for t in story.history.at_rung("search", 0)] == [0]
    story.finish(child, val_accuracy=0.7)
    assert [t.number for t in story.history.at_rung("search", 1)] == [0, 1]
    assert set(story.trial(child).results) == {1}


def test_the_plan_goes_on_from_the_inherited_rung_and_pays_the_rest_only():
    story, _, child = family()
    job = train_job(story.history, story.trial(child), 1)
    assert (job.from_rung, job.to_rung, job.candidate) == (0, 1, SECOND)
    assert job.checkpoint == "trials/00000/rung-0.ckpt"
    story.finish(child, val_accuracy=0.7)
    seconds, resumed, _ = story.history.paces[SECOND.key]
    assert (seconds, resumed) == (1.0, LADDER[1].epochs - LADDER[0].epochs)


def test_a_child_whose_segment_was_lost_begins_again_from_the_inherited_checkpoint():
    story, _, child = family()
    job = train_job(story.history, story.trial(child), 1)
    story.add(SegmentPlanned(job, 1.0, 0.0))
    failure = story.fail(story.propose(THIRD), FailureKind.LOST).failure
    story.add(SegmentFinished(job.key, child, 1.0, 0.0, failure=failure, retry=True))
    again = train_job(story.history, story.trial(child), 1)
    assert (again.from_rung, again.checkpoint) == (0, job.checkpoint)
    assert story.trial(child).status is TrialStatus.READY


def test_a_child_whose_profiling_failed_still_waits_for_its_training():
    story, _, child = family()
    job = other_job(story.history, story.trial(child), JobKind.PROFILE, "cpu")
    story.add(SegmentPlanned(job, 1.0, 0.0))
    failure = story.fail(story.propose(THIRD), FailureKind.LOST).failure
    story.add(SegmentFinished(job.key, child, 1.0, 0.0, failure=failure, retry=True))
    assert story.trial(child).status is not TrialStatus.COMPLETED


def test_parent_and_lineage_survive_the_journal():
    body = TrialProposed(
        3, 3, "search", THIRD, 0, LADDER, parent=Parent(1, 1), lineage=(FIRST, SECOND, THIRD)
    )
    assert body_from_plain(json.loads(json.dumps(to_plain(body)))) == body


def test_the_stretches_of_a_trial_begin_with_its_first_ancestor():
    story, parent, child = family()
    story.finish(child, val_accuracy=0.7)
    grandchild = story.propose(Proposal(THIRD, parent=Parent(child, 1)))
    found = stretches(story.history, story.trial(grandchild))
    # the rungs end after epochs 1, 3 and 9
    assert found == [(0, FIRST), (1, SECOND), (3, THIRD)]
    assert stretches(story.history, story.trial(parent)) == [(0, FIRST)]


def test_a_lineage_is_stretched_to_the_length_of_the_retraining():
    story, _, child = family()
    story.finish(child, val_accuracy=0.7)
    grandchild = story.trial(story.propose(Proposal(THIRD, parent=Parent(child, 1))))
    ladder, lineage = replayed(story.history, grandchild, (Fidelity(30), Fidelity(60), Fidelity(90)))
    assert [f.epochs for f in ladder] == [10, 30, 60, 90]
    assert lineage == (FIRST, SECOND, THIRD, THIRD)


def test_a_trial_without_a_parent_is_retrained_as_it_is():
    story, parent, _ = family()
    ladder = (Fidelity(30), Fidelity(60))
    assert replayed(story.history, story.trial(parent), ladder) == (ladder, ())


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_retraining_that_is_shorter_than_the_search_still_ends_with_the_last_hyperparameters(epochs):
    story, _, child = family()
    story.finish(child, val_accuracy=0.7)
    grandchild = story.trial(story.propose(Proposal(THIRD, parent=Parent(child, 1))))
    ladder, lineage = replayed(story.history, grandchild, (Fidelity(epochs),))
    assert ladder[-1].epochs == epochs
    assert len(ladder) == len(lineage)
    assert lineage[-1] == THIRD


def test_a_plan_trains_towards_each_rung_with_what_the_lineage_says():
    story = Story()
    story.add(TrialProposed(0, 0, "search", THIRD, 0, LADDER, lineage=(FIRST, SECOND, THIRD)))
    assert [train_job(story.history, story.trial(0), r).candidate for r in range(3)] == [FIRST, SECOND, THIRD]


def test_a_forecast_for_a_child_is_asked_for_from_its_rung_on():
    story, _, child = family()
    asked = []

    def forecast(candidate, low, high):
        asked.append((candidate, low, high))
        return Forecast(1.0, 0.0)

    from ziggurat.plan import Rules, next_jobs
    from ziggurat.strategies import Pbt

    context = story.context(objectives=(ACCURACY,), forecast=forecast)
    next_jobs(context, 1, searcher=Pbt(), stopper=Pbt(), rules=Rules(), joint=True)
    assert asked == [(SECOND, 0, 1)]
    assert child == 1


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Events of a whole run with population-based training."""
    hyperparameters = {
        "learning_rate": {"min": 1e-4, "max": 0.05, "log": True},
        "batch_size": [16, 32, 64],
        "ema_decay": {"min": 0.5, "max": 0.9},
    }
    settings = plain(
        space={**plain()["space"], "hyperparameters": hyperparameters},
        fidelities=[{"epochs": e} for e in (1, 2, 3, 4)],
        search={"strategy": {"kind": "pbt", "population": 4}, "trials": 12, "workers": 2},
        retrain={"k": 4, "seeds": 1, "epochs": 6, "segment_epochs": 3},
        seed=5,
    )
    with session(create(tmp_path_factory.mktemp("pbt"), settings)) as here:
        whole(here)
        return events(here.run.folder)


@pytest.mark.slow
def test_a_whole_search_replaces_the_worst_and_trains_no_epoch_twice(log):
    history = fold(log)
    trials = history.of_stage("search")
    children = [t for t in trials if t.parent is not None]
    assert len(children) == 3
    assert sum(t.status is TrialStatus.STOPPED for t in trials) == 3
    assert sum(t.status is TrialStatus.COMPLETED for t in trials) == 4
    assert not any(t.failure for t in trials)
    for child in children:
        steps = [step for step, _ in history.curves[child.number]]
        assert steps == list(range(child.parent.rung + 2, child.rung + 2))
        parent = history.trials[child.parent.trial]
        assert child.candidate.choices["width_1"] == parent.candidate.choices["width_1"]
        assert child.candidate.choices["learning_rate"] != parent.candidate.choices["learning_rate"]


@pytest.mark.slow
def test_a_child_goes_on_at_its_own_learning_rate(log):
    history = fold(log)
    for child in (t for t in history.of_stage("search") if t.parent is not None):
        _, found = history.curves[child.number][0]
        rate = next(m.value for m in found if m.metric == "learning_rate")
        assert rate <= child.candidate.choices["learning_rate"]


@pytest.mark.slow
def test_retraining_follows_the_lineage(log):
    history = fold(log)
    retrained = history.of_stage("retrain")
    assert len(retrained) == 4
    assert any(t.lineage for t in retrained)
    assert all(t.recipe is Recipe.RETRAIN and t.status is TrialStatus.COMPLETED for t in retrained)
    jobs = [s.job for s in history.successes(JobKind.TRAIN, "retrain")]
    for trial in (t for t in retrained if t.lineage):
        assert tuple(j.candidate for j in jobs if j.trial == trial.number) == trial.lineage
