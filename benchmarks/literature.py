"""NAS-Bench-201's own search experiment, replayed: published strategies against published numbers.

Search on CIFAR-10 with the validation accuracy after the 12-epoch schedule, 12,000 seconds of simulated
training one after the other; the cell with the best score is reported by its test accuracy after 200 epochs.
Published (Dong and Yang 2020, arXiv 2001.00326, table 5): random search 93.70 +- 0.36, regularised evolution
93.92 +- 0.30, REINFORCE 93.85 +- 0.37. A second table pays for full training inside the same 12,000 seconds.

    python benchmarks/literature.py --space nb201_space.npz --accuracy nb201_cifar10.npz --seeds 40 --json OUT
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import tabular
from tabular_study import Study

from ziggurat.history import History

BUDGET_S = 12_000.0
SCORE, FULL = 12, 200
EVOLUTION = ("search.searcher.population=10", "search.searcher.sample=3", "search.searcher.crossover=0")
PUBLISHED = {"random": "93.70 +- 0.36", "evolution": "93.92 +- 0.30", "reinforce": "93.85 +- 0.37"}
ROWS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("random", ()),
    ("evolution", EVOLUTION),
    ("reinforce", ()),
    ("frontier", ()),
)
PAID = ("asha-promotion", "frontier")


@dataclass(frozen=True)
class Replay:
    """One search: a strategy, its ladder and its seed."""

    space: str
    accuracy: str
    strategy: str
    settings: tuple[str, ...]
    ladder: tuple[int, ...]
    seed: int


def chosen(replay: Replay) -> float:
    """Test accuracy in per cent, after 200 epochs, of the cell that a search would hand over."""
    study = Study(
        files={"architectures": replay.space, "accuracy": replay.accuracy},
        cost="",
        strategy=replay.strategy,
        workers=1,
        budget=BUDGET_S,
        ladder=replay.ladder,
        settings=(*replay.settings, "launcher.usd_per_hour=3600"),
    )
    history = tabular.drive(study, replay.seed)
    table = study.table()
    return 100.0 * float(table.test[table.rows[_best(history).candidate]])


def _best(history: History):  # noqa: ANN202 - a trial
    """The trial with the best score at the highest rung that any has reached."""
    trials = [t for t in history.of_stage("search") if t.results]
    rung = max(t.rung for t in trials)
    return max((t for t in trials if t.rung == rung), key=lambda t: t.value("val_accuracy", rung))


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay the experiment and print its two tables."""
    options = parser().parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    files = (str(Path(options.space).resolve()), str(Path(options.accuracy).resolve()))
    result: dict[str, dict[str, object]] = {}
    work = [(name, name, settings, (SCORE,)) for name, settings in ROWS if name in options.strategies]
    work += [(f"{n}, full training paid", n, (), (SCORE, FULL)) for n in PAID if n in options.strategies]
    print(f"test accuracy after {BUDGET_S:g} s of training, {options.seeds} seeds from {options.first_seed}")
    with ProcessPoolExecutor(max_workers=options.jobs) as pool:
        for label, strategy, settings, ladder in work:
            replays = [Replay(*files, strategy, settings, ladder, seed) for seed in seeds]
            found = list(pool.map(chosen, replays))
            mean, spread = statistics.mean(found), statistics.pstdev(found)
            result[label] = {"mean": round(mean, 3), "sd": round(spread, 3), "each": found}
            print(f"{label:38} {mean:.2f} +- {spread:.2f}   {PUBLISHED.get(label, '')}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", required=True, help="nb201_space.npz")
    parser.add_argument("--accuracy", required=True, help="nb201_cifar10.npz")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    names = [name for name, _ in ROWS] + ["asha-promotion"]
    parser.add_argument("--strategies", nargs="+", default=names, choices=names)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="searches at a time")
    parser.add_argument("--json", help="file to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
