import numpy as np
import pytest

from ziggurat.strategies.acquisition import Acquisition, Market, State
from ziggurat.strategies.kernel import features


def market(size=40, learned=1, static=1, rungs=2, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, size=(size, 4))
    known = features(size, codes)
    return Market(
        known,
        rng.random((size, static)),
        np.array([10.0] * learned + [1.2] * static),
        np.ones(learned, dtype=bool),
        rungs,
    )


def state(offer, fresh=None, paused=(), running=(), rungs=None):
    size = len(offer.known)
    fresh = np.ones(size, dtype=bool) if fresh is None else fresh
    share = np.array([0.1, 1.0, 3.0])[: rungs or offer.rungs]
    return State(fresh, paused, running, np.tile(share, (size, 1)))


def losses(offer, learned=1):
    low = 1.0 + (offer.known.codes == 0).sum(axis=1)
    return np.stack([low + 0.1 * j for j in range(learned)], axis=1).astype(float)


@pytest.mark.parametrize(
    ("learned", "static", "rungs"),
    [(1, 1, 2), (1, 0, 1), (1, 0, 3), (1, 3, 2), (2, 1, 2), (4, 0, 2), (2, 2, 1)],
)
def test_offers_for_any_objectives_and_ladder(learned, static, rungs):
    offer = market(learned=learned, static=static, rungs=rungs)
    model = Acquisition(offer)
    table = losses(offer, learned)
    model.update([(i, 0, table[i] * 2) for i in range(12)])
    fresh = np.arange(40) >= 12
    paused = [(i, 0) for i in range(12)] if rungs > 1 else []
    found = model.offers(state(offer, fresh, paused), 4)
    assert len({o.row for o in found}) == 4
    for one in found:
        assert one.rung == (0 if fresh[one.row] else 1)


def test_a_candidate_that_is_neither_fresh_nor_paused_is_never_offered():
    offer = market()
    model = Acquisition(offer)
    fresh = np.zeros(40, dtype=bool)
    fresh[[3, 5]] = True
    found = model.offers(state(offer, fresh), 10)
    assert sorted(o.row for o in found) == [3, 5]


def test_nothing_left_gives_no_offer():
    offer = market()
    assert Acquisition(offer).offers(state(offer, np.zeros(40, dtype=bool)), 2) == []


def test_something_is_offered_even_where_nothing_promises_a_gain():
    offer = market()
    model = Acquisition(offer)
    model.update([(0, 1, [1e-9])])
    object.__setattr__(offer, "static", np.full((40, 1), 1.2))
    assert len(model.offers(state(offer), 3)) == 3


def test_the_better_of_two_paused_trials_is_promoted_first():
    offer = market(static=0)
    model = Acquisition(offer)
    table = losses(offer)
    model.update([(i, 0, table[i]) for i in range(20)])
    best, worst = int(np.argmin(table[:20])), int(np.argmax(table[:20]))
    found = model.offers(state(offer, np.zeros(40, dtype=bool), [(worst, 0), (best, 0)]), 2)
    assert [o.row for o in found] == [best, worst]


def test_the_same_results_give_the_same_offers():
    offer = market()
    table = losses(offer)
    found = []
    for _ in range(2):
        model = Acquisition(offer)
        model.update([(i, 0, table[i]) for i in range(16)])
        found.append(model.offers(state(offer, np.arange(40) >= 16, [(i, 0) for i in range(16)]), 3))
    assert found[0] == found[1]


def test_diverged_trainings_do_not_enter_the_front():
    offer = market()
    model = Acquisition(offer)
    model.update([(0, 1, [np.nan]), (1, 1, [np.inf]), (2, 1, [2.0])])
    assert model.volume() == pytest.approx(max(0.0, (10 - 2) * (1.2 - offer.static[2, 0])))
