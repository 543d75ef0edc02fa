"""Runs side by side: one yardstick, equal cost, seeds together, and a page that opens without a network."""

import json
from pathlib import Path

import pytest
import yaml

from flows import cli
from tests.support import Story
from ziggurat import spec as specs
from ziggurat.domain import Candidate, Fidelity, Measurement, RunStatus
from ziggurat.errors import SpecError
from ziggurat.events import RunFinished, RunStarted, SegmentFinished, SegmentStarted, to_line
from ziggurat.report import compare_page
from ziggurat.report.compare import Looked, Spread, compare

GOOD = [(100, 0.6), (60, 0.7), (300, 0.9), (200, 0.92)]
POOR = [(100, 0.5), (80, 0.55), (300, 0.6), (400, 0.65)]


def spec_of(**changes):
    plain = {
        "name": "digits",
        "space": {"kind": "mlp"},
        "objectives": [
            {"metric": "val_accuracy", "reference": 0.2},
            {"metric": "parameters", "reference": 1000},
        ],
        "fidelities": [{"epochs": 9}],
        "search": {"searcher": {"kind": "random"}, "stopper": {"kind": "never"}, "trials": 10},
    }
    return specs.parse({**plain, **changes}, "spec")


def run(run_id, rows, usd=0.5, **changes):
    """A run whose trials have a size and an accuracy each, one after the other."""
    told = Story(ladder=(Fidelity(9),))
    told.history.run_id = run_id
    for width, accuracy in rows:
        number = told.propose(Candidate({"depth": width}), {"parameters": float(width)})
        job = told.start(number)
        told.add(SegmentStarted(job.key, number, "h"))
        found = (Measurement("val_accuracy", accuracy, step=9),)
        told.add(SegmentFinished(job.key, number, 10.0, usd, measurements=found))
    told.add(RunFinished(RunStatus.COMPLETED))
    told.history.run_id = run_id
    return Looked(f"runs/{run_id}", spec_of(**changes), told.history)


SOBOL = {"search": {"searcher": {"kind": "sobol"}, "stopper": {"kind": "never"}, "trials": 10}}


def test_better_run_leads_at_equal_cost_and_is_told_first():
    found = compare([run("poor", POOR), run("good", GOOD, **SOBOL)])
    assert found.leader.label == "sobol"
    assert [g.label for g in found.groups] == ["sobol", "random"]
    assert found.equal_cost == 2.0
    first = compare_page.sentences(found)[0]
    assert first.startswith(
        "For the same $2.00, which is what the cheapest run cost, sobol is ahead: hypervolume "
    )
    assert "92.0 % validation accuracy" in first


def test_dear_run_is_compared_at_the_cost_of_the_cheap_one():
    cheap, dear = run("cheap", GOOD[:2]), run("dear", [*POOR, *GOOD], **SOBOL)
    found = compare([cheap, dear])
    assert found.equal_cost == 1.0
    assert found.leader.label == "random"
    assert found.groups[0].label == "sobol"
    assert found.groups[0].volume.median < found.groups[1].volume.median
    assert "Sobol found most in the end, whatever it cost" in compare_page.sentences(found)[1]


def test_runs_that_differ_in_seed_and_name_are_one_group_with_median_and_range():
    looked = [run(f"r{i}", rows, seed=i, name=f"n{i}") for i, rows in enumerate([GOOD, POOR, GOOD[:3]])]
    found = compare([*looked, run("other", POOR, **SOBOL)])
    group = next(g for g in found.groups if g.label == "random")
    assert len(group.entries) == 3
    spread = group.spread(lambda e: e.best)
    assert (spread.low, spread.median, spread.high) == (0.65, 0.9, 0.92)
    assert found.names == ("n0", "n1", "n2", "digits")
    assert "may be luck" in compare_page.sentences(found)[-1]


def test_groups_of_one_strategy_are_told_apart_by_what_differs():
    wide = {"kind": "mlp", "depth": {"min": 1, "max": 9}}
    found = compare([run("a", GOOD), run("b", POOR, space=wide)])
    assert {g.label for g in found.groups} == {"random (max 3)", "random (max 9)"}
    assert ("space.depth.max", ("3", "9")) in found.differences
    assert not any(key in {"seed", "name"} for key, _ in found.differences)


def test_other_references_are_measured_by_the_loosest_and_that_is_said():
    strict = [{"metric": "val_accuracy", "reference": 0.55}, {"metric": "parameters", "reference": 250}]
    found = compare([run("a", GOOD), run("b", GOOD, objectives=strict)])
    assert [o.reference for o in found.objectives] == [0.2, 1000]
    assert found.entries[0].volume == found.entries[1].volume
    assert sum("loosest" in note for note in found.notes) == 2


def test_other_limits_are_measured_by_the_tightest_and_that_is_said():
    tight = [
        {"metric": "val_accuracy", "reference": 0.2},
        {"metric": "parameters", "reference": 1000, "limit": 150},
    ]
    found = compare([run("a", GOOD), run("b", GOOD, objectives=tight)])
    assert all(e.best == 0.7 for e in found.entries)
    assert any("tightest, 150" in note for note in found.notes)


def test_runs_without_a_price_are_compared_by_worker_time():
    found = compare([run("a", GOOD, usd=0.0), run("b", POOR, **SOBOL)])
    assert not found.priced
    assert found.equal_cost == 40
    assert "40 s of worker time" in compare_page.sentences(found)[0]
    assert any("worker time" in note for note in found.notes)


def test_run_without_any_answer_stands_beside_the_others():
    found = compare([run("a", GOOD), run("b", [], **SOBOL)])
    assert found.leader.label == "random"
    assert "sobol" in compare_page.render(found, utc=0.0, version="1")
    nothing = compare([run("a", []), run("b", [], **SOBOL)])
    assert nothing.leader is None
    assert compare_page.sentences(nothing)[0].startswith("No run has an answer yet")
    compare_page.render(nothing, utc=0.0, version="1")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"objectives": [{"metric": "val_accuracy", "reference": 0.2}]},
            "compare runs of the same objectives",
        ),
        (
            {"data": {"kind": "digits", "limit": 300}},
            r"searches other data than runs/a \(limit is 300, not –\)",
        ),
    ],
)
def test_runs_of_other_objectives_or_data_are_refused_in_one_line(changes, told):
    with pytest.raises(SpecError, match=told) as caught:
        compare([run("a", GOOD), run("b", GOOD, **changes)])
    assert "\n" not in str(caught.value)


def test_one_run_and_one_given_twice_are_refused():
    with pytest.raises(SpecError, match="needs two runs or more"):
        compare([run("a", GOOD)])
    with pytest.raises(SpecError, match="given twice"):
        compare([run("a", GOOD), run("a", GOOD)])


def test_page_is_one_file_without_addresses_and_escapes_what_users_wrote():
    spiteful = run("<script>alert(1)</script>", GOOD, **SOBOL)
    page = compare_page.render(
        compare([run("a", GOOD), spiteful, run("c", POOR, seed=3)]), utc=0.0, version="1"
    )
    assert "<script>alert(1)" not in page
    assert "default-src 'none'" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert len(page.encode()) < 3e6


def test_charts_have_a_line_for_each_group_and_mark_the_knee():
    rows = [(500, 0.3), (400, 0.6), (300, 0.8), *[(300, 0.8 + 0.001 * i) for i in range(20)]]
    found = compare([run("a", rows), run("b", POOR, **SOBOL)])
    sections = compare_page.sections(found)
    charts = {b.id: b.chart for s in sections for b in s.blocks if b.kind == "figure"}
    assert set(charts) == {"best", "volume", "front-0"}
    lines = [t for t in charts["volume"]["data"] if t["mode"] == "lines"]
    assert [t["name"] for t in lines] == ["random", "sobol"]
    knees = [t for t in charts["volume"]["data"] if t["mode"] == "markers"]
    assert "Knee of random" in knees[0]["hovertemplate"]
    assert knees[0]["x"] == [1.5]
    front = charts["front-0"]["data"]
    assert any(t.get("name") == "Reference point" for t in front)
    json.dumps(charts, allow_nan=False)


def test_plain_data_hold_groups_runs_and_differences():
    data = compare_page.plain(compare([run("a", GOOD), run("b", POOR, **SOBOL)]))
    json.dumps(data, allow_nan=False)
    assert data["leader"] == "random"
    assert data["cost_unit"] == "usd"
    assert data["groups"][0]["runs"][0]["run_id"] == "a"
    assert data["groups"][0]["runs"][0]["cost_per_point"] == pytest.approx(2.0 / 72)
    assert data["differences"]["search.searcher.kind"] == ["random", "sobol"]


def test_median_leaves_out_what_is_no_number():
    assert Spread.of([1.0, float("nan"), 3.0]) == Spread(2.0, 1.0, 3.0)
    assert Spread.of([]).median != Spread.of([]).median


def stored(folder: Path, name: str, rows, **changes) -> Path:
    """A run directory as a controller leaves it."""
    looked = run(name, rows, **changes)
    told = Story(ladder=(Fidelity(9),))
    place = folder / name
    place.mkdir()
    (place / "spec.yaml").write_text(yaml.safe_dump(looked.spec.plain()))
    told.add(RunStarted("digits", "1", "0"))
    for width, accuracy in rows:
        number = told.propose(Candidate({"depth": width}), {"parameters": float(width)})
        job = told.start(number)
        found = (Measurement("val_accuracy", accuracy, step=9),)
        told.add(SegmentFinished(job.key, number, 10.0, 0.5, measurements=found))
    lines = [to_line(e).replace('"run_id":"test"', f'"run_id":"{name}"') for e in told.events]
    (place / "journal.jsonl").write_text("\n".join(lines) + "\n")
    return place


def command(*argv):
    return cli.guarded(lambda: cli.app(list(argv), prog_name="ziggurat", standalone_mode=False))


def test_command_compares_run_directories(tmp_path, capsys):
    first, second = stored(tmp_path, "a", GOOD), stored(tmp_path, "b", POOR, **SOBOL)
    out = tmp_path / "side"
    assert command("report", "--compare", str(first), str(second), "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert "random is ahead" in said
    assert str(out / "index.html") in said
    assert {p.name for p in out.iterdir()} == {"index.html", "compare.json"}
    assert command("report", "--compare", str(first), str(second), "--out", str(out), "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["leader"] == "random"
    assert data["report"] == str(out / "index.html")


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["report", "a", "b"], "2 runs are given; name one, or add --compare"),
        (["report", "--compare", "a"], "needs two runs or more"),
        (["report", "--compare", "a", "missing"], "missing: no run directory"),
        (["report", "--compare", "a", "b", "--out", "a/spec.yaml"], "cannot be written"),
        (["report", "--compare", "a", "a"], "given twice"),
        (["report", "--compare"], "report"),
        (["report", "--compare", "a", "s3://"], "s3"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, capsys, monkeypatch, argv, told):
    monkeypatch.chdir(tmp_path)
    stored(tmp_path, "a", GOOD)
    stored(tmp_path, "b", POOR, **SOBOL)
    assert command(*argv) == cli.Exit.BAD_INPUT
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert "Traceback" not in said
