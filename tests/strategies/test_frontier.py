"""The joint strategy: every kind of space, objective and fault; one history gives one decision."""

import math

import numpy as np
import pytest

from tests.support import ACCURACY, CHOICES, LADDER, PARAMETERS, Story, parameters_of
from ziggurat import choices as space
from ziggurat import pareto
from ziggurat.domain import (
    Candidate,
    Decision,
    Failure,
    FailureKind,
    Fidelity,
    Goal,
    Objective,
    Promotion,
    TrialStatus,
)
from ziggurat.events import SegmentFinished, TrialEnded
from ziggurat.protocols import Forecast
from ziggurat.strategies import Frontier, frontier
from ziggurat.strategies.acquisition import Offer, State

SMALL = {"width": space.Range(min=1, max=4), "kind": space.Values(values=["a", "b", "c"])}
QUICK = Frontier(initial=4, pool=32)
LATENCY = Objective("latency", Goal.MINIMIZE, reference=50.0)
LOSS = Objective("val_loss", Goal.MINIMIZE, reference=3.0)


@pytest.fixture(autouse=True)
def _forget():
    frontier._MINDS.clear()


def outcome(candidate: Candidate, rung: int) -> dict[str, float]:
    """Accuracy grows with size and with training; the other metrics follow from the candidate."""
    size = parameters_of(candidate)
    accuracy = 0.9 - 3.0 / (5.0 + size) - 0.1 / (1 + rung)
    return {"val_accuracy": accuracy, "latency": 1.0 + size / 20, "val_loss": 1.5 - accuracy}


def play(strategy, steps: int, told=outcome, ladder=LADDER, **changes) -> Story:
    """A story of some segments, one after the other, each decided by the strategy."""
    story = Story(ladder=ladder)
    for _ in range(steps):
        found = strategy.propose_batch(story.context(ladder=ladder, **changes), 1)
        if not found:
            return story
        advance(story, found[0], told, changes)
    return story


def advance(story: Story, segment, told, changes) -> None:
    """Carry out one segment, and pause below the top."""
    if isinstance(segment, Promotion):
        number = segment.trial
        assert story.trial(number).status is TrialStatus.PAUSED
    else:
        static = changes.get("static")
        known = static([segment.candidate])[0] if static else {"parameters": parameters_of(segment.candidate)}
        number = story.propose(segment, known)
    trial = story.trial(number)
    story.finish(number, **told(trial.candidate, trial.rung + 1))
    if story.trial(number).rung < len(story.ladder) - 1:
        context = story.context(ladder=story.ladder, **changes)
        assert QUICK.decide(story.trial(number), context) is Decision.PAUSE
        story.verdict(number, "pause")


def test_starts_and_promotions_are_both_made_and_something_reaches_the_top():
    story = play(QUICK, 30)
    rungs = [t.rung for t in story.history.trials.values()]
    assert len(rungs) > 5
    assert 2 in rungs
    assert min(rungs) == 0


def test_the_same_history_gives_the_same_segment_whether_the_model_was_kept_or_not():
    story = play(QUICK, 14, choices=SMALL)
    kept = QUICK.propose_batch(story.context(choices=SMALL), 1)
    frontier._MINDS.clear()
    assert QUICK.propose_batch(story.context(choices=SMALL), 1) == kept
    assert kept


def test_a_model_that_was_told_something_else_is_not_kept():
    first = play(QUICK, 10, choices=SMALL)
    other = play(
        QUICK, 10, lambda c, r: {"val_accuracy": 0.9 - outcome(c, r)["val_accuracy"] / 2}, choices=SMALL
    )
    with_kept = QUICK.propose_batch(other.context(choices=SMALL), 1)
    frontier._MINDS.clear()
    assert QUICK.propose_batch(other.context(choices=SMALL), 1) == with_kept
    assert first.history.trials != other.history.trials


@pytest.mark.parametrize(
    "objectives",
    [
        (ACCURACY,),
        (ACCURACY, PARAMETERS),
        (ACCURACY, LATENCY),
        (ACCURACY, PARAMETERS, LATENCY),
        (ACCURACY, PARAMETERS, LATENCY, LOSS),
    ],
    ids=lambda o: "+".join(x.metric for x in o),
)
def test_one_to_four_objectives_learned_and_static(objectives):
    story = play(QUICK, 14, objectives=objectives)
    assert sum(len(t.results) for t in story.history.trials.values()) == 14


def test_no_static_metric_at_all_is_enough():
    story = play(QUICK, 12, objectives=(ACCURACY, LATENCY), static=lambda cs: [{} for _ in cs])
    assert len(story.history.trials) > 4


@pytest.mark.parametrize("rungs", [1, 2, 5])
def test_any_ladder(rungs):
    ladder = tuple(Fidelity(2**i) for i in range(rungs))
    story = play(QUICK, 16, ladder=ladder)
    assert sum(len(t.results) for t in story.history.trials.values()) == 16


def test_a_candidate_beyond_a_static_limit_is_never_started():
    limited = (ACCURACY, Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=150.0))
    story = play(QUICK, 20, objectives=limited)
    assert story.history.trials
    assert all(parameters_of(t.candidate) <= 150.0 for t in story.history.trials.values())


def test_a_small_space_is_used_up_and_then_there_is_only_promotion_and_then_nothing():
    story = play(Frontier(initial=4, min_gain=0.0), 100, choices=SMALL, trials=100)
    candidates = [t.candidate for t in story.history.trials.values()]
    assert len(set(candidates)) == len(candidates) == 12


def test_nobody_is_promoted_for_nothing_once_all_trials_are_proposed():
    eager, frugal = (play(Frontier(initial=4, pool=32, min_gain=gain), 60, trials=8) for gain in (0.0, 0.2))
    segments = [sum(len(t.results) for t in s.history.trials.values()) for s in (eager, frugal)]
    assert segments[1] < segments[0]
    assert max(len(s.history.trials) for s in (eager, frugal)) == 8


def test_what_a_trial_must_add_is_held_against_what_is_left_to_pay():
    story = play(QUICK, 20)
    (mind,) = frontier._MINDS.values()
    costs = mind.stock.costs(story.context(), mind.paces)
    assert mind.model.volume() > 0
    for rung in (1, 2):
        least = QUICK.min_gain * mind.model.volume() / float(costs[0, rung:].sum())
        state = State(mind.free, [(0, rung - 1)], [], costs)
        assert mind._pays(Offer(0, rung, 1.01 * least), state, QUICK)
        assert not mind._pays(Offer(0, rung, 0.99 * least), state, QUICK)


def test_running_trials_are_not_proposed_again():
    story = play(QUICK, 8)
    found = QUICK.propose_batch(story.context(), 1)
    number = found[0].trial if isinstance(found[0], Promotion) else story.propose(found[0])
    story.start(number)
    again = QUICK.propose_batch(story.context(), 1)
    assert again
    assert again != found


def rate_of(segment) -> float:
    """The expected gain for each second, as the words of a segment give it."""
    words = segment.reason if isinstance(segment, Promotion) else segment.origin
    return float(words.split()[1])


def test_what_is_under_way_is_believed_to_come_true():
    story = play(QUICK, 10, choices=SMALL)
    found = QUICK.propose_batch(story.context(choices=SMALL), 3)
    jobs = [story.start(s.trial if isinstance(s, Promotion) else story.propose(s)) for s in found]
    (beside,) = QUICK.propose_batch(story.context(choices=SMALL), 1)
    failure = Failure(FailureKind.LOST, "told to")
    for job in jobs:
        story.add(SegmentFinished(job.key, job.trial, 1.0, 0.0, failure=failure))
        story.add(TrialEnded(job.trial, TrialStatus.FAILED, failure))
    (without,) = QUICK.propose_batch(story.context(choices=SMALL), 1)
    # the same is left to choose from, but what was under way would have taken a part of the gain
    assert rate_of(beside) < rate_of(without)


def test_candidates_like_those_that_diverged_are_avoided_and_a_lost_machine_blames_nobody():
    wide = {**SMALL, "width": space.Range(min=1, max=10)}
    counts = []
    for kind in (FailureKind.DIVERGED, FailureKind.LOST):
        frontier._MINDS.clear()
        story = Story()
        while len(story.history.trials) < 14:
            (segment,) = QUICK.propose_batch(story.context(choices=wide), 1)
            if not isinstance(segment, Promotion) and segment.candidate.choices["kind"] == "a":
                story.fail(story.propose(segment, {"parameters": parameters_of(segment.candidate)}), kind)
            else:
                advance(story, segment, outcome, {})
        counts.append(sum(t.candidate.choices["kind"] == "a" for t in story.history.trials.values()))
    assert counts[0] < counts[1]


@pytest.mark.parametrize("kind", [FailureKind.DIVERGED, FailureKind.LOST, FailureKind.OUT_OF_MEMORY])
def test_a_search_goes_on_when_every_trial_has_failed(kind):
    story = Story()
    for _ in range(8):
        segment = QUICK.propose_batch(story.context(), 1)[0]
        story.fail(story.propose(segment), kind)
    assert QUICK.propose_batch(story.context(), 1)


def test_equal_results_and_constant_objectives_do_no_harm():
    story = play(
        QUICK,
        14,
        lambda *_: {"val_accuracy": 0.5},
        static=lambda cs: [{"parameters": 9.0}] * len(cs),
    )
    assert len(story.history.trials) >= 4


def test_unknown_and_infinite_results_do_no_harm():
    values = iter([math.nan, math.inf, 0.5, 0.6] * 10)
    story = play(QUICK, 16, lambda *_: {"val_accuracy": next(values)})
    assert len(story.history.trials) >= 4


def test_a_front_of_one_point_is_enough():
    best = []

    def told(candidate, rung):
        best.append(candidate)
        return {"val_accuracy": 0.99 if candidate == best[0] else 0.21}

    assert len(play(QUICK, 14, told).history.trials) >= 4


def test_a_batch_is_of_different_segments():
    story = play(QUICK, 8)
    found = QUICK.propose_batch(story.context(), 4)
    told = [s.trial if isinstance(s, Promotion) else s.candidate for s in found]
    assert len(set(map(str, told))) == len(told) > 1


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_batch_starts_no_more_trials_than_there_is_room_for(room):
    story = play(QUICK, 8)
    context = story.context(trials=len(story.history.trials) + room)
    found = QUICK.propose_batch(context, 8)
    started = [s for s in found if not isinstance(s, Promotion)]
    assert len(started) == room
    assert len(found) > room


def test_the_first_candidates_are_spread_over_what_keeps_the_limits():
    limited = (ACCURACY, Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=40.0))
    wide = {**SMALL, "width": space.Range(min=1, max=10)}
    found = QUICK.propose_batch(Story().context(objectives=limited, choices=wide), 4)
    assert sorted(s.candidate.choices["width"] for s in found) == [1, 2, 3, 4]


def test_an_empty_space_within_the_limits_gives_nothing():
    limited = (ACCURACY, Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=1.0))
    assert QUICK.propose_batch(Story().context(objectives=limited), 2) == []


def test_candidates_of_a_large_space_lie_in_it_and_are_all_different():
    story = play(QUICK, 20)
    candidates = [t.candidate for t in story.history.trials.values()]
    assert all(space.contains(CHOICES, c) for c in candidates)
    assert len(set(candidates)) == len(candidates)


def test_what_a_segment_gains_is_told_in_the_money_it_costs():
    def priced(candidate, low, high):
        return Forecast(float(high + 1), float(high + 1) / 100)

    story = play(QUICK, 10, forecast=priced)
    (segment,) = QUICK.propose_batch(story.context(forecast=priced), 1)
    words = segment.reason if isinstance(segment, Promotion) else segment.origin
    assert words.startswith("frontier: ")
    assert words.endswith("of hypervolume for each USD")


def test_it_finds_more_of_a_known_front_than_chance():
    found = []
    for strategy in (QUICK, Frontier(initial=500, pool=32)):
        story = play(strategy, 24, ladder=(Fidelity(9),))
        done = [t for t in story.history.trials.values() if t.results]
        losses = [t.losses((ACCURACY, PARAMETERS)) for t in done]
        found.append(pareto.hypervolume(np.array(losses), [-0.2, 1000.0]))
    assert found[0] > found[1]


def test_a_candidate_that_cannot_be_built_is_not_started_and_changes_nothing_for_the_others():
    def some(candidates):
        return [
            {} if c.choices["activation"] == "tanh" else {"parameters": parameters_of(c)} for c in candidates
        ]

    story = play(QUICK, 16, static=some)
    assert sum(len(t.results) for t in story.history.trials.values()) == 16
    assert {t.candidate.choices["activation"] for t in story.history.trials.values()} == {"relu"}


def test_a_search_goes_on_when_nothing_can_be_looked_at_for_a_while():
    story = play(QUICK, 10)
    blind = QUICK.propose_batch(story.context(static=lambda cs: [{} for _ in cs]), 1)
    assert blind
    frontier._MINDS.clear()
    assert QUICK.propose_batch(story.context(static=lambda cs: [{} for _ in cs]), 1)
    assert QUICK.propose_batch(story.context(), 1)
