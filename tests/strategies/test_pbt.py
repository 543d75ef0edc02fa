import math

import numpy as np
import pytest
from pydantic import ValidationError

from tests.support import ACCURACY, LADDER, Story
from ziggurat import choices as space
from ziggurat import spec as specs
from ziggurat.domain import (
    Candidate,
    Decision,
    FailureKind,
    Fidelity,
    Parent,
    Promotion,
    Proposal,
    Retirement,
    TrialStatus,
)
from ziggurat.errors import SpecError
from ziggurat.estimate import survivors
from ziggurat.strategies import Pbt
from ziggurat.strategies.pbt import explored, nudged

CHOICES = {
    "width": space.Range(min=4, max=64),
    "learning_rate": space.Range(min=1e-4, max=1e-1, log=True),
    "batch_size": space.Values(values=[16, 32, 64]),
    "weight_decay": space.Range(min=0.0, max=0.1),
}
HYPERPARAMETERS = frozenset(CHOICES) - {"width"}
PBT = Pbt(population=8)
RATE = space.Range(min=1e-4, max=1e-1, log=True)


def context(story, **changes):
    plain = {"choices": CHOICES, "objectives": (ACCURACY,), "hyperparameters": HYPERPARAMETERS, "trials": 40}
    return story.context(**{**plain, "ladder": story.ladder, **changes})


def ask(story, setting=PBT, **changes):
    return setting.propose_batch(context(story, **changes), 1)


def carry_out(story, answers):
    """Put answers into the history; numbers of the trials that now have a segment to do."""
    ready = []
    for answer in answers:
        if isinstance(answer, Retirement):
            story.verdict(answer.trial, "stop")
        elif isinstance(answer, Promotion):
            story.verdict(answer.trial, "continue")
            ready.append(answer.trial)
        else:
            ready.append(story.propose(answer))
    return ready


def reach(story, number, accuracy):
    """Train a trial to its next rung, where it pauses if that is not the top."""
    trial = story.finish(number, val_accuracy=accuracy)
    if trial.status is TrialStatus.UNDECIDED:
        story.verdict(number, PBT.decide(trial, context(story)).value)


def population(accuracies, ladder=LADDER):
    """A population that has reached the first rung with these results."""
    story = Story(ladder=ladder)
    for accuracy in accuracies:
        (number,) = carry_out(story, ask(story))
        reach(story, number, accuracy)
    return story


def run(setting, accuracy, ladder=LADDER, **changes):
    """A whole search with one worker, each result a function of the trial and its rung."""
    story = Story(ladder=ladder)
    for _ in range(500):
        answers = ask(story, setting, **changes)
        if not answers:
            return story
        for number in carry_out(story, answers):
            reach(story, number, accuracy(story.trial(number)))
    raise AssertionError("the search does not end")


def by_rate(trial):
    return 1 - abs(math.log10(float(trial.candidate.choices["learning_rate"])) + 2) / 4


def test_a_population_begins_with_different_random_candidates_and_no_more_than_its_places():
    story = population([0.5] * 8)
    assert len({t.candidate for t in story.history.trials.values()}) == 8
    assert all(isinstance(a, Promotion) for a in ask(story))


def test_a_trial_pauses_at_every_rung():
    story = population([0.5])
    assert PBT.decide(story.trial(0), context(story)) is Decision.PAUSE
    assert PBT.promote(context(story)) is None


def test_the_best_go_on_first_and_the_worst_quarter_is_replaced_by_copies_of_the_best():
    story = population([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    order = []
    for _ in range(6):
        (promotion,) = ask(story)
        order.append(promotion.trial)
        carry_out(story, [promotion])
    assert order == [7, 6, 5, 4, 3, 2]
    for loser in (1, 0):
        retirement, child = ask(story)
        assert retirement == Retirement(loser, f"place {8 - loser} of 8 at rung 0")
        assert child.parent in {Parent(7, 0), Parent(6, 0)}
        carry_out(story, [retirement, child])
    assert ask(story) == []


def test_a_copy_goes_on_from_the_rung_of_its_parent_with_its_checkpoint_and_no_results():
    story = population([0.1 * i for i in range(8)])
    for _ in range(6):
        carry_out(story, ask(story))
    reach(story, 7, 0.9)
    (number,) = carry_out(story, ask(story))
    child = story.trial(number)
    parent = child.parent
    assert (child.rung, child.results, child.status) == (0, {}, TrialStatus.WAITING)
    assert child.checkpoint == f"trials/{parent.trial:05d}/rung-0.ckpt"
    assert number not in {t.number for t in story.history.at_rung("search", 0)}
    job = story.start(number)
    assert (job.from_rung, job.to_rung) == (0, 1)


def test_a_copy_keeps_the_architecture_and_what_is_known_of_it():
    story = Story()
    for i in range(8):
        (proposal,) = ask(story)
        number = story.propose(proposal, {"parameters": 10.0 + i})
        reach(story, number, 0.1 * i)
    for _ in range(6):
        carry_out(story, ask(story))
    _, child = ask(story)
    parent = story.trial(child.parent.trial)
    assert child.candidate.choices["width"] == parent.candidate.choices["width"]
    assert [m.value for m in child.static] == [parent.value("parameters")]


def test_the_lowest_rung_is_served_first():
    story = population([0.1 * i for i in range(8)])
    carry_out(story, ask(story))
    reach(story, 7, 0.9)
    (promotion,) = ask(story)
    assert promotion.trial == 6


def test_fewer_than_four_at_a_rung_are_not_judged():
    story = population([0.1, 0.2, 0.3])
    answers = [Pbt(population=4).propose_batch(context(story, trials=3), 1)]
    assert isinstance(answers[0][0], Promotion)


def test_a_whole_search_trains_as_many_epochs_as_the_population_would_alone():
    story = run(PBT, by_rate)
    trained = [s.job for s in story.history.segments.values()]
    assert len(trained) == 8 * len(LADDER)
    assert all(len(story.history.at_rung("search", r)) == 8 for r in range(len(LADDER)))
    statuses = [t.status for t in story.history.trials.values()]
    assert statuses.count(TrialStatus.COMPLETED) == 8
    assert statuses.count(TrialStatus.STOPPED) == len(statuses) - 8 == 4


def test_it_ends_with_better_hyperparameters_than_it_began_with():
    story = run(Pbt(population=16), by_rate, ladder=tuple(Fidelity(e) for e in range(1, 8)), trials=200)
    trials = story.history.of_stage("search")
    begun = np.mean([by_rate(t) for t in trials if t.parent is None])
    ended = np.mean([by_rate(t) for t in trials if t.status is TrialStatus.COMPLETED])
    assert ended > begun + 0.1


def test_the_same_history_gives_the_same_answer():
    story = population([0.1 * i for i in range(8)])
    for _ in range(6):
        carry_out(story, ask(story))
    assert ask(story) == ask(story)


def test_when_all_trials_are_proposed_nobody_is_replaced_any_more():
    story = run(PBT, by_rate, trials=9)
    assert len(story.history.trials) == 9
    assert len(story.history.with_status("search", TrialStatus.COMPLETED)) == 8


@pytest.mark.parametrize("kind", [FailureKind.DIVERGED, FailureKind.LOST])
def test_a_trial_that_fails_on_its_way_leaves_its_place_to_a_copy(kind):
    story = population([0.1 * i for i in range(8)])
    carry_out(story, ask(story))
    story.fail(7, kind)
    (child,) = ask(story)
    assert child.parent == Parent(6, 0)
    carry_out(story, [child])
    assert isinstance(ask(story)[0], Promotion)


def test_a_copy_that_fails_leaves_its_place_to_another():
    story = population([0.1 * i for i in range(8)])
    for _ in range(6):
        carry_out(story, ask(story))
    (number,) = carry_out(story, ask(story))
    story.fail(number)
    (child,) = ask(story)
    assert child.parent is not None


def test_a_trial_that_fails_before_the_first_rung_is_replaced_by_a_random_candidate():
    story = Story()
    story.fail(story.propose(ask(story)[0]))
    for i in range(8):
        (proposal,) = ask(story)
        assert isinstance(proposal, Proposal)
        assert proposal.parent is None
        reach(story, story.propose(proposal), 0.1 * i)
    assert isinstance(ask(story)[0], Promotion)


def test_unknown_results_are_never_copied():
    story = population([math.nan] * 7 + [0.3])
    for _ in range(6):
        carry_out(story, ask(story))
    _, child = ask(story)
    assert child.parent == Parent(7, 0)


def test_nobody_is_replaced_where_nobody_can_be_copied():
    story = population([math.nan] * 8)
    for _ in range(8):
        (promotion,) = ask(story)
        assert isinstance(promotion, Promotion)
        carry_out(story, [promotion])


def test_equal_results_do_no_harm():
    story = run(PBT, lambda _: 0.5)
    assert len(story.history.with_status("search", TrialStatus.COMPLETED)) == 8


@pytest.mark.parametrize("value", [1e-3, 2e-4, 1e-1])
def test_a_number_is_multiplied_by_a_factor_within_its_bounds(value):
    assert nudged(RATE, value, 1.2) == pytest.approx(min(value * 1.2, 1e-1), rel=1e-9)
    assert nudged(RATE, value, 0.8) == pytest.approx(max(value * 0.8, 1e-4), rel=1e-9)


def test_a_listed_value_moves_to_its_neighbour_and_one_without_order_stays():
    sizes = space.Values(values=[16, 32, 64])
    assert [nudged(sizes, 32, f) for f in (0.8, 1.2)] == [16, 64]
    assert [nudged(sizes, v, f) for v, f in ((16, 0.8), (64, 1.2))] == [16, 64]
    assert nudged(space.Values(values=["b", "a"]), "b", 1.2) == "b"


def test_a_factor_that_is_less_than_a_step_moves_by_one_step():
    few = space.Range(min=1, max=4)
    assert [nudged(few, 2, f) for f in (0.8, 1.2)] == [1, 3]
    assert [nudged(few, v, f) for v, f in ((1, 0.8), (4, 1.2))] == [1, 4]


def test_exploring_changes_hyperparameters_only_and_stays_in_the_space():
    story = Story()
    candidate = Candidate({"width": 8, "learning_rate": 1e-3, "batch_size": 32, "weight_decay": 0.01})
    rng = np.random.default_rng(0)
    drawn = [explored(context(story, rng=rng), candidate, (0.8, 1.2), 0.0) for _ in range(50)]
    assert all(space.contains(CHOICES, c) for c in drawn)
    assert {c.choices["width"] for c in drawn} == {8}
    assert {round(c.choices["learning_rate"], 7) for c in drawn} == {8e-4, 1.2e-3}
    assert {c.choices["batch_size"] for c in drawn} == {16, 64}
    again = [explored(context(story, rng=rng), candidate, (0.8, 1.2), 1.0) for _ in range(50)]
    assert len({c.choices["learning_rate"] for c in again}) == 50


def test_a_hyperparameter_that_switches_others_stays():
    choices = {
        "learning_rate": RATE,
        "ema": space.Values(values=[0, 1]),
        "ema_decay": space.Range(min=0.5, max=0.99, when={"ema": 1}),
    }
    story = Story()
    found = [
        explored(
            context(story, choices=choices, hyperparameters=frozenset(choices), rng=np.random.default_rng(i)),
            Candidate({"learning_rate": 1e-3, "ema": 1, "ema_decay": 0.9}),
            (0.8, 1.2),
            0.5,
        )
        for i in range(20)
    ]
    assert all(c.choices["ema"] == 1 for c in found)
    assert len({c.choices["ema_decay"] for c in found}) > 5


@pytest.mark.parametrize("factors", [(1.2, 0.8), (0.0, 1.2), (0.8, 0.9)])
def test_factors_must_go_both_ways(factors):
    with pytest.raises(ValidationError, match="one below 1 and one above 1"):
        Pbt(factors=factors)


SPEC = {
    "schema_version": 1,
    "name": "pbt",
    "space": {"kind": "mlp"},
    "objectives": [{"metric": "val_accuracy", "reference": 0.1}],
    "fidelities": [{"epochs": 1}, {"epochs": 2}],
    "search": {"strategy": {"kind": "pbt"}, "trials": 40},
}


def test_a_search_that_it_can_serve_is_accepted():
    assert specs.parse(SPEC, "spec").search.strategy == Pbt()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fidelities": [{"epochs": 2}]}, "decides between rungs, but fidelities has only one"),
        ({"space": {"kind": "mlp", "hyperparameters": {}}}, "the space has none to change"),
        ({"search": {"strategy": {"kind": "pbt"}, "trials": 11}}, "at least its population of 12, not 11"),
    ],
)
def test_a_search_that_it_cannot_serve_is_refused_in_one_line(changes, words):
    with pytest.raises(SpecError, match=words) as refused:
        specs.parse({**SPEC, **changes}, "spec")
    assert "\n" not in str(refused.value)
    assert "search.strategy 'pbt'" in str(refused.value)


def test_a_trainer_that_cannot_inherit_is_refused():
    reason = Pbt().unfit(rungs=3, trials=40, hyperparameters=2, inherits=False)
    assert "this trainer cannot" in reason


def test_a_space_need_only_have_as_many_candidates_as_places():
    few = {"learning_rate": [1e-3, 1e-2], "weight_decay": [0.0, 0.1], "batch_size": [16, 32, 64]}
    fixed = {"kind": "mlp", "depth": 1, "width": 16, "dropout": 0.0, "activation": "relu", "norm": "none"}
    accepted = specs.parse({**SPEC, "space": {**fixed, "hyperparameters": few}}, "spec")
    assert accepted.search.trials == 40
    with pytest.raises(SpecError, match=r"search\.strategy\.population is 12, but .* only 6 candidates"):
        specs.parse({**SPEC, "space": {**fixed, "hyperparameters": {**few, "weight_decay": [0.0]}}}, "spec")


def test_the_estimate_counts_places_and_not_trials():
    counts = survivors(specs.parse(SPEC, "spec"))
    assert counts == [12.0, 12.0]
