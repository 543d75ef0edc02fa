"""Tables: what is recognised in archives, what a row costs, and what is said about files that do not fit."""

from pathlib import Path

import numpy as np
import pytest

from tests import tabular
from ziggurat import tables
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError


def schedules(folder: Path) -> tables.Table:
    files = tabular.schedules(folder)
    costs = (("board", files["cost"]),)
    return tables.load(Path(files["architectures"]), Path(files["accuracy"]), None, None, costs)


def test_codes_become_choices_and_every_row_a_candidate(tmp_path):
    table = schedules(tmp_path)
    assert list(table.choices) == ["edge_0", "edge_1", "edge_2", "edge_3"]
    first = Candidate(dict.fromkeys(table.choices, "none"))
    assert table.rows[first] == 0
    assert table.complete
    assert len(table.candidates) == 81


def test_scores_are_shares_and_the_mean_over_the_seeds_that_were_run(tmp_path):
    table = schedules(tmp_path)
    assert sorted(table.scores) == [4, 20]
    assert np.allclose(table.scores[20], tabular.FULL / 100)
    assert np.allclose(table.test, (tabular.FULL - 0.5) / 100)


def test_separate_schedules_are_paid_whole(tmp_path):
    table = schedules(tmp_path)
    assert not table.resumable
    assert table.segment_s(0, 4, 20) == pytest.approx(110.0)
    assert table.segment_s(0, 0, 4) == pytest.approx(22.0)
    assert table.unit_s == pytest.approx(np.mean(100.0 + 10.0 * tabular.SIZE))


def test_a_cost_column_and_known_sizes_are_static(tmp_path):
    table = schedules(tmp_path)
    assert table.known(table.candidates[80]) == {"parameters": 9e6, "board": 18.0}
    assert np.isnan(table.known(Candidate({"edge_0": "large"}))["board"])


def test_curves_go_on_where_they_ended(tmp_path):
    table = tables.load(None, None, Path(tabular.curves(tmp_path)), None, ())
    assert table.resumable
    assert table.metric == "val_loss"
    assert table.segment_s(3, 4, 10) == pytest.approx(6.0)
    assert list(table.choices) == ["row"]


def test_a_part_of_a_space_is_found_by_its_index(tmp_path):
    files = tabular.schedules(tmp_path)
    part = np.array([80, 3, 7])
    path = tmp_path / "part.npz"
    np.savez(path, arch_idx=part, val_acc=np.stack([tabular.FULL[part] - 5, tabular.FULL[part]], axis=1))
    costs = (("board", files["cost"]),)
    table = tables.load(Path(files["architectures"]), Path(files["accuracy"]), path, None, costs)
    assert table.static["board"].tolist() == (2.0 * tabular.SIZE[part]).tolist()
    assert len(table.candidates) == 3


def test_budgets_are_separate_trainings(tmp_path):
    path = tmp_path / "budgets.npz"
    scores = np.array([[50.0, 80.0], [60.0, 70.0]])
    np.savez(path, budgets=np.array([4, 12]), val_acc=scores, train_time_12_s=np.array([12.0, 24.0]))
    table = tables.load(None, None, None, path, ())
    assert table.segment_s(1, 4, 12) == pytest.approx(24.0)
    assert table.scores[4].tolist() == [0.5, 0.6]
    assert table.test.tolist() == [0.8, 0.7]


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ("nowhere.npz:board", ["nowhere.npz", "not a readable .npz archive"]),
        ("latency.npz:phone", ["has no column 'phone'", "board"]),
        ("latency.npz", ["write FILE.npz:COLUMN"]),
        ("short.npz:board", ["has 3 rows", "81"]),
    ],
)
def test_a_cost_that_does_not_fit_is_refused_in_one_line(tmp_path, cost, words):
    files = tabular.schedules(tmp_path)
    np.savez(tmp_path / "short.npz", board=np.arange(3.0))
    place = f"{tmp_path / cost.partition(':')[0]}{cost[cost.index(':') :]}" if ":" in cost else cost
    with pytest.raises(SpecError) as error:
        tables.load(None, Path(files["accuracy"]), None, None, (("board", place),))
    assert "\n" not in str(error.value)
    assert [w for w in words if w not in str(error.value)] == []


def test_an_archive_without_scores_is_refused(tmp_path):
    np.savez(tmp_path / "empty.npz", ops=tabular.CELLS)
    with pytest.raises(SpecError, match="holds no scores"):
        tables.load(None, tmp_path / "empty.npz", None, None, ())


def test_trainings_with_several_seeds_count_by_their_mean(tmp_path):
    path = tmp_path / "seeds.npz"
    np.savez(
        path,
        val_acc_9=np.array([[70.0, 80.0], [60.0, np.nan]]),
        train_time_9_s=np.array([[9.0, 27.0], [18.0, 18.0]]),
    )
    table = tables.load(None, path, None, None, ())
    assert table.scores[9].tolist() == [0.75, 0.6]
    assert table.seconds[9].tolist() == [18.0, 18.0]


def test_one_training_of_each_row_is_called_one_epoch_and_takes_its_seconds(tmp_path):
    path = tmp_path / "single.npz"
    np.savez(
        path, val_loss=np.array([2.0, 3.0]), test_loss=np.array([2.5, 3.5]), train_time_s=np.array([7.0, 8.0])
    )
    table = tables.load(None, path, None, None, ())
    assert (table.metric, table.top, table.resumable) == ("val_loss", 1, False)
    assert (table.test.tolist(), table.seconds[1].tolist()) == ([2.5, 3.5], [7.0, 8.0])


def test_the_test_score_is_that_of_the_last_epoch(tmp_path):
    path = tmp_path / "curves.npz"
    np.savez(
        path, val_loss=np.array([[3.0, 2.0]]), test_loss=np.array([[3.5, 2.5]]), time_s=np.array([[4.0, 9.0]])
    )
    table = tables.load(None, None, path, None, ())
    assert table.test.tolist() == [2.5]
    assert [table.segment_s(0, begun, 2) for begun in (0, 1)] == [9.0, 5.0]


def part(folder: Path) -> tables.Table:
    """Three of a space of four cells, the last one first, in which two pairs compute the same."""
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    np.savez(folder / "space.npz", ops=codes, iso_class=np.array([5, 9, 9, 5]))
    np.savez(folder / "whole.npz", params=np.array([1.0, 2.0, 3.0, 4.0]))
    np.savez(folder / "part.npz", arch_idx=np.array([3, 1, 2]), val_acc=np.array([[0.1], [0.2], [0.3]]))
    return tables.load(folder / "space.npz", folder / "whole.npz", folder / "part.npz", None, ())


def test_rows_of_a_part_are_the_cells_that_its_index_names(tmp_path):
    table = part(tmp_path)
    chosen = [tuple(c.choices.values()) for c in table.candidates]
    assert chosen == [("op1", "op1"), ("op0", "op1"), ("op1", "op0")]
    assert table.static["parameters"].tolist() == [4.0, 2.0, 3.0]


def test_of_cells_that_compute_the_same_the_first_by_its_codes_stands_for_all(tmp_path):
    table = part(tmp_path)
    last, first, middle = table.candidates
    assert table.twins == {last: last, middle: first, first: first}


def test_a_geometric_ladder_ends_at_the_top():
    assert tables.geometric(50, 3.0, 4) == [2, 6, 17, 50]
    assert tables.geometric(2, 3.0, 4) == [1, 2]
