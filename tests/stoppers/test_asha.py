"""ASHA: who goes on, who waits, who ends."""

import math

import pytest

from tests.support import ACCURACY, PARAMETERS, Story
from ziggurat.domain import Candidate, Decision, FailureKind, Goal, Measurement, Objective
from ziggurat.events import SegmentFinished
from ziggurat.stoppers import Asha

ONE = (ACCURACY,)
BOTH = (ACCURACY, PARAMETERS)


def told(*accuracies: float, sizes: tuple[float, ...] = (), verdict: str | None = None) -> Story:
    """A story of trials with these results at the lowest rung, all with the same verdict."""
    story = Story()
    for i, accuracy in enumerate(accuracies):
        number = story.propose(Candidate({"width": i}), {"parameters": sizes[i]} if sizes else {})
        story.finish(number, val_accuracy=accuracy)
        if verdict:
            story.verdict(number, verdict)
    return story


def decide(stopper: Asha, story: Story, number: int, objectives=ONE) -> Decision:
    return stopper.decide(story.trial(number), story.context(objectives=objectives))


def promoted(stopper: Asha, story: Story, objectives=ONE, trials: int = 40) -> int | None:
    trial = stopper.promote(story.context(objectives=objectives, trials=trials))
    return None if trial is None else trial.number


STOPPING, PROMOTION = Asha(type="stopping"), Asha()


def test_first_trial_at_a_rung_is_never_stopped_by_rank():
    assert decide(STOPPING, told(0.25), 0) is Decision.CONTINUE


@pytest.mark.parametrize(
    ("accuracies", "last_continues"),
    [((0.5, 0.4), False), ((0.5, 0.6), True), ((0.5, 0.6, 0.55), False), ((0.5, 0.6, 0.4, 0.55), True)],
)
def test_stopping_keeps_the_best_third_rounded_up(accuracies, last_continues):
    wanted = Decision.CONTINUE if last_continues else Decision.STOP
    assert decide(STOPPING, told(*accuracies), len(accuracies) - 1) is wanted


def test_stopping_compares_at_the_rung_of_the_trial_only():
    story = told(0.9, 0.5, verdict="continue")
    story.finish(1, val_accuracy=0.6)
    assert decide(STOPPING, story, 1) is Decision.CONTINUE


def test_a_larger_factor_stops_more():
    story = told(0.5, 0.6, 0.4, 0.55)
    assert decide(Asha(type="stopping", reduction_factor=4.0), story, 3) is Decision.STOP


def test_promotion_pauses_every_trial():
    story = told(0.9, 0.3)
    assert [decide(PROMOTION, story, n) for n in (0, 1)] == [Decision.PAUSE, Decision.PAUSE]


def test_nothing_is_promoted_before_a_third_is_a_whole_trial():
    assert promoted(PROMOTION, told(0.5, 0.6, verdict="pause")) is None
    assert promoted(PROMOTION, told(0.5, 0.6, 0.55, verdict="pause")) == 1


def test_a_trial_is_promoted_once():
    story = told(0.5, 0.6, 0.55, verdict="pause")
    story.start(1)
    assert promoted(PROMOTION, story) is None


def test_the_next_best_is_promoted_when_the_rung_has_grown():
    story = told(0.5, 0.6, 0.55, 0.3, 0.31, 0.32, verdict="pause")
    story.start(1)
    assert promoted(PROMOTION, story) == 2


def test_the_highest_rung_comes_first():
    story = told(*[0.5 + 0.01 * i for i in range(12)], verdict="pause")
    for number in (9, 10, 11):
        story.finish(number, val_accuracy=0.7)
        story.verdict(number, "pause")
    assert promoted(PROMOTION, story) == 9


def test_a_trial_paused_higher_up_is_not_promoted_by_its_rank_below():
    story = told(0.5, 0.6, 0.55, 0.3, 0.31, 0.32, verdict="pause")
    story.finish(1, val_accuracy=0.7)
    story.verdict(1, "pause")
    assert promoted(PROMOTION, story) == 2


def test_a_trial_that_failed_later_counts_at_its_rung_but_is_not_promoted():
    story = told(0.9, 0.6, 0.5, verdict="pause")
    story.fail(0, FailureKind.OUT_OF_MEMORY)
    assert promoted(PROMOTION, story) is None


def test_several_objectives_are_ranked_by_front_then_spread():
    # the front is 0, 1, 3; trial 2 is dominated by 1; scaled sums put 1 first, then the ends
    both = (ACCURACY, PARAMETERS)
    story = told(0.9, 0.85, 0.6, 0.5, 0.45, 0.4, sizes=(900, 500, 600, 100, 950, 950), verdict="pause")
    assert promoted(PROMOTION, story, both) == 1
    story.start(1)
    assert promoted(PROMOTION, story, both) in {0, 3}


def test_unknown_losses_rank_last():
    story = told(0.5, 0.4, 0.3, verdict="pause")
    number = story.propose(Candidate({"width": 9}))
    story.finish(number, val_loss=1.0)
    assert decide(STOPPING, story, number) is Decision.STOP
    assert promoted(PROMOTION, story) == 0


@pytest.mark.parametrize("kind", ["stopping", "promotion"])
@pytest.mark.parametrize("floor", ["chance", "reference"])
@pytest.mark.parametrize("accuracy", [0.05, 0.1, 0.101, 0.2, 0.201, math.nan])
def test_a_trial_no_better_than_the_floor_is_stopped_whatever_its_rank(kind, floor, accuracy):
    stopped = decide(Asha(type=kind, floor=floor), told(accuracy, sizes=(1.0,)), 0, BOTH) is Decision.STOP
    assert stopped == (not accuracy > {"chance": 0.1, "reference": 0.2}[floor])


def test_one_learned_objective_above_its_floor_is_enough():
    loss = Objective("val_loss", Goal.MINIMIZE, reference=2.0)
    story = Story()
    story.finish(story.propose(Candidate({"width": 1})), val_accuracy=0.1, val_loss=1.9)
    assert decide(PROMOTION, story, 0, (ACCURACY, loss)) is Decision.PAUSE


def test_nothing_learned_is_no_reason_to_stop():
    story = Story()
    story.finish(story.propose(Candidate({"width": 1}), {"parameters": 10.0}), train_loss=1.0)
    assert decide(PROMOTION, story, 0, (ACCURACY, PARAMETERS)) is Decision.PAUSE


def test_a_broken_limit_on_a_static_metric_stops():
    limited = (ACCURACY, Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=500.0))
    assert decide(PROMOTION, told(0.9, sizes=(501.0,)), 0, limited) is Decision.STOP
    assert decide(PROMOTION, told(0.9, sizes=(500.0,)), 0, limited) is Decision.PAUSE


def test_a_limit_found_broken_later_keeps_a_paused_trial_from_promotion():
    limited = (ACCURACY, Objective("latency_p50_ms", Goal.MINIMIZE, reference=10.0, limit=1.0))
    story = Story()
    for i, latency in enumerate((5.0, 0.5, 0.5)):
        number = story.propose(Candidate({"width": i}))
        job = story.start(number)
        found = (Measurement("val_accuracy", 0.9 - 0.1 * i, step=1), Measurement("latency_p50_ms", latency))
        story.add(SegmentFinished(job.key, number, 1.0, 0.0, measurements=found))
        story.verdict(number, "pause")
    assert promoted(PROMOTION, story, limited) == 1


def test_worthless_trials_take_nobodys_place():
    both = (ACCURACY, PARAMETERS)
    # the smallest network learns nothing; it lies on the front of accuracy and size all the same
    story = told(0.1, 0.9, 0.5, sizes=(1.0, 500.0, 600.0), verdict="pause")
    assert promoted(PROMOTION, story, both) == 1


def test_below_the_grace_rung_every_trial_continues():
    stopper = Asha(type="stopping", grace=1)
    story = told(0.9, 0.05)
    assert decide(stopper, story, 1) is Decision.CONTINUE
    story.verdict(1, "continue")
    story.finish(1, val_accuracy=0.05)
    assert decide(stopper, story, 1) is Decision.STOP


def test_a_small_search_ends_with_one_full_result():
    story = told(0.5, 0.6, verdict="pause")
    assert promoted(PROMOTION, story, trials=3) is None
    assert promoted(PROMOTION, story, trials=2) == 1
    story.finish(1, val_accuracy=0.65)
    story.verdict(1, "pause")
    assert promoted(PROMOTION, story, trials=2) == 1
    story.finish(1, val_accuracy=0.7)
    assert promoted(PROMOTION, story, trials=2) is None


def test_the_last_resort_waits_for_what_is_under_way():
    story = told(0.5, 0.6, verdict="pause")
    number = story.propose(Candidate({"width": 5}))
    assert promoted(PROMOTION, story, trials=3) is None
    story.start(number)
    assert promoted(PROMOTION, story, trials=3) is None
    story.fail(number)
    # the failed trial never had a result at this rung, so it does not count there
    assert promoted(PROMOTION, story, trials=3) == 1


def test_the_last_resort_promotes_no_worthless_trial():
    assert promoted(PROMOTION, told(0.05, 0.1, verdict="pause"), trials=2) is None


def test_a_minimised_objective_is_ranked_the_other_way():
    loss = (Objective("val_loss", Goal.MINIMIZE, reference=9.0),)
    story = Story()
    for i, value in enumerate((0.5, 0.4, 0.6)):
        story.finish(story.propose(Candidate({"width": i})), val_loss=value)
        story.verdict(i, "pause")
    assert promoted(PROMOTION, story, loss) == 1


# the front of accuracy and size is 0, 1 and 2; 3 is dominated by 1 and 2
FRONT = ((0.9, 0.85, 0.5, 0.48), (900.0, 500.0, 100.0, 600.0))


@pytest.mark.parametrize(
    ("keep", "going_on"),
    [("share", [True, True, True, False]), ("front", [True] * 3 + [False]), ("either", [True] * 3 + [False])],
)
def test_the_share_of_a_small_rung_ends_the_front_unless_it_is_kept(keep, going_on):
    # at reduction factor 2 two of four go on by share: 1 has the smallest sum, 2 is farthest from it
    stopper, story = Asha(type="stopping", keep=keep, reduction_factor=2), told(*FRONT[0], sizes=FRONT[1])
    found = [decide(stopper, story, n, BOTH) is Decision.CONTINUE for n in range(4)]
    assert found[1:] == going_on[1:]
    assert found[0] == (keep != "share")


def test_the_front_alone_ends_who_is_dominated_though_it_is_in_the_best_share():
    story = told(0.9, 0.85, sizes=(500.0, 600.0))
    settings = [Asha(type="stopping", keep=keep, reduction_factor=2) for keep in ("front", "either")]
    assert [decide(s, story, 1, BOTH) for s in settings] == [Decision.STOP, Decision.STOP]
    story = told(0.9, 0.85, 0.5, sizes=(500.0, 600.0, 700.0))
    assert [decide(s, story, 1, BOTH) for s in settings] == [Decision.STOP, Decision.CONTINUE]


def test_of_equal_trials_only_the_first_is_the_front():
    story = told(0.5, 0.5, 0.5, sizes=(9.0, 9.0, 9.0))
    stopper = Asha(type="stopping", keep="front")
    verdicts = [decide(stopper, story, n, BOTH) for n in range(3)]
    assert verdicts == [Decision.CONTINUE, Decision.STOP, Decision.STOP]


def test_a_worthless_or_unknown_trial_neither_dominates_nor_is_the_front():
    story = told(0.05, 0.5, math.nan, sizes=(1.0, 500.0, 2.0))
    stopper = Asha(type="stopping", keep="front")
    verdicts = [decide(stopper, story, n, BOTH) for n in range(3)]
    assert verdicts == [Decision.STOP, Decision.CONTINUE, Decision.STOP]


@pytest.mark.parametrize("keep", ["front", "either"])
def test_the_front_is_promoted_once_a_rung_has_as_many_trials_as_the_reduction_factor(keep):
    stopper = Asha(keep=keep)
    assert promoted(stopper, told(0.9, 0.5, sizes=(900.0, 100.0), verdict="pause"), BOTH) is None
    story = told(0.9, 0.85, 0.5, sizes=(900.0, 500.0, 100.0), verdict="pause")
    order = []
    while (number := promoted(stopper, story, BOTH)) is not None:
        order.append(number)
        story.start(number)
    assert sorted(order) == [0, 1, 2]
    assert order[0] == 1


def test_a_share_leaves_the_rest_of_the_front_paused():
    story = told(0.9, 0.85, 0.5, sizes=(900.0, 500.0, 100.0), verdict="pause")
    story.start(promoted(Asha(keep="share"), story, BOTH))
    assert promoted(Asha(keep="share"), story, BOTH) is None


def test_shares_of_brackets_follow_successive_halving():
    # three, two and one decisions below the top at factor 2: 8 / 4, 4 / 3, 2 / 2
    assert Asha(brackets=3, reduction_factor=2).shares(3) == pytest.approx([6 / 13, 4 / 13, 3 / 13])
    assert Asha(brackets=2, grace=1, reduction_factor=2).shares(3) == pytest.approx([4 / 7, 3 / 7])


def test_every_beginning_of_the_trials_is_divided_among_the_brackets_by_their_shares():
    stopper, story = Asha(brackets=3), Story()
    for i in range(200):
        story.propose(Candidate({"width": i}))
    context = story.context()
    brackets = [stopper.bracket(story.trial(n), context) for n in range(200)]
    assert brackets[0] == 0
    for count in (10, 50, 200):
        for b, share in enumerate(stopper.shares(context.top)):
            assert abs(brackets[:count].count(b) - share * count) <= 2


def bracketed(stopper: Asha, *accuracies: float) -> tuple[Story, list[int]]:
    """A story with these results at the lowest rung, and the bracket of every trial."""
    story = told(*accuracies)
    return story, [stopper.bracket(story.trial(n), story.context()) for n in range(len(accuracies))]


def test_a_bracket_decides_at_its_own_first_rung():
    stopper = Asha(brackets=3)
    story, brackets = bracketed(stopper, *[0.5 + 0.01 * i for i in range(12)])
    assert set(brackets) == {0, 1, 2}
    verdicts = [decide(stopper, story, n) for n in range(12)]
    assert verdicts == [Decision.CONTINUE if b else Decision.PAUSE for b in brackets]


def test_trials_are_compared_within_their_bracket_only():
    stopper = Asha(type="stopping", brackets=2)
    story, brackets = bracketed(stopper, *[0.9 - 0.01 * i for i in range(12)])
    late = [n for n in range(12) if brackets[n] == 1]
    for number in range(12):
        story.verdict(number, "continue")
        story.finish(number, val_accuracy=0.9 - 0.01 * number - 0.3 * brackets[number])
    best = late[: math.ceil(len(late) / 3)]
    assert [n for n in late if decide(stopper, story, n) is Decision.CONTINUE] == best
    # together with the other bracket, which is better, fewer of these would go on
    together = Asha(type="stopping")
    assert [n for n in late if decide(together, story, n) is Decision.CONTINUE] != best


def test_promotion_takes_the_best_of_each_bracket():
    stopper = Asha(brackets=2)
    story, brackets = bracketed(stopper, *[0.9 - 0.01 * i for i in range(20)])
    for number, bracket in enumerate(brackets):
        if bracket == 1:
            story.verdict(number, "continue")
            story.finish(number, val_accuracy=story.trial(number).value("val_accuracy"))
        story.verdict(number, "pause")
    taken = set()
    while (number := promoted(stopper, story)) is not None:
        story.start(number)
        taken.add(number)
    for b in (0, 1):
        group = [n for n in range(20) if brackets[n] == b]
        assert {n for n in taken if brackets[n] == b} == set(group[: len(group) // 3])


def test_every_bracket_of_a_small_search_ends_with_one_full_result():
    stopper = Asha(brackets=2)
    story, brackets = bracketed(stopper, 0.5, 0.6, 0.7, 0.8)
    assert sorted(set(brackets)) == [0, 1]
    for number, bracket in enumerate(brackets):
        if bracket:
            story.verdict(number, "continue")
            story.finish(number, val_accuracy=0.75)
        story.verdict(number, "pause")
    while (number := promoted(stopper, story, trials=4)) is not None:
        story.finish(number, val_accuracy=0.9)
        if story.trial(number).rung < 2:
            story.verdict(number, "pause")
    full = [t.number for t in story.history.at_rung("search", 2)]
    best = [max(n for n in range(4) if brackets[n] == 0), min(n for n in range(4) if brackets[n] == 1)]
    assert sorted(full) == sorted(best)


def test_reach_counts_the_decisions_on_the_way():
    assert Asha(reduction_factor=4).reach(2) == [1.0, 0.25, 0.0625]
    assert Asha(reduction_factor=4, grace=1).reach(2) == [1.0, 1.0, 0.25]
