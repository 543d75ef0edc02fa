"""The trainer that replays a table: what a segment takes, and when it has diverged."""

from pathlib import Path

import numpy as np
import pytest

from ziggurat import tables
from ziggurat.domain import FailureKind, Fidelity, Job, JobKind
from ziggurat.trainers import TableTrainer

LADDER = (Fidelity(1), Fidelity(2), Fidelity(3))


@pytest.fixture
def table(tmp_path: Path) -> tables.Table:
    """Curves of three rows: one is whole, one diverges at the end, of one the time is not known."""
    loss = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, np.nan], [3.0, 2.0, 1.0]])
    time = np.array([[10.0, 25.0, 45.0], [10.0, 25.0, 45.0], [np.nan, np.nan, np.nan]])
    np.savez(tmp_path / "curves.npz", val_loss=loss, time_s=time)
    return tables.load(None, None, tmp_path / "curves.npz", None, ())


def replayed(table, row: int, low: int, high: int):
    candidate = table.candidates[row]
    job = Job("j", JobKind.TRAIN, "search", candidate=candidate, ladder=LADDER, from_rung=low, to_rung=high)
    return TableTrainer().replay(table, job)


def test_a_training_that_goes_on_takes_what_its_further_epochs_take(table):
    seconds = [replayed(table, 0, low, high).seconds for low, high in ((-1, 0), (0, 1), (1, 2), (-1, 2))]
    assert seconds == [10.0, 15.0, 20.0, 45.0]


def test_a_diverged_training_is_paid_all_the_same(table):
    found = replayed(table, 1, 1, 2)
    assert found.failure is not None
    assert (found.failure.kind, found.seconds, found.measurements) == (FailureKind.DIVERGED, 20.0, ())


def test_a_training_of_unknown_length_has_failed(table):
    found = replayed(table, 2, -1, 0)
    assert found.failure is not None
    assert found.seconds == 0.0
