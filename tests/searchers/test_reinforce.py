import math
import time

import numpy as np
import pytest

from tests.support import ACCURACY, CHOICES, PARAMETERS, Story, search
from ziggurat import choices as space
from ziggurat.domain import Candidate, Failure, FailureKind, Fidelity, Goal, Objective, TrialStatus
from ziggurat.events import SegmentFinished, TrialEnded
from ziggurat.searchers import Reinforce, reinforce
from ziggurat.searchers.controller import Controller, Step, steps_of
from ziggurat.searchers.reinforce import BREAKS_LIMITS, FAILED, KEEPS_LIMITS, Episode, Standings, episodes

CANDIDATE = Candidate({"width": 8})
LETTERS = {name: space.Values(values=["a", "b", "c", "d"]) for name in ("north", "east", "south", "west")}
kinds = pytest.mark.parametrize("kind", ["recurrent", "independent"])


def result(*losses, standing=KEEPS_LIMITS):
    return Episode(0, CANDIDATE, 0, standing, losses)


def count_a(candidate):
    return {"val_accuracy": sum(value == "a" for value in candidate.choices.values()) / 4}


def history_of(setting, count=20):
    return search(setting, count, count_a, choices=LETTERS, objectives=(ACCURACY,))


def propose(setting, story):
    return setting.propose(story.context(choices=LETTERS, objectives=(ACCURACY,)))


@kinds
def test_a_rebuilt_controller_proposes_what_a_kept_one_does(kind):
    setting = Reinforce(controller=kind)
    story = history_of(setting)
    kept = propose(setting, story)
    assert reinforce._LEARNED
    reinforce._LEARNED.clear()
    assert propose(setting, story) == kept


def test_a_search_is_the_same_whether_the_controller_is_kept_or_not(monkeypatch):
    kept = history_of(Reinforce())
    monkeypatch.setattr(reinforce, "KEPT", 0)
    rebuilt = history_of(Reinforce())
    assert [t.candidate for t in kept.history.trials.values()] == [
        t.candidate for t in rebuilt.history.trials.values()
    ]


def test_a_controller_of_another_history_is_not_taken_for_this_one():
    setting = Reinforce()
    long, short = history_of(setting, 20), history_of(setting, 5)
    wanted = propose(setting, short)
    reinforce._LEARNED.clear()
    propose(setting, long)
    assert propose(setting, short) == wanted


@kinds
def test_it_learns_which_choices_pay(kind):
    trials = list(history_of(Reinforce(controller=kind), 70).history.trials.values())
    # a candidate drawn at random has one choice of four right
    assert np.mean([count_a(t.candidate)["val_accuracy"] for t in trials[30:]]) > 0.4


def test_the_global_generator_of_torch_is_neither_read_nor_moved():
    import torch

    before = torch.random.get_rng_state()
    reinforce._LEARNED.clear()
    first = propose(Reinforce(), history_of(Reinforce(), 10))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(7)
    reinforce._LEARNED.clear()
    assert propose(Reinforce(), history_of(Reinforce(), 10)) == first


def test_the_reward_is_the_share_of_worse_results_and_ties_count_half():
    standings = Standings(1, 0.9)
    rewards = [standings.reward(result(loss)) for loss in (3.0, 1.0, 2.0, 2.0)]
    assert rewards == pytest.approx([0.5, 0.75, 0.5, 0.5])


def test_with_two_objectives_results_are_compared_by_how_many_dominate_them():
    standings = Standings(2, 0.9)
    standings.reward(result(0.0, 1.0))
    standings.reward(result(1.0, 0.0))
    assert standings.reward(result(2.0, 2.0)) == pytest.approx(1 / 6)
    assert standings.reward(result(0.5, 0.5)) == pytest.approx(1 / 4 + 3 / 8)


def test_a_result_beyond_a_limit_comes_after_all_others_and_a_failure_last():
    standings = Standings(1, 0.9)
    standings.reward(result(5.0))
    assert standings.reward(result(1.0, standing=BREAKS_LIMITS)) == pytest.approx(1 / 4)
    assert standings.reward(result(standing=FAILED)) == pytest.approx(1 / 6)


def test_the_advantage_is_the_reward_less_a_moving_average_that_contains_it():
    standings = Standings(1, 0.5)
    assert standings.advantage(result(2.0)) == pytest.approx(0.0)
    # rewards 0.5 and 0.75; averages weigh them 1 : 2
    assert standings.advantage(result(1.0)) == pytest.approx(0.75 - (0.5 + 2 * 0.75) / 3)


def test_episodes_come_in_the_order_in_which_results_came_in():
    story = Story(ladder=(Fidelity(1), Fidelity(2)))
    jobs = [story.start(story.propose(Candidate({"width": 8 + i}))) for i in range(3)]
    for i in (2, 0, 1):
        measured = reinforce_measurement(0.5 + i / 10)
        story.add(SegmentFinished(jobs[i].key, i, 1.0, 0.0, measurements=measured))
    story.verdict(2, "continue")
    story.finish(2, val_accuracy=0.9)
    told = episodes(story.context(objectives=(ACCURACY,)))
    assert [(e.trial, e.rung) for e in told] == [(2, 0), (0, 0), (1, 0), (2, 1)]
    assert told[1].losses == (-0.5,)


def reinforce_measurement(value):
    from ziggurat.domain import Measurement

    return (Measurement("val_accuracy", value, step=1),)


def test_a_failed_trial_is_an_episode_and_a_lost_one_is_not():
    story = Story()
    story.fail(story.propose(Candidate({"width": 8})), FailureKind.DIVERGED)
    story.fail(story.propose(Candidate({"width": 9})), FailureKind.LOST)
    story.fail(story.propose(Candidate({"width": 10})), FailureKind.PREEMPTED)
    assert [(e.trial, e.standing) for e in episodes(story.context())] == [(0, FAILED)]


def test_a_segment_that_will_be_tried_again_is_no_episode():
    story = Story()
    job = story.start(story.propose(Candidate({"width": 8})))
    story.add(SegmentFinished(job.key, 0, 1.0, 0.0, failure=Failure(FailureKind.OUT_OF_MEMORY, "told to")))
    assert episodes(story.context()) == []
    story.add(TrialEnded(0, TrialStatus.FAILED))
    assert [e.standing for e in episodes(story.context())] == [FAILED]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_result_that_is_no_number_is_a_failure(value):
    story = Story()
    story.finish(story.propose(Candidate({"width": 8}), {"parameters": 80.0}), val_accuracy=value)
    assert [e.standing for e in episodes(story.context())] == [FAILED]


def test_a_result_beyond_a_limit_says_so():
    story = Story()
    limited = (Objective("val_accuracy", Goal.MAXIMIZE, reference=0.2, limit=0.8),)
    story.finish(story.propose(Candidate({"width": 8})), val_accuracy=0.7)
    assert [e.standing for e in episodes(story.context(objectives=limited))] == [BREAKS_LIMITS]


def test_every_choice_of_several_values_is_a_decision_and_long_ranges_are_cut_into_sixteen():
    choices = {
        "fixed": space.Values(values=[1]),
        "kind": space.Values(values=[str(i) for i in range(20)]),
        "few": space.Range(min=1, max=5),
        "many": space.Range(min=1, max=500, log=True),
    }
    assert steps_of(choices) == (Step(1, "kind", 20, 1), Step(2, "few", 5, 21), Step(3, "many", 16, 26))


@kinds
def test_the_policy_draws_all_values_and_skips_choices_that_do_not_exist(kind):
    controller = Controller(CHOICES, kind, 0.01, 0.0, np.random.default_rng(0))
    drawn = controller.sample(500, np.random.default_rng(1))
    assert all(space.contains(CHOICES, c) for c in drawn)
    assert {c.choices["depth"] for c in drawn} == {1, 2, 3}
    assert all(("second" in c.choices) == (c.choices["depth"] > 1) for c in drawn)
    rates = np.log10([float(c.choices["rate"]) for c in drawn])
    assert np.histogram(rates, 16, (-4, -1))[0].min() > 10
    assert len(set(rates)) > 400


@kinds
def test_a_choice_that_does_not_exist_is_neither_learned_nor_changes_what_follows(kind):
    choices = {
        "depth": space.Values(values=[1, 2]),
        "second": space.Values(values=["a", "b"], when={"depth": 2}),
        "last": space.Values(values=["x", "y"]),
    }
    controller = Controller(choices, kind, 0.05, 0.0, np.random.default_rng(0))
    for _ in range(200):
        controller.learn(Candidate({"depth": 1, "last": "x"}), 1.0)
    drawn = controller.sample(200, np.random.default_rng(1))
    assert np.mean([c == Candidate({"depth": 1, "last": "x"}) for c in drawn]) > 0.95
    assert controller._sequence(Candidate({"depth": 1, "last": "x"})) == ([0, 2], [0, 1], [0, 0])


@kinds
def test_sampling_and_learning_speak_of_the_same_probabilities(kind):
    import torch

    controller = Controller(
        LETTERS, kind, 0.1 if kind == "independent" else 0.01, 0.0, np.random.default_rng(3)
    )
    favourite = Candidate(dict(zip(LETTERS, "abcd", strict=True)))
    for _ in range(8):
        controller.learn(favourite, 1.0)
    at, before, taken = controller._sequence(favourite)
    logits = controller.network.along(torch.tensor(before), torch.tensor(at))
    wanted = float(torch.log_softmax(logits.detach(), 1)[range(4), taken].sum().exp())
    drawn = controller.sample(4000, np.random.default_rng(1))
    share = np.mean([c == favourite for c in drawn])
    assert 0.01 < wanted < 0.98
    assert share == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / 4000))


def test_the_entropy_bonus_keeps_the_policy_from_settling():
    def share(entropy):
        controller = Controller(LETTERS, "recurrent", 0.03, entropy, np.random.default_rng(0))
        for _ in range(100):
            controller.learn(Candidate(dict.fromkeys(LETTERS, "a")), 0.3)
        drawn = controller.sample(100, np.random.default_rng(1))
        return np.mean([c == Candidate(dict.fromkeys(LETTERS, "a")) for c in drawn])

    assert share(0.0) > 0.95
    assert share(1.0) < 0.8


def test_a_proposal_after_many_results_is_quick_once_the_controller_is_kept():
    setting, story = Reinforce(), Story(ladder=(Fidelity(1),))
    rng = np.random.default_rng(0)
    for _ in range(200):
        number = story.propose(space.sample(CHOICES, rng), {"parameters": float(rng.integers(1, 900))})
        story.finish(number, val_accuracy=float(rng.random()))
    context = story.context(ladder=story.ladder, objectives=(ACCURACY, PARAMETERS))
    setting.propose(context)
    began = time.process_time()
    for _ in range(5):
        assert setting.propose(context) is not None
    assert (time.process_time() - began) / 5 < 0.1
