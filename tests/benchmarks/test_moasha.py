"""What the study of early stopping counts, compares and refuses, and one small search of it."""

import json
from pathlib import Path

import moasha
import moasha_results as results
import pytest

from tests.support import ACCURACY, PARAMETERS, Story
from ziggurat import spec as specs
from ziggurat.domain import Candidate, Fidelity, Measurement
from ziggurat.errors import SpecError
from ziggurat.events import Measured

GOALS = (ACCURACY, PARAMETERS)  # references 0.2 and 1000


def told() -> Story:
    """Four trials on rungs of 1 and 4 epochs: two at the top, one stopped, one that diverged on its way."""
    story = Story(ladder=(Fidelity(1), Fidelity(4)))
    for width, parameters in enumerate((500, 800, 200, 900)):
        story.propose(Candidate({"width": width}), {"parameters": parameters})
    story.finish(0, val_accuracy=0.5)
    story.finish(1, val_accuracy=0.6)
    story.finish(2, val_accuracy=0.3)
    story.finish(3, val_accuracy=0.9)
    story.finish(1, val_accuracy=0.7)
    story.verdict(2, "stop")
    story.add(Measured("3-1", 3, 0, 2, (Measurement("val_accuracy", 0.8, step=2),)))
    story.fail(3)
    story.finish(0, val_accuracy=0.6)
    return story


def judged(story: Story) -> results.Result:
    return results.judge(story.history, GOALS, "stopping", seed=7, wall_s=4.0, workers=2)


def given(*arguments: str):
    return moasha.parser().parse_args(arguments)


def planned(strategy: str, objectives: int = 3, *arguments: str) -> specs.Spec:
    """The spec of one search of the study."""
    section = moasha.strategy_of(strategy)[1]
    sets = moasha.spec_of(section, objectives, 7, given(*arguments))
    return specs.read(moasha.EXAMPLE, sets)[0]


def test_a_search_is_counted_as_by_hand():
    found = judged(told())
    # seven segments of a second each, on two workers for four seconds
    assert (found.busy_s, found.idle) == (7, 0.125)
    # four times one epoch, twice three more, and the one that the diverged segment reported
    assert (found.epochs, found.trials, found.top, found.failed, found.front) == (11, 4, 2, 1, 2)
    # 0.6 at 500 and 0.7 at 800: 0.4 x 500 and 0.1 x 200 more
    assert found.hypervolume == pytest.approx(220)
    # stopped ones too: 0.3 at 200 adds 0.1 x 300, the diverged 0.9 at 900 adds 0.2 x 100
    assert found.ended == pytest.approx(220 + 30 + 20)
    assert found.best == 0.7


def test_curve_rises_when_a_trial_comes_to_the_top():
    found = judged(told())
    assert found.curve == [(7, pytest.approx(100)), (11, pytest.approx(220))]
    assert results.staircase(found, scaled=False) == ([0, 7, 11, 11], pytest.approx([0, 100, 220, 220]))


def test_search_without_a_trial_at_the_top_is_worth_nothing():
    story = Story(ladder=(Fidelity(1), Fidelity(4)))
    story.propose(Candidate({"width": 1}), {"parameters": 500})
    found = judged(story)
    assert (found.hypervolume, found.front, found.best, found.curve) == (0, 0, 0, [])
    assert results.plot([found])[:4] == b"\x89PNG"


def result(strategy: str, seed: int, volume: float, **more) -> results.Result:
    plain = {
        "wall_s": 100.0,
        "busy_s": 150.0,
        "idle": 0.25,
        "epochs": 200,
        "trials": 25,
        "top": 25,
        "failed": 0,
        "front": 5,
    }
    plain |= {"objectives": 2, "ended": volume, "best": 0.9, "curve": [(8, volume)]}
    return results.Result(strategy, seed=seed, hypervolume=volume, **(plain | more))


def test_volumes_are_compared_with_the_same_seed_and_medians_are_shown():
    runs = [result("fifo", 0, 4.0), result("fifo", 1, 10.0), result("fifo", 2, 20.0)]
    runs += [result("stopping", s, v, wall_s=50.0, epochs=80) for s, v in ((0, 3.0), (1, 9.0), (2, 19.0))]
    results.compare(runs)
    assert [r.relative for r in runs] == [1, 1, 1, 0.75, 0.9, 0.95]
    assert {r.fifo_then for r in runs} == {1}, "its one trial had come to the top after 8 epochs"
    row = results.table(runs)[-1]
    assert row.startswith("| 2 | stopping | 50.0 s (-50%) | 25% | 80 (-60%) | 25 of 25 | 5 | 0.90 |")


def test_search_is_held_against_fifo_after_as_many_epochs():
    fifo = result("fifo", 0, 10.0, curve=[(8, 4.0), (16, 9.0), (200, 10.0)])
    runs = [fifo, *(result("stopping", 0, 9.5, epochs=epochs) for epochs in (7, 16, 100))]
    results.compare(runs)
    assert [r.fifo_then for r in runs] == [1, 0, 0.9, 0.9]


def test_without_fifo_nothing_is_relative():
    runs = [result("stopping", 0, 3.0)]
    results.compare(runs)
    assert runs[0].relative is None
    assert results.table(runs)[-1] == "| 2 | stopping | 100.0 s | 25% | 200 | 25 of 25 | 5 | - | - | 90.0% |"
    assert results.plot(runs)[:4] == b"\x89PNG"


@pytest.mark.parametrize("objectives", [2, 3])
def test_random_strategies_differ_in_nothing_but_the_stopper_and_rungs(objectives):
    fifo, *others = (planned(name, objectives).plain() for name in ("fifo", "stopping", "promotion"))
    assert len(fifo["objectives"]) == objectives
    assert [f["epochs"] for f in fifo["fidelities"]] == [8], "what stops nothing needs no rungs"
    for plain in others:
        assert [f["epochs"] for f in plain["fidelities"]] == [1, 2, 4, 8]
        plain["fidelities"] = fifo["fidelities"]
        plain["search"]["stopper"] = fifo["search"]["stopper"]
        assert plain == fifo


def test_every_named_strategy_makes_a_valid_spec():
    for name in moasha.STRATEGIES:
        spec = planned(name, 2, "--trials", "9", "--examples", "500")
        assert (spec.seed, spec.search.trials, spec.data.limit, spec.search.workers) == (7, 9, 500, 2)


def test_strategy_can_be_written_out():
    spec = planned("slow={searcher: {kind: sobol}, stopper: {kind: asha, reduction_factor: 4}}")
    assert (spec.search.searcher.kind, spec.search.stopper.reduction_factor) == ("sobol", 4)


@pytest.mark.parametrize("text", ["hyperband", "mine=3"])
def test_strategy_that_is_none_is_refused_in_one_line(text):
    with pytest.raises(SpecError, match=rf"^--strategies {text}: [^\n]+$"):
        moasha.strategy_of(text)


def test_missing_dataset_is_told_before_anything_is_started(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path / "nowhere"))
    assert moasha.main(["--strategies", "fifo", "--keep", str(tmp_path / "runs")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "set FASHION_MNIST" in told
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_small_study_writes_table_numbers_and_plot(fashion_mnist: Path, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST", str(fashion_mnist))
    files = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.png")]
    size = ["--trials", "3", "--examples", "400", "--objectives", "2", "--keep", str(tmp_path)]
    alone = "fifo={searcher: {kind: random}, stopper: {kind: never}, workers: 1}"
    assert moasha.main(["--strategies", alone, *size, *files]) == 0
    assert "| 2 | fifo |" in capsys.readouterr().out
    (run,) = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert (run["trials"], run["top"], run["objectives"]) == (3, 3, 2)
    assert run["epochs"] == 3 * 8
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list(tmp_path.glob("moasha-*/journal.jsonl"))) == 1
