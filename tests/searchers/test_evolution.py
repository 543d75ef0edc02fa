"""Ageing evolution: who is alive, who becomes a parent, and what a child is."""

import numpy as np
import pytest

from tests.support import ACCURACY, PARAMETERS, Story, search
from ziggurat import choices as space
from ziggurat import pareto
from ziggurat.domain import Candidate, Goal, Objective
from ziggurat.searchers import Evolution, RandomSearch

NAMES = ("north", "east", "south", "west", "up", "down")
LETTERS = {name: space.Values(values=list("abcde")) for name in NAMES}


def pure(letter: str) -> Candidate:
    """A candidate of one letter; two of them differ in all six choices, so a child tells its parents."""
    return Candidate(dict.fromkeys(NAMES, letter))


def told(*results: tuple[float, float]) -> Story:
    """A story of the candidates a, b, c ... with an accuracy and a size each."""
    story = Story()
    for letter, (accuracy, size) in zip("abcde", results, strict=False):
        story.finish(story.propose(pure(letter), {"parameters": size}), val_accuracy=accuracy)
    return story


def children(setting: Evolution, story: Story, count: int = 40, **changes) -> list[Candidate]:
    """What would be proposed under different random numbers."""
    contexts = [story.context(choices=LETTERS, rng=np.random.default_rng(i), **changes) for i in range(count)]
    return [setting.propose(context).candidate for context in contexts]


def parents(setting: Evolution, story: Story, **changes) -> set[str]:
    """Letters that make up five of a child's six choices."""
    found = set()
    for child in children(setting, story, **changes):
        letters = list(child.choices.values())
        main = max(letters, key=letters.count)
        assert letters.count(main) == 5
        found.add(main)
    return found


def test_the_first_trials_are_those_of_random_search():
    ours = search(Evolution(population=7), 8, lambda _: {"val_accuracy": 0.5})
    theirs = search(RandomSearch(), 8, lambda _: {"val_accuracy": 0.5})
    notes = [t.note for t in ours.history.trials.values()]
    assert notes[:7] == ["random"] * 7
    assert notes[7] in {"mutation", "crossover"}
    first = [[t.candidate for t in s.history.trials.values()][:7] for s in (ours, theirs)]
    assert first[0] == first[1]


def test_the_best_dies_of_age():
    story = told((0.9, 10.0), (0.3, 30.0), (0.4, 20.0), (0.5, 10.0))
    assert parents(Evolution(population=4, sample=4, crossover=0), story) == {"a"}
    assert parents(Evolution(population=3, sample=3, crossover=0), story) == {"d"}


def test_a_tournament_is_won_by_a_front_and_never_by_what_it_dominates():
    story = told((0.9, 50.0), (0.8, 60.0), (0.7, 40.0), (0.6, 45.0))
    assert parents(Evolution(population=4, sample=3, crossover=0), story) == {"a", "c"}


def test_a_tournament_of_one_is_a_draw_among_the_living():
    story = told((0.9, 10.0), (0.3, 30.0), (0.4, 20.0))
    assert parents(Evolution(population=3, sample=1, crossover=0), story) == {"a", "b", "c"}


def test_one_objective_is_plain_order():
    story = told((0.3, 10.0), (0.5, 99.0), (0.4, 20.0))
    greedy = Evolution(population=3, sample=3, crossover=0)
    assert parents(greedy, story, objectives=(ACCURACY,)) == {"b"}
    assert parents(greedy, story, objectives=(PARAMETERS,)) == {"a"}


def test_what_lies_beyond_a_reference_or_limit_loses():
    limited = Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=50.0)
    story = told((0.9, 60.0), (0.3, 50.0), (0.1, 1.0))
    greedy = Evolution(population=3, sample=3, crossover=0)
    assert parents(greedy, story, objectives=(ACCURACY, limited)) == {"b"}
    assert "b" not in parents(greedy, story, objectives=(ACCURACY, PARAMETERS))


def test_a_failed_trial_is_no_parent_and_makes_room_for_a_random_one():
    story = told((0.9, 10.0), (0.3, 30.0), (0.4, 20.0))
    story.fail(0)
    proposal = Evolution(population=3, sample=3).propose(story.context(choices=LETTERS))
    assert proposal is not None
    assert proposal.origin == "random"
    story.start(story.propose(pure("d")))
    assert parents(Evolution(population=3, sample=3, crossover=0), story) <= {"b", "c"}


def test_a_child_of_two_parents_has_choices_of_both():
    story = told((0.9, 30.0), (0.8, 20.0))
    mixed = children(Evolution(population=2, sample=1, crossover=1), story)
    of_both = [c for c in mixed if {"a", "b"} <= set(c.choices.values())]
    assert len(of_both) > len(mixed) / 3
    assert all(sum(letter in "cde" for letter in c.choices.values()) <= 1 for c in mixed)


def test_a_child_that_is_known_mutates_further():
    tiny = {"north": space.Values(values=list("abc")), "east": space.Values(values=list("abc"))}
    story = Story()
    near = [("a", "a"), ("b", "a"), ("c", "a"), ("a", "b"), ("a", "c")]
    for i, (north, east) in enumerate(near):
        number = story.propose(Candidate({"north": north, "east": east}), {"parameters": 1.0 + i})
        story.finish(number, val_accuracy=0.9 - 0.1 * i)
    found = Evolution(population=5, sample=5, crossover=0).propose(story.context(choices=tiny))
    assert found is not None
    assert found.origin == "mutation"
    assert "a" not in found.candidate.choices.values()


def toy(candidate: Candidate) -> dict[str, float]:
    """Three choices are for accuracy, two for size, and one trades them: the front is a line of five."""
    north, east, south, west, _, _ = levels(candidate)
    return {"val_accuracy": 0.1 + 0.05 * (north + east + south + west)}


def sizes(candidates: list[Candidate]) -> list[dict[str, float]]:
    return [
        {"parameters": 100.0 + 50 * (2 * west + up + down)} for *_, west, up, down in map(levels, candidates)
    ]


def levels(candidate: Candidate) -> list[int]:
    return [ord(str(candidate.choices[name])) - 97 for name in NAMES]


def volume(searcher, seed: int, objectives) -> float:
    rng = np.random.default_rng(seed)
    changes = {"choices": LETTERS, "static": sizes, "objectives": objectives, "rng": rng}
    story = search(searcher, 80, toy, **changes)
    losses = np.array([t.losses(objectives) for t in story.history.trials.values()])
    return pareto.hypervolume(losses, [o.loss(o.reference) for o in objectives])


@pytest.mark.parametrize("objectives", [(ACCURACY, PARAMETERS), (ACCURACY,)], ids=["two", "one"])
def test_evolution_beats_random_search_at_equal_budget(objectives):
    ours = [volume(Evolution(), seed, objectives) for seed in range(1000, 1005)]
    theirs = [volume(RandomSearch(), seed, objectives) for seed in range(1000, 1005)]
    assert np.quantile(ours, 0.25) > np.quantile(theirs, 0.75)
