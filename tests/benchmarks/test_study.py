"""The cost-accuracy study and the check of narrower spaces, on a small measured table."""

import json

import narrowing
import pytest
import study

from tests import tabular


@pytest.fixture
def small(tmp_path, monkeypatch):
    files = tabular.schedules(tmp_path)
    cost = files.pop("cost").rpartition("/")[2]
    sources = {"small": ({"architectures": "space", "accuracy": "scores"}, cost)}
    assert set(files) == set(sources["small"][0])
    monkeypatch.setattr(study, "SOURCES", sources)
    monkeypatch.setattr(narrowing, "SOURCES", sources)
    return tmp_path


def test_study_tells_accuracy_and_knee_of_each_strategy(small, capsys):
    out, plot = small / "out.json", small / "out.png"
    argv = [
        "--tables",
        str(small),
        "--seeds",
        "2",
        "--budget",
        "25",
        "--strategies",
        "random",
        "asha-promotion",
    ]
    assert study.main([*argv, "--json", str(out), "--plot", str(plot)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4
    found = json.loads(out.read_text())["small"]
    assert [f["strategy"] for f in found] == ["random", "asha-promotion"]
    for one in found:
        assert 60 < one["accuracy"] < 100
        # the incumbent is chosen by validation, so its test accuracy may fall
        assert one["curve"]["units"] == sorted(one["curve"]["units"])
        assert one["curve"]["units"][-1] == 25
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_narrower_space_is_held_against_the_whole_table(small, capsys):
    out = small / "out.json"
    assert narrowing.main(["--tables", str(small), "--seeds", "2", "--trials", "40", "--json", str(out)]) == 0
    assert capsys.readouterr().out.count("\n") == 4
    for row in json.loads(out.read_text()):
        assert row["of"] == 2
        assert all(0 < r["kept"] <= 1 and 0 < r["volume"] <= 1 for r in row["each"])


def test_whole_space_holds_everything(small):
    found = narrowing.one(narrowing.study_of(small, "small", "random", 10), 0)
    assert (found.kept, found.volume, found.front, found.best) == (1.0, 1.0, 1.0, True)
    assert 0.5 < found.then <= 1.01
    assert found.then == found.otherwise
