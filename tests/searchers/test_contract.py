"""What every searcher must do; searchers are found through the union."""

import math
from typing import get_args

import pytest

from tests.support import ACCURACY, CHOICES, LADDER, PARAMETERS, Story, parameters_of, search
from ziggurat import choices as space
from ziggurat.domain import Candidate, FailureKind, Fidelity, Goal, Objective, TrialStatus
from ziggurat.events import TrialEnded, from_line, to_line
from ziggurat.history import fold
from ziggurat.searchers import AnySearcher, AxSearcher, Evolution, Nsga2

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SMALL = {"width": space.Range(min=1, max=4), "kind": space.Values(values=["a", "b", "c"])}
KINDS = get_args(get_args(AnySearcher)[0])
EARLY = {
    AxSearcher: {"initial": 6, "batch": 6},
    Evolution: {"population": 6, "sample": 3},
    Nsga2: {"population": 6},
}
"""Settings with which a searcher is past its first points soon."""
LATENCY = Objective("latency_ms", Goal.MINIMIZE, reference=80.0)
THROUGHPUT = Objective("throughput", Goal.MAXIMIZE, reference=1.0)
OBJECTIVES = (ACCURACY, PARAMETERS, LATENCY, THROUGHPUT)


def make(kind):
    """A searcher that is past its first points soon."""
    return kind(**EARLY.get(kind, {}))


def outcome(candidate: Candidate) -> dict[str, float]:
    return {"val_accuracy": 0.9 - 1.0 / parameters_of(candidate)}


def static(candidates):
    """Size, latency and throughput; the last two disagree with one another."""
    sizes = [parameters_of(c) for c in candidates]
    return [{"parameters": s, "latency_ms": s / 10, "throughput": 1.0 + s % 7} for s in sizes]


def tell(story: Story, width: int, accuracy: float | None = None) -> int:
    """A trial of a small candidate, with a result at the lowest rung if an accuracy is given."""
    candidate = Candidate({"width": width, "rate": 0.01, "depth": 1, "activation": "relu"})
    number = story.propose(candidate, static([candidate])[0])
    if accuracy is not None:
        story.finish(number, val_accuracy=accuracy)
    return number


def eventful() -> Story:
    """All that can become of trials: ties, repeats, NaN, failures, pauses, stops, rungs, work under way."""
    story = Story()
    for i in range(12):
        tell(story, 10 + i, 0.5 + 0.01 * (i // 2))
        story.verdict(i, ["continue", "pause", "stop"][i % 3])
    for i in (0, 3, 6):
        story.finish(i, val_accuracy=0.6 + 0.02 * i)
        story.verdict(i, ["continue", "pause", "stop"][i // 3])
    story.finish(0, val_accuracy=0.7)
    tell(story, 10, 0.55)  # a repeat of the first, with another result
    tell(story, 30, math.nan)
    for width, kind in enumerate([FailureKind.DIVERGED, FailureKind.LOST, FailureKind.PREEMPTED], start=31):
        story.fail(tell(story, width), kind)
    story.verdict(tell(story, 35, 0.6), "continue")
    story.fail(17)
    story.add(TrialEnded(tell(story, 64), TrialStatus.REJECTED, reason="parameters"))
    tell(story, 36)
    story.start(tell(story, 37))
    return story


def sound(story: Story, searcher, **changes) -> None:
    """Assert that the next proposal is new and in the space, and the same after reading the journal again."""
    proposal = searcher.propose(story.context(**changes))
    assert proposal is not None
    assert proposal.origin
    assert space.contains(CHOICES, proposal.candidate)
    assert proposal.candidate not in {t.candidate for t in story.history.trials.values()}
    again = fold(from_line(to_line(event)) for event in story.events)
    assert searcher.propose(story.context(history=again, **changes)) == proposal


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
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_whatever_has_happened_the_next_proposal_is_sound(kind, count):
    sound(eventful(), make(kind), objectives=OBJECTIVES[:count], static=static)


@every_kind
def test_learned_and_static_objectives_may_stand_in_any_order(kind):
    sound(eventful(), make(kind), objectives=(PARAMETERS, ACCURACY), static=static)
    sound(eventful(), make(kind), objectives=(PARAMETERS,), static=static)


@every_kind
@pytest.mark.parametrize("failure", [FailureKind.DIVERGED, FailureKind.LOST, FailureKind.PREEMPTED])
def test_failures_between_results_do_no_harm(kind, failure):
    story = Story()
    for i in range(9):
        number = tell(story, 10 + i, None if i % 3 else 0.5 + 0.01 * i)
        if i % 3:
            story.fail(number, failure)
    sound(story, make(kind))


@every_kind
def test_one_constant_objective_among_others_does_no_harm(kind):
    story = Story()
    for i in range(9):
        tell(story, 10 + i, 0.5)
    sound(story, make(kind))


@every_kind
def test_repeats_of_one_candidate_do_no_harm(kind):
    story = Story()
    for i in range(9):
        tell(story, 10 + i // 5, 0.5 + 0.1 * (i % 2))
    sound(story, make(kind))


@every_kind
def test_a_front_of_one_point_does_no_harm(kind):
    story = Story()
    for i in range(9):
        tell(story, 10 + i, 0.6 - 0.01 * i)
    sound(story, make(kind))


@every_kind
def test_results_beyond_every_reference_do_no_harm(kind):
    story = Story()
    for i in range(9):
        tell(story, 10 + i, 0.01 * i)
    strict = (ACCURACY, Objective("parameters", Goal.MINIMIZE, reference=1.0))
    sound(story, make(kind), objectives=strict)


@every_kind
def test_limits_hold_whatever_has_happened_before(kind):
    limited = (ACCURACY, Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=140.0))
    story, searcher = eventful(), make(kind)
    for _ in range(4):
        proposal = searcher.propose(story.context(objectives=limited, static=static))
        assert proposal is not None
        assert parameters_of(proposal.candidate) <= 140.0
        story.propose(proposal, static([proposal.candidate])[0])


@every_kind
def test_a_resumed_search_goes_on_as_if_it_had_not_stopped(kind):
    story, searcher = eventful(), make(kind)
    resumed = Story(history=fold(from_line(to_line(event)) for event in story.events))
    for _ in range(4):
        first, second = (searcher.propose(s.context(static=static)) for s in (story, resumed))
        assert first == second
        assert first is not None
        for s in (story, resumed):
            s.finish(s.propose(first, static([first.candidate])[0]), val_accuracy=0.6)


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
