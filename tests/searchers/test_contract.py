"""What every searcher must do; searchers are found through the union."""

import math
from typing import get_args

import pytest

from tests.support import ACCURACY, LADDER, Story, parameters_of, search
from ziggurat import choices as space
from ziggurat.domain import Candidate, FailureKind, Fidelity, Goal, Objective
from ziggurat.searchers import AnySearcher, AxSearcher

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SMALL = {"width": space.Range(min=1, max=4), "kind": space.Values(values=["a", "b", "c"])}
KINDS = get_args(get_args(AnySearcher)[0])


def make(kind):
    """A searcher that is past its first points soon."""
    return kind(initial=6, batch=6) if kind is AxSearcher else kind()


def outcome(candidate: Candidate) -> dict[str, float]:
    return {"val_accuracy": 0.9 - 1.0 / parameters_of(candidate)}


@pytest.fixture(autouse=True)
def _hasty(request, monkeypatch):
    """Ax need not find good points here, only answer."""
    if request.node.callspec.params["kind"] is AxSearcher:
        from ziggurat.searchers import ax_client

        monkeypatch.setitem(ax_client.OPTIMIZER, "num_restarts", 1)
        monkeypatch.setitem(ax_client.OPTIMIZER, "raw_samples", 4)
        monkeypatch.setitem(ax_client.OPTIMIZER, "options", {"maxiter": 2})


every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.model_fields["kind"].default)


@every_kind
def test_proposals_lie_in_the_space_and_are_all_different(kind):
    trials = search(make(kind), 9, outcome).history.trials.values()
    assert len(trials) == 9
    assert all(space.contains(Story().context().choices, t.candidate) for t in trials)
    assert len({t.candidate for t in trials}) == 9
    assert all(t.note for t in trials)


@every_kind
def test_the_same_history_gives_the_same_proposal(kind):
    story = search(make(kind), 7, outcome)
    first, second = (make(kind).propose(story.context()) for _ in range(2))
    assert first is not None
    assert first == second


@every_kind
def test_an_empty_history_gives_a_proposal(kind):
    assert make(kind).propose(Story().context()) is not None


@every_kind
def test_a_batch_is_never_larger_than_wanted(kind):
    story = Story()
    assert make(kind).propose_batch(story.context(), 0) == []
    assert len(make(kind).propose_batch(story.context(), 2)) in {1, 2}


@every_kind
@pytest.mark.parametrize("failure", [FailureKind.DIVERGED, FailureKind.LOST])
def test_a_search_goes_on_when_every_trial_has_failed(kind, failure):
    story, searcher = Story(), make(kind)
    for _ in range(8):
        story.fail(story.propose(searcher.propose(story.context())), failure)
    assert searcher.propose(story.context()) is not None


@every_kind
def test_unknown_and_infinite_results_do_no_harm(kind):
    story, searcher = Story(), make(kind)
    for i in range(8):
        number = story.propose(searcher.propose(story.context()), {"parameters": 100.0 + i})
        story.finish(number, val_accuracy=[math.nan, math.inf, 0.5, 0.6][i % 4])
    assert searcher.propose(story.context()) is not None


@every_kind
def test_one_objective_is_enough(kind):
    story = search(make(kind), 8, outcome, objectives=(ACCURACY,))
    assert len(story.history.trials) == 8


@every_kind
def test_equal_results_do_no_harm(kind):
    story = search(
        make(kind), 7, lambda _: {"val_accuracy": 0.5}, static=lambda cs: [{"parameters": 9.0}] * len(cs)
    )
    assert len({t.candidate for t in story.history.trials.values()}) == 7


@every_kind
def test_a_small_space_is_used_up_and_then_there_is_no_proposal(kind):
    story = search(make(kind), 20, outcome, choices=SMALL)
    assert len({t.candidate for t in story.history.trials.values()}) == 12
    assert make(kind).propose(story.context(choices=SMALL)) is None


@every_kind
def test_a_candidate_beyond_a_static_limit_is_never_proposed(kind):
    limited = (ACCURACY, Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=150.0))
    trials = search(make(kind), 8, outcome, objectives=limited).history.trials.values()
    assert len(trials) == 8
    assert all(parameters_of(t.candidate) <= 150.0 for t in trials)


@every_kind
def test_there_is_no_proposal_when_no_candidate_keeps_the_limit(kind):
    limited = (ACCURACY, Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=1.0))
    assert make(kind).propose(Story().context(objectives=limited)) is None


@every_kind
def test_a_limit_on_what_must_be_learned_stops_no_proposal(kind):
    limited = (Objective("val_accuracy", Goal.MAXIMIZE, reference=0.2, limit=0.8),)
    assert make(kind).propose(Story().context(objectives=limited)) is not None


@every_kind
def test_trials_of_another_stage_are_not_looked_at(kind):
    story = search(make(kind), 3, outcome)
    other = Story(ladder=LADDER, stage="validate", history=story.history)
    assert make(kind).propose(other.context()) == make(kind).propose(Story(stage="validate").context())


@every_kind
def test_several_rungs_and_trials_under_way_are_understood(kind):
    story, searcher = Story(ladder=(Fidelity(1), Fidelity(2))), make(kind)
    for i in range(7):
        number = story.propose(
            searcher.propose(story.context(ladder=story.ladder)), {"parameters": 100.0 + i}
        )
        if i < 5:
            story.finish(number, val_accuracy=0.5 + 0.05 * i)
            story.verdict(number, "pause" if i % 2 else "continue")
    story.start(5)
    proposal = searcher.propose(story.context(ladder=story.ladder))
    assert proposal is not None
    assert proposal.candidate not in {t.candidate for t in story.history.trials.values()}
