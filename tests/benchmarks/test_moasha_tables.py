"""Early stopping on a made-up table against full training."""

import json
from pathlib import Path

import moasha_tables
import pytest

from tests import tabular as made

ASHA = ["asha-stopping", "asha-promotion"]


def run(folder: Path, *arguments: str) -> list[dict]:
    Path(made.curves(folder)).rename(folder / "nbnlp_made.npz")
    out = folder / "out.json"
    words = ["--tables", str(folder), "--names", "nbnlp*", "--seeds", "2", "--first-seed", "1000"]
    assert moasha_tables.main([*words, "--json", str(out), *arguments]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_full_training_saves_and_loses_nothing_against_itself(tmp_path):
    (row,) = run(tmp_path, "--strategies", "random")
    assert row["saved"]["median"] == row["lost"]["median"] == row["worst"] == 0.0
    assert row["full"] == len(made.CELLS)


def test_a_stopper_saves_what_it_does_not_train_and_prints_it(tmp_path, capsys):
    rows = run(tmp_path)
    printed = capsys.readouterr().out
    assert [r["strategy"] for r in rows] == ASHA
    for row in rows:
        # all 81 cells take one epoch of ten, and those in full the other nine
        assert row["saved"]["median"] == pytest.approx(0.9 - 0.9 * row["full"] / 81, abs=1e-4)
        assert row["lost"]["median"] < 0.05
        assert 9 <= row["full"] < 81
        assert f"| nbnlp_made | {row['strategy']} | {100 * row['saved']['median']:.1f} (" in printed


def test_settings_and_ladder_can_be_others(tmp_path):
    (kept,) = run(tmp_path, "--strategies", "asha-promotion", "--set", "reduction_factor=20", "keep=share")
    assert 4 <= kept["full"] < 8


def test_a_folder_without_tables_is_said_in_one_line(tmp_path, capsys):
    assert moasha_tables.main(["--tables", str(tmp_path)]) == 2
    assert "nb101_multifidelity" in capsys.readouterr().err


@pytest.mark.parametrize(("top", "rungs"), [(50, [6, 50]), (108, [12, 108])])
def test_the_rungs_are_a_ninth_and_the_whole(top, rungs):
    class Table:
        scores = dict.fromkeys([4, 12, 36, 108] if top == 108 else range(1, 51))

    Table.top = top
    assert moasha_tables.rungs_of(Table) == rungs
