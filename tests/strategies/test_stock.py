"""The stock of `frontier`: what may start, what is modelled how, and what stays when a part is drawn anew."""

import numpy as np
import pytest

from tests.support import ACCURACY, CHOICES, PARAMETERS, Story
from ziggurat import choices as space
from ziggurat.choices import sample
from ziggurat.domain import Candidate, Goal, Objective
from ziggurat.strategies.stock import RENEWED, Stock, losses_of

SMALL = {"width": space.Range(min=1, max=4), "kind": space.Values(values=["a", "b"])}
LIMITED = Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=30.0)


def stock(size: int = 64, **changes) -> Stock:
    return Stock.of(Story().context(**{"choices": SMALL, **changes}), size)


def test_what_is_beyond_a_limit_may_not_start():
    found = stock(objectives=(ACCURACY, LIMITED))
    widths = [c.choices["width"] for c in found.candidates]
    assert found.allowed.tolist() == [width <= 3 for width in widths]
    assert sorted(widths) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_the_tighter_of_reference_and_limit_bounds_what_can_be_gained():
    loose = Objective("parameters", Goal.MINIMIZE, reference=20.0, limit=30.0)
    strict = Objective("val_accuracy", Goal.MAXIMIZE, reference=0.2, limit=0.6)
    weak = Objective("val_accuracy", Goal.MAXIMIZE, reference=0.5, limit=0.3)
    assert stock(objectives=(ACCURACY, LIMITED)).market.reference.tolist() == [0.8, 30.0]
    assert stock(objectives=(strict, loose)).market.reference.tolist() == pytest.approx([0.4, 20.0])
    assert stock(objectives=(weak, loose)).market.reference.tolist() == pytest.approx([0.5, 20.0])


def test_a_share_is_modelled_by_what_lacks_and_a_reward_as_it_is():
    reward = Objective("reward", Goal.MAXIMIZE, reference=0.5)
    loss = Objective("val_loss", Goal.MINIMIZE, reference=2.0)
    share, made, loses = stock(objectives=(ACCURACY, reward, loss)).learned
    assert (share.loss(0.75), share.log) == (0.25, True)
    # a derived reward may exceed 1, so nothing positive is left of it
    assert (made.loss(1.25), made.log) == (-1.25, False)
    assert (loses.loss(0.5), loses.log) == (0.5, True)


def test_what_could_not_be_looked_at_may_start_only_if_nothing_could():
    def some(candidates):
        return [{} if c.choices["kind"] == "b" else {"parameters": 9.0} for c in candidates]

    found = stock(static=some)
    assert found.allowed.tolist() == [c.choices["kind"] == "a" for c in found.candidates]
    story = Story()
    story.propose(found.candidates[0], {"parameters": 9.0})
    blind = Stock.of(story.context(choices=SMALL, static=lambda cs: [{} for _ in cs]), 64)
    assert blind.allowed.all()


def test_a_space_that_lists_its_candidates_is_in_stock_as_a_whole():
    listing = [Candidate({"width": w, "kind": "a"}) for w in (4, 2, 1)]
    assert stock(size=2, listing=listing).candidates == tuple(listing)


def test_twins_look_the_same_to_the_model():
    first, second = Candidate({"width": 1, "kind": "a"}), Candidate({"width": 4, "kind": "b"})
    static = [{"parameters": 9.0}]
    apart, same = (
        stock(listing=[first, second], twins=twins, static=lambda cs: static * len(cs)).market.known
        for twins in ({}, {second: first})
    )
    assert not np.array_equal(apart.codes[0], apart.codes[1])
    assert np.array_equal(same.codes[0], same.codes[1])
    assert np.array_equal(same.smooth[0], same.smooth[1])


def test_a_pool_keeps_what_was_tried_and_draws_a_part_anew():
    story = Story()
    rng = np.random.default_rng(0)
    tried = [sample(CHOICES, rng) for _ in range(5)]
    first = Stock.of(story.context(), 40)
    for candidate in tried:
        story.propose(candidate)
    second, moved = first.restocked(story.context(), 40)
    assert second.open
    assert set(tried) <= set(second.candidates)
    assert len(second.candidates) <= 5 + 40 + 40 // RENEWED
    assert len(set(second.candidates) - set(first.candidates) - set(tried)) > 0
    assert [second.candidates[new] for new in moved if new >= 0] == [
        c for c, new in zip(first.candidates, moved, strict=True) if new >= 0
    ]
    for later in range(1, 4):
        # another trial, another draw; the pool does not grow with every decision
        story.propose(sample(CHOICES, rng))
        second, _ = second.restocked(story.context(), 40)
        assert len(second.candidates) <= 5 + later + 40


def test_losses_of_a_trial_are_those_that_are_modelled():
    story = Story()
    trial = story.finish(story.propose(sample(CHOICES, np.random.default_rng(1))), val_accuracy=0.7)
    assert losses_of(trial, stock(objectives=(ACCURACY, PARAMETERS)).learned, 0) == pytest.approx([0.3])
