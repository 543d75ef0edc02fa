"""Early stopping on measured tables: what it saves of the cost of full training, and what it loses.

For every table and seed the same random candidates are trained in full (FIFO) and with a stopper, by the
production engine with imaginary workers. Cost is what all trainings take together; lost is the share of
FIFO's hypervolume that is missing at the end, where the front of the cells that were trained in full is
chosen by validation and scored by test.

    python benchmarks/moasha_tables.py --tables FOLDER [--seeds 20] [--set keep=share] [--json OUT]

The setting was chosen on seeds from 1000 on: one decision, after a ninth of the training (or at the budget in
the table that is closest to it), where one of four trials goes on, and the front of the rung besides. Where
each budget is a training of its own (nb101) the higher one is then paid whole, on learning curves only the
additional epochs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import tabular
from tabular_study import Study, progress

from ziggurat import tables

UNLIMITED = 1e9
FIFO = "random"
SETTING = ("grace=0", "reduction_factor=4", "keep=either")
"""Of the stopper, named in advance."""
PARTS = (1 / 9, 1.0)
"""Rungs as parts of the full training, named in advance."""
MAIN = ("nb101_multifidelity", "nbnlp_wikitext2_curves")
"""Tables on which the setting was chosen, with other seeds."""
MOST = 200
"""Random candidates; the whole table if it has fewer."""
SOURCES = {
    "nb101": ("fidelities", "params"),
    "nb201_cifar10": ("accuracy", "nb201_latency_ms.npz:raspi4"),
    "nb201_curves": ("curves", "nb201_latency_ms.npz:raspi4"),
    "nbnlp": ("curves", "params"),
    "lcbench": ("curves", "time_s"),
    "taskset": ("curves", ""),
}
"""What a table is and what is minimised beside the error, if anything, by the beginning of its name."""
BESIDE = {"nb201_curves_cifar10": "nb201_cifar10"}
"""Tables that hold the test scores and training times of another."""


@dataclass(frozen=True)
class Outcome:
    """A search: units spent, share of the table's hypervolume at the end, trials in full."""

    units: float
    share: float
    full: int


@dataclass(frozen=True)
class Row:
    """A stopper on a table, over all seeds: shares saved of FIFO's cost and lost of its hypervolume."""

    table: str
    strategy: str
    saved: tuple[float, ...]
    lost: tuple[float, ...]
    full: float

    def words(self) -> str:
        """A line of a Markdown table."""
        figures = [tabular.quartiles(v) for v in (self.saved, self.lost)]
        spans = [f"{100 * q['median']:.1f} ({100 * q['q1']:.1f} to {100 * q['q3']:.1f})" for q in figures]
        return f"| {self.table} | {self.strategy} | {spans[0]} | {spans[1]} | {self.full:g} |"


def study_of(given: argparse.Namespace, name: str, strategy: str) -> Study:
    """The search of a table."""
    part, cost = next((s for start, s in SOURCES.items() if name.startswith(start)), ("curves", ""))
    files = {part: given.tables / f"{name}.npz"}
    if name in BESIDE:
        files["accuracy"] = given.tables / f"{BESIDE[name]}.npz"
    place = given.tables / (cost if ":" in cost else f"{name}.npz:{cost}")
    chosen = [f"search.stopper.{s}" for s in (*SETTING, *given.set)] if "asha" in strategy else []
    study = Study(
        files={n: str(f) for n, f in files.items()},
        cost=str(place) if cost else "",
        strategy=strategy,
        workers=4,
        budget=UNLIMITED,
        settings=tuple(chosen),
    )
    table = study.table()
    ladder = given.ladder or rungs_of(table)
    return replace(
        study, max_trials=min(MOST, len(table.rows)), ladder=() if strategy == FIFO else tuple(ladder)
    )


def rungs_of(table: tables.Table) -> list[int]:
    """The epochs in the table that are closest to the parts of the full training."""
    wanted = [part * table.top for part in PARTS]
    return sorted({min(table.scores, key=lambda epochs: abs(epochs - w)) for w in wanted})


def search(job: tuple[Study, int]) -> Outcome:
    """One search to its end."""
    study, seed = job
    history = tabular.drive(study, seed)
    steps = progress(study, history)
    # the price of a unit is one
    return Outcome(history.spent_usd, steps[-1][-1] if steps else 0.0, len(steps))


def compare(table: str, strategy: str, fifo: Sequence[Outcome], found: Sequence[Outcome]) -> Row:
    """A stopper against FIFO, seed by seed."""
    pairs = list(zip(fifo, found, strict=True))
    return Row(
        table,
        strategy,
        tuple(1.0 - b.units / a.units for a, b in pairs),
        tuple(1.0 - b.share / a.share for a, b in pairs),
        statistics.median(o.full for o in found),
    )


def measure(given: argparse.Namespace) -> list[Row]:
    """All tables with all stoppers."""
    names = [
        n for pattern in given.names for n in sorted(p.stem for p in given.tables.glob(f"{pattern}.npz"))
    ]
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    rows = []
    for name in names:
        studies = [study_of(given, name, s) for s in (FIFO, *given.strategies)]
        found = searches(list(product(studies, seeds)), given.jobs)
        each = [found[i : i + len(seeds)] for i in range(0, len(found), len(seeds))]
        for strategy, outcomes in zip(given.strategies, each[1:], strict=True):
            rows.append(compare(name, strategy, each[0], outcomes))
            print(rows[-1].words(), flush=True)
    return rows


def searches(work: Sequence[tuple[Study, int]], jobs: int) -> list[Outcome]:
    """All searches, some at a time."""
    if jobs == 1:
        return [search(job) for job in work]
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(search, work))


def plain(row: Row) -> dict[str, Any]:
    """A row as JSON."""
    return {
        "table": row.table,
        "strategy": row.strategy,
        "saved": tabular.quartiles(row.saved),
        "lost": tabular.quartiles(row.lost),
        "worst": round(max(row.lost), 4),
        "full": row.full,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the searches of the command line and print their table."""
    given = parser().parse_args(arguments)
    print("| table | stopper | % saved of the cost | % lost of the hypervolume | trained in full |")
    print("| --- | --- | --- | --- | --- |")
    rows = measure(given)
    if not rows:
        print(f"{given.tables} holds none of {', '.join(given.names)}; name the folder", file=sys.stderr)
        return 2
    if given.json:
        given.json.write_text(json.dumps([plain(r) for r in rows], indent=1), encoding="utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the .npz files")
    parser.add_argument(
        "--names", nargs="+", default=list(MAIN), help="tables without .npz, with * for any part of a name"
    )
    parser.add_argument(
        "--strategies",
        nargs="+",
        default=["asha-stopping", "asha-promotion"],
        choices=sorted(tabular.STRATEGIES),
    )
    parser.add_argument(
        "--ladder", type=int, nargs="+", help="epochs of the rungs instead of the usual parts"
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the ASHA stoppers"
    )
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time")
    parser.add_argument("--json", type=Path, help="file to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
