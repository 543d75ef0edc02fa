"""The laboratory: the production engine on a made-up table, scored by hand."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tabular
from tabular_study import Scores, Study, losses, progress, reference

from tests import tabular as made
from ziggurat.domain import Failure, FailureKind, Fidelity, Job, JobKind
from ziggurat.events import SegmentFinished
from ziggurat.history import History
from ziggurat.segments import Segment

ROOT = Path(__file__).resolve().parents[2]


def study(folder: Path, strategy: str = "random", **changes) -> Study:
    files = made.schedules(folder)
    cost = files.pop("cost")
    return Study(files=files, cost=cost, strategy=strategy, workers=3, budget=12.0, **changes)


def test_the_same_seed_gives_the_same_search_and_another_seed_another(tmp_path):
    first, again, other = (tabular.drive(study(tmp_path), seed) for seed in (3, 3, 4))
    told = [[s.job.candidate.key for s in h.segments.values()] for h in (first, again, other)]
    assert told[0] == told[1]
    assert told[0] != told[2]
    assert [s.finished_utc for s in first.segments.values()] == [
        s.finished_utc for s in again.segments.values()
    ]


def test_the_budget_is_not_passed_and_nearly_used(tmp_path):
    history = tabular.drive(study(tmp_path), 0)
    assert 10.0 < history.spent_usd <= 12.0


def test_a_strategy_without_a_ladder_trains_in_full_at_once(tmp_path):
    trials = tabular.drive(study(tmp_path), 0).of_stage("search")
    assert {len(t.ladder) for t in trials} == {1}


def test_promotion_pays_the_higher_schedule_whole(tmp_path):
    history = tabular.drive(study(tmp_path, "asha-promotion"), 0)
    table = study(tmp_path).table()
    ends = [s for s in history.segments.values() if s.job.to_rung == 1 and s.end is not None]
    assert ends
    for segment in ends:
        row = table.rows[segment.job.candidate]
        assert segment.end.seconds == pytest.approx(table.seconds[20][row], abs=1e-5)


def test_the_front_is_chosen_by_validation_and_scored_by_test(tmp_path):
    given = study(tmp_path)
    history = tabular.drive(given, 1)
    steps = progress(given, history)
    assert [s[0] for s in steps] == sorted(s[0] for s in steps)
    assert all(ledger <= accrued for ledger, accrued, _ in steps)
    assert steps[-1][0] == pytest.approx(history.spent_usd, rel=1e-4)
    table = given.table()
    rows = [table.rows[s.job.candidate] for s in history.segments.values() if s.end and not s.end.failure]
    worst, dear = reference(given, table)
    validation, test = (losses(given, table, v) for v in (table.scores[20], table.test))
    front = [r for r in rows if not any((validation[o] <= validation[r]).all() and o != r for o in rows)]
    points = sorted(test[r].tolist() for r in front)
    volume, height = 0.0, worst
    for error, cost in sorted(points, key=lambda p: p[1]):
        if error < height and cost < dear:
            volume += (height - error) * (dear - cost)
            height = error
    # the same sum over all rows is the whole table's
    whole, height = 0.0, worst
    for error, cost in sorted(test.tolist(), key=lambda p: p[1]):
        if error < height and cost < dear:
            whole += (height - error) * (dear - cost)
            height = error
    assert steps[-1][2] == pytest.approx(volume / whole, rel=1e-6)


def told(folder: Path) -> tuple[Study, History]:
    """Two workers on four rows, errors .5 to .2 on validation at costs 1 to 4; each full training takes 10 s.

    Row 0 is trained in full from 0 to 10, row 1 for an epoch from 0 to 4, row 2 in full from 10 to 20, row 3
    from 4 to 12 until it diverges, and row 1 in full from 12 to 24. On test row 2 is worse than row 1.
    """
    validation, test = np.array([50.0, 60.0, 70.0, 80.0]), np.array([50.0, 60.0, 55.0, 80.0])
    scores = {"val_acc_1": validation - 5, "val_acc_10": validation, "test_acc_10": test}
    np.savez(folder / "hand.npz", **scores, train_time_10_s=np.full(4, 10.0))
    np.savez(folder / "cost.npz", price=np.array([1.0, 2.0, 2.0, 4.0]))
    files = {"accuracy": str(folder / "hand.npz")}
    given = Study(files, f"{folder / 'cost.npz'}:price", "random", 2, 12.0, reference_error=90.0)
    ladder = (Fidelity(1), Fidelity(10))
    segments = {}
    for row, rung, begun, ended in (
        (1, 0, 0, 4),
        (0, 1, 0, 10),
        (3, 1, 4, 12),
        (2, 1, 10, 20),
        (1, 1, 12, 24),
    ):
        key = f"{row}-{rung}"
        candidate = given.table().candidates[row]
        job = Job(key, JobKind.TRAIN, "search", row, candidate, ladder, rung - 1, rung)
        failure = Failure(FailureKind.DIVERGED, "told to") if row == 3 else None
        end = SegmentFinished(key, row, ended - begun, 0.0, failure=failure)
        segments[key] = Segment(job, begun, 0.0, 0.0, begun, "", ended, end)
    return given, History(segments=segments)


def test_the_score_of_a_search_by_hand(tmp_path):
    given, history = told(tmp_path)
    steps = progress(given, history)
    # spent when each full training ends: what has ended, and with the running part of the others
    assert [s[0] for s in steps] == pytest.approx([1.4, 3.2, 4.4])
    assert [s[1] for s in steps] == pytest.approx([1.0 + 0.4 + 0.6, 1.0 + 0.4 + 0.8 + 1.0 + 0.8, 4.4])
    # the reference is an error of .9 and the 90th percentile of the costs, 3.4; row 3 lies beyond it
    whole = 0.4 * 2.4 + 0.1 * 1.4
    first, second = 0.4 * 2.4, 0.4 * 2.4 + 0.05 * 1.4
    # row 1 costs as much as row 2 and is worse on validation: not on the front, though it tests better
    assert [s[2] for s in steps] == pytest.approx([first / whole, second / whole, second / whole])


def test_what_was_found_for_so_much_is_read_off_either_account():
    scores = Scores(((1.0, 2.0, 0.5), (3.0, 5.0, 0.7), (4.0, 6.0, 0.6)), (), 0.0, 3, 3)
    assert [scores.at(units) for units in (0.5, 1.0, 3.5, 9.0)] == [0.0, 0.5, 0.7, 0.6]
    assert [scores.at(units, accrued=True) for units in (1.0, 3.5, 5.0)] == [0.0, 0.5, 0.7]


def test_known_benchmarks_have_their_reference_errors_and_others_a_quantile(tmp_path):
    given = study(tmp_path)
    assert reference(given, given.table())[0] == pytest.approx(np.percentile(1 - given.table().test, 90))
    named = study(tmp_path, reference_error=12.0)
    assert reference(named, named.table())[0] == pytest.approx(0.12)
    folder = tmp_path / "nb201_cifar10"
    folder.mkdir()
    known = study(folder)
    assert reference(known, known.table())[0] == pytest.approx(0.20)


@pytest.mark.parametrize("strategy", ["random", "sobol", "evolution", "asha-stopping", "asha-promotion"])
def test_a_table_is_searched_by_every_kind_of_strategy(tmp_path, strategy):
    scores = tabular.search(study(tmp_path, strategy), 0)
    assert scores.full > 3
    assert 0.3 < scores.at(12.0) <= 1.01
    assert len(scores.decisions_s) >= scores.full


def test_a_diverged_row_is_a_failed_trial_and_the_search_goes_on(tmp_path):
    path = made.curves(tmp_path, diverged=5)
    given = Study(
        files={"curves": path}, cost=f"{path}:params", strategy="asha-promotion", workers=3, budget=50
    )
    trials = tabular.drive(given, 0).of_stage("search")
    failed = [t for t in trials if t.failure is not None]
    assert [t.candidate.choices["row"] for t in failed] == ["row_5"]
    assert failed[0].failure.kind is FailureKind.DIVERGED
    assert (len(trials), failed[0].rung) == (81, -1)
    assert sum(t.rung == t.top_rung for t in trials) > 5


def test_the_command_writes_its_numbers(tmp_path):
    files, out = made.schedules(tmp_path), tmp_path / "out.json"
    arguments = ["--space", files["architectures"], "--accuracy", files["accuracy"], "--cost", files["cost"]]
    more = ["--strategy", "random", "--workers", "2", "--budget", "10", "--seeds", "3", "--json", str(out)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/tabular.py"), *arguments, *more],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = json.loads(out.read_text())
    assert set(found["hypervolume"]) == {"5", "10"}
    assert set(found["hypervolume"]["10"]) == {"median", "q1", "q3"}
    assert found["decision_s"] > 0
    assert f"{found['hypervolume']['10']['median']:.4f}" in done.stdout


def test_the_command_says_in_one_line_what_does_not_fit(tmp_path):
    files = made.schedules(tmp_path)
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "benchmarks/tabular.py"),
            *(
                "--accuracy",
                files["accuracy"],
                "--cost",
                f"{files['accuracy']}:nothing",
                "--strategy",
                "random",
            ),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert "no column 'nothing'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
