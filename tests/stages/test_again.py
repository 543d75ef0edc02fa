"""Stages that are opened once more: what is journalled, and what is refused."""

import pytest

from tests.searched import searched, settings, trained
from ziggurat import amended
from ziggurat.errors import SpecError
from ziggurat.events import Amended, Decided, StageFinished, StageStarted
from ziggurat.stages import again, approval, selection
from ziggurat.stages.retrain import _select


@pytest.fixture
def run(tmp_path):
    taken = searched(tmp_path, retrain=settings({"wanted": False}), budget={"limit_usd": 1.0})
    yield taken
    taken.close()


def open_again(run, who="Ada", **wish):
    run.record(again.retraining(run.spec, run.history, again.Wish(**wish), who))
    return selection.missing(run.spec, run.history, selection.selected(run.spec, run.history))


def retrain_all(run, missing):
    """Journal that all of these have been trained, and that the stages are over."""
    run.record([StageStarted("retrain")])
    for number, training in enumerate(missing, start=len(run.history.trials)):
        run.record(
            trained(
                run, "retrain", number, training.trial.candidate, seed=training.seed, accuracy=0.9, size=1.0,
                origin=f"trial {training.trial.number}", ladder=training.ladder,
            )
        )  # fmt: skip
    run.record([StageFinished("retrain", "ok"), StageStarted("measure"), StageFinished("measure", "ok")])


def first_time(run):
    missing = selection.missing(run.spec, run.history, selection.selected(run.spec, run.history))
    retrain_all(run, missing)
    return {t.trial.number for t in missing}


def test_only_what_is_missing_is_trained(run):
    there = first_time(run)
    assert len(there) == 2
    missing = open_again(run, k=3)
    (new,) = {t.trial.number for t in missing}
    assert new not in there
    assert len(missing) == run.spec.retrain.seeds == 2
    assert not run.history.finished("retrain")
    assert not run.history.finished("measure")


def test_more_seeds_train_the_same_architectures_once_more(run):
    there = first_time(run)
    missing = open_again(run, seeds=3)
    assert {t.trial.number for t in missing} == there
    assert len({t.seed for t in missing}) == 1


def test_named_trials_replace_those_that_were_picked(run):
    first_time(run)
    assert {t.trial.number for t in open_again(run, trials=(3,))} == {3}
    retrain_all(run, selection.missing(run.spec, run.history, selection.selected(run.spec, run.history)))
    assert amended.chosen(run.history) == (3,)
    assert len({t.trial.number for t in open_again(run, who="Bob", k=4)}) == 1, (
        "a K picks from the front again"
    )


def test_a_request_counts_once_however_often_it_is_tried(run):
    assert open_again(run, k=3, add_usd=0.5)
    assert run.limit_usd == 1.5
    assert again.retraining(run.spec, run.history, again.Wish(k=3, add_usd=0.5), "Ada") == []
    assert run.limit_usd == 1.5


def test_retraining_that_is_switched_off_is_switched_on_by_whoever_asks(tmp_path):
    taken = searched(tmp_path, retrain=settings(enabled=False))
    assert not taken.spec.retrain.enabled
    assert open_again(taken)
    assert taken.spec.retrain.enabled
    taken.close()


def test_whoever_asks_for_it_approves_of_it(tmp_path):
    taken = searched(tmp_path, retrain=settings())
    taken.record([Decided("approval", "rejected", reason="rejected by Bob")])
    assert open_again(taken)
    assert approval.refusal(taken.history) == ""
    assert not approval.due(taken)
    taken.close()


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"trials": (9,)}, "--trials 9: is no trial that can be retrained; these can: 0, 1, 2, 3"),
        ({"k": 7}, r"--k 7: only 4 trials can be retrained \(0, 1, 2, 3\); lower it"),
        ({"k": 0}, "--k 0: must be at least 1"),
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
        ({"add_usd": -1.0}, "--add-usd -1: must not be negative"),
        ({}, r"trials \d, \d are retrained with 2 seeds already; name others by --trials"),
    ],
)
def test_a_wish_that_cannot_be_met_is_one_line_and_changes_nothing(run, wish, words):
    first_time(run)
    before = run.history.length
    with pytest.raises(SpecError, match=words) as caught:
        open_again(run, **wish)
    assert "\n" not in str(caught.value)
    assert run.history.length == before


def test_a_search_that_has_not_ended_has_nothing_to_pick_from(tmp_path):
    taken = searched(tmp_path, ended=False)
    with pytest.raises(SpecError, match="its search has not ended"):
        open_again(taken)
    taken.close()


def test_measuring_again_needs_a_retrained_model(run):
    with pytest.raises(SpecError, match="no model is retrained yet"):
        again.measuring(run.history)
    first_time(run)
    run.record(again.measuring(run.history))
    assert not run.history.finished("measure")
    assert run.history.finished("retrain")


def test_a_later_change_of_one_setting_keeps_the_others(run):
    run.record([Amended({"retrain.k": 1}), Amended({"retrain.seeds": 4})])
    assert (run.spec.retrain.k, run.spec.retrain.seeds) == (1, 4)
    assert amended.revision(run.history) == 2


def test_a_selection_is_replayed_until_somebody_asks_for_another(run):
    first = [t.number for t in _select(run)]
    chosen = run.history.decision("selection")
    assert [t.number for t in _select(run)] == first
    assert run.history.decision("selection") is chosen, "decided once"
    run.record([StageFinished("retrain", "ok")])
    open_again(run, trials=(3,))
    assert [t.number for t in _select(run)] == [3]
    assert run.history.decision("selection").verdict == "chosen"
