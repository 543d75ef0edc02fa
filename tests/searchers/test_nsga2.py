"""NSGA-II: who survives, who wins a tournament, and what pymoo's operators make of a candidate."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ACCURACY, CHOICES, PARAMETERS, Story, search
from ziggurat import choices as space
from ziggurat import pareto
from ziggurat.domain import Candidate
from ziggurat.searchers import Nsga2, RandomSearch, nsga2

LETTERS = {name: space.Values(values=list("abcde")) for name in ("north", "east", "south", "west")}
PLANE = {
    "x": space.Range(min=0.0, max=1.0),
    "y": space.Range(min=0.0, max=1.0),
    "steps": space.Range(min=1, max=8),
    "kind": space.Values(values=["a", "b", "c", "d"]),
}


def survivors(losses, size: int, excess=None):
    rows = np.asarray(losses, dtype=float)
    beyond = np.zeros(len(rows)) if excess is None else np.asarray(excess, dtype=float)
    return nsga2.survival(rows, beyond, size)


def test_whole_fronts_survive_and_the_last_one_is_cut_where_it_is_crowded():
    front = [[0, 4], [1, 3], [1.1, 2.9], [4, 0]]
    behind = [[5, 5]]
    kept, rank, crowding = survivors(front + behind, 3)
    assert set(kept) == {0, 3, 2}  # the second lies nearest to its neighbours
    assert list(rank) == [0, 0, 0]
    assert list(crowding[:2]) == [math.inf] * 2
    kept, rank, _ = survivors(behind + front, 5)
    assert list(rank) == [0, 0, 0, 0, 1]
    assert kept[-1] == 0


def test_what_lies_beyond_the_bounds_survives_last_the_nearest_first():
    kept, rank, _ = survivors([[0, 0], [1, 1], [2, 2], [3, 3]], 3, excess=[0.5, 0.1, 0.0, 0.0])
    assert list(kept) == [2, 3, 1]
    assert list(rank) == [0, 1, 2]


def test_a_single_individual_survives():
    kept, rank, crowding = survivors([[1.0, 2.0]], 20)
    assert (list(kept), list(rank), len(crowding)) == ([0], [0], 1)
    assert nsga2.tournament(rank, crowding, np.random.default_rng(0)) == 0


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 4), st.integers(1, 40))
def test_survivors_are_those_of_pymoo(seed, count, objectives, size):
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem
    from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

    losses = np.random.default_rng(seed).random((count, objectives))
    theirs = RankAndCrowding().do(
        Problem(n_var=1, n_obj=objectives),
        Population.new(X=np.arange(count)[:, None], F=losses),
        n_survive=size,
        random_state=np.random.default_rng(0),
    )
    kept, rank, crowding = survivors(losses, size)
    ours = dict(zip(kept.tolist(), rank.tolist(), strict=True))
    expected = {int(p.X[0]): int(p.get("rank")) for p in theirs}
    assert sorted(ours.values()) == sorted(expected.values())
    whole = {i for i, r in expected.items() if r < max(expected.values())}
    assert whole == {i for i, r in ours.items() if r < max(expected.values())}
    # extremes of the front that is cut are equally good, so only what lies between them is the same
    assert finite(crowding) == finite(theirs.get("crowding"))


def finite(crowding) -> list[float]:
    return sorted(float(c) for c in crowding if 0 < c < math.inf)


def test_a_tournament_goes_by_rank_and_then_by_crowding():
    rank, crowding = np.array([1, 0, 0]), np.array([math.inf, 0.5, 2.0])
    winners = [nsga2.tournament(rank, crowding, np.random.default_rng(i)) for i in range(60)]
    assert 0 not in winners
    assert winners.count(2) > winners.count(1) > 0


def test_the_first_trials_are_those_of_random_search():
    ours = search(Nsga2(population=7), 8, lambda _: {"val_accuracy": 0.5})
    theirs = search(RandomSearch(), 8, lambda _: {"val_accuracy": 0.5})
    notes = [t.note for t in ours.history.trials.values()]
    assert notes == ["random"] * 7 + ["nsga2"]
    first = [[t.candidate for t in s.history.trials.values()][:7] for s in (ours, theirs)]
    assert first[0] == first[1]


def told(*results: tuple[str, float, float]) -> Story:
    """A story of candidates of one letter, with an accuracy and a size each."""
    story = Story()
    for letter, accuracy, size in results:
        number = story.propose(Candidate(dict.fromkeys(LETTERS, letter)), {"parameters": size})
        story.finish(number, val_accuracy=accuracy)
    return story


def children(setting: Nsga2, story: Story, count: int = 60, choices=LETTERS) -> list[Candidate]:
    """What would be proposed under different random numbers."""
    contexts = [story.context(choices=choices, rng=np.random.default_rng(i)) for i in range(count)]
    return [setting.propose(context).candidate for context in contexts]


def test_children_mix_the_survivors_and_nobody_else():
    story = told(("a", 0.9, 50.0), ("b", 0.8, 40.0), ("c", 0.7, 60.0), ("d", 0.6, 45.0))
    letters = [set(c.choices.values()) for c in children(Nsga2(population=2, mutations=0.001), story)]
    assert all(found <= {"a", "b"} for found in letters)
    assert sum(found == {"a", "b"} for found in letters) > 40


def test_as_many_choices_mutate_as_told_on_average():
    story = told(("a", 0.9, 50.0), ("b", 0.8, 60.0))
    only_a = Nsga2(population=2, crossover=0, mutations=2)
    point = space.to_unit(LETTERS, story.trial(0).candidate)
    rng = np.random.default_rng(0)
    changed = [
        np.sum(nsga2._mutate(LETTERS, point, only_a.mutations, 20.0, rng) != point) for _ in range(500)
    ]
    assert np.mean(changed) == pytest.approx(2.0, abs=0.15)


def test_choices_with_steps_reach_the_next_step():
    choices = {"steps": space.Values(values=[1, 2, 3, 4])}
    rng = np.random.default_rng(0)
    moved = [
        choices["steps"].at(float(nsga2._mutate(choices, np.array([0.375]), 1, 20.0, rng)[0]))
        for _ in range(99)
    ]
    assert len(set(moved)) == 4
    assert moved.count(2) < 60


def test_continuous_choices_mutate_nearby_and_cross_between_and_around_their_parents():
    choices = {"x": space.Range(min=0.0, max=1.0)}
    rng = np.random.default_rng(0)
    moved = [nsga2._mutate(choices, np.array([0.5]), 1, 20.0, rng)[0] for _ in range(200)]
    assert 0.01 < np.std(moved) < 0.1
    crossed = [nsga2._cross(choices, np.array([0.4]), np.array([0.6]), 15.0, rng)[0] for _ in range(200)]
    assert 0.3 < min(crossed) < 0.4
    assert 0.6 < max(crossed) < 0.7
    assert np.mean(crossed) == pytest.approx(0.45, abs=0.06)


def test_a_choice_that_a_child_gains_is_drawn():
    small = Candidate({"width": 8, "rate": 0.01, "depth": 1, "activation": "relu"})
    points = [nsga2._point(CHOICES, small, np.random.default_rng(i))[-1] for i in range(20)]
    assert len(set(points)) == 20


def test_global_generators_are_neither_read_nor_moved():
    story = told(("a", 0.9, 50.0), ("b", 0.8, 40.0), ("c", 0.7, 30.0))
    setting = Nsga2(population=3)
    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist()
        found.append(setting.propose(story.context(choices=LETTERS)))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert found[0] == found[1]


def toy(candidate: Candidate) -> dict[str, float]:
    """Accuracy grows with the size along x, and needs the right y, number of steps and kind."""
    x, y, steps, kind = (candidate.choices[name] for name in ("x", "y", "steps", "kind"))
    off = abs(y - 0.8) + 0.1 * abs(steps - 6) + 0.2 * (kind != "c")
    return {"val_accuracy": 0.9 - 0.5 * math.exp(-3 * x) - 0.5 * off}


def sizes(candidates: list[Candidate]) -> list[dict[str, float]]:
    return [{"parameters": 100.0 + 900.0 * float(c.choices["x"]) ** 2} for c in candidates]


def volume(searcher, seed: int, objectives) -> float:
    rng = np.random.default_rng(seed)
    changes = {"choices": PLANE, "static": sizes, "objectives": objectives, "rng": rng}
    story = search(searcher, 80, toy, **changes)
    losses = np.array([t.losses(objectives) for t in story.history.trials.values()])
    return pareto.hypervolume(losses, [o.loss(o.reference) for o in objectives])


@pytest.mark.parametrize("objectives", [(ACCURACY, PARAMETERS), (ACCURACY,)], ids=["two", "one"])
def test_nsga2_beats_random_search_at_equal_budget(objectives):
    ours = [volume(Nsga2(), seed, objectives) for seed in range(1000, 1005)]
    theirs = [volume(RandomSearch(), seed, objectives) for seed in range(1000, 1005)]
    assert np.quantile(ours, 0.25) > np.quantile(theirs, 0.75)
