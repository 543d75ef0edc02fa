"""The Sobol searcher: one fixed sequence, whatever happens meanwhile."""

import numpy as np
from scipy.stats import qmc

from tests.support import CHOICES, Story, search
from ziggurat import choices as space
from ziggurat.searchers import Sobol
from ziggurat.searchers.sobol import _points


def test_a_longer_sequence_begins_with_a_shorter_one():
    assert (_points(5, 3, 512)[:64] == _points(5, 3, 64)).all()


def test_proposals_are_the_points_of_the_sequence_in_turn():
    points = qmc.Sobol(len(CHOICES), scramble=True, rng=np.random.default_rng(7)).random(64)
    trials = search(Sobol(scramble_seed=7), 12, lambda _: {"val_accuracy": 0.5}).history.trials.values()
    expected = [space.from_unit(CHOICES, p) for p in points[:12]]
    assert [t.candidate for t in trials] == expected
    assert {t.note for t in trials} == {"sobol"}


def test_results_do_not_change_what_is_proposed():
    good = search(Sobol(), 6, lambda _: {"val_accuracy": 0.9})
    failed = search(Sobol(), 6, lambda _: {"val_accuracy": float("nan")})
    assert [t.candidate for t in good.history.trials.values()] == [
        t.candidate for t in failed.history.trials.values()
    ]


def test_a_known_point_is_replaced_by_a_random_one():
    choices = {"a": space.Values(values=[1, 2])}
    story = search(Sobol(), 2, lambda _: {"val_accuracy": 0.5}, choices=choices)
    assert {t.candidate.choices["a"] for t in story.history.trials.values()} == {1, 2}


def test_another_scramble_seed_gives_other_points():
    story = Story()
    assert Sobol().propose(story.context()) != Sobol(scramble_seed=1).propose(story.context())
