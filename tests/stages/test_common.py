"""Proposals of a stage that were journalled in part are completed, not repeated."""

from types import SimpleNamespace

from tests.support import CHOICES, LADDER
from ziggurat import choices
from ziggurat.events import Event
from ziggurat.history import History
from ziggurat.stages import common


class Journalled:
    """A run in memory: it folds what is recorded."""

    def __init__(self):
        self.history = History()

    def record(self, bodies):
        for body in list(bodies):
            self.history.apply(Event(self.history.length, 0.0, "run", body))


def rows(run, count):
    import numpy as np

    rng = np.random.default_rng(0)
    drawn = [choices.sample(CHOICES, rng) for _ in range(count)]
    return [
        common.proposed(run.history, "retrain", i, c, offset=i, seed=i, ladder=LADDER)
        for i, c in enumerate(drawn)
    ]


def test_proposals_cut_off_by_a_kill_are_completed_under_the_same_numbers():
    whole, cut = Journalled(), Journalled()
    common.propose(SimpleNamespace(run=whole), rows(whole, 4))
    cut.record(rows(cut, 4)[:1])
    common.propose(SimpleNamespace(run=cut), rows(cut, 4))
    assert [(t.number, t.index, t.candidate) for t in cut.history.of_stage("retrain")] == [
        (t.number, t.index, t.candidate) for t in whole.history.of_stage("retrain")
    ]


def test_complete_proposals_are_left_alone():
    run = Journalled()
    for _ in range(2):
        common.propose(SimpleNamespace(run=run), rows(run, 3))
    assert sorted(run.history.trials) == [0, 1, 2]
