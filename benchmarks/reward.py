"""Searches of a measured table for one derived objective, a scaled reward: what is found for the money.

A search is scored by the cell with the best derived value on validation among those trained in full so far:
its value as a share of the best in the table, its test accuracy and its cost. A unit is the mean cost of one
full training.

    python benchmarks/reward.py --space FILE.npz --accuracy FILE.npz --cost FILE.npz:COLUMN --target 5
        --strategies random evolution frontier --seeds 10
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import tabular
from tabular_study import FloatArray, Study

from ziggurat.derived import Scaled
from ziggurat.history import History
from ziggurat.objectives import goal_of
from ziggurat.tables import Table

LEVELS = (10, 25, 50)


def studies(options: argparse.Namespace, strategy: str) -> Study:
    """The study of one strategy: the objectives of the laboratory replaced by the reward."""
    files = {"architectures": options.space, "accuracy": options.accuracy}
    column = options.cost.rpartition(":")[2]
    made = f"metric: val_accuracy, cost: {column}, target: {options.target}, exponent: {options.exponent}"
    made += f", within: {options.within}" if options.within is not None else ""
    return Study(
        files={n: str(Path(f).resolve()) for n, f in files.items() if f},
        cost=str(Path(options.cost).resolve()),
        strategy=strategy,
        workers=4,
        budget=float(LEVELS[-1]),
        settings=(
            f"derived={{reward: {{kind: scaled, {made}}}}}",
            f"objectives=[{{metric: reward, reference: {options.reference}}}]",
        ),
    )


def rewards(study: Study, table: Table, options: argparse.Namespace) -> FloatArray:
    """The reward of every row, by validation."""
    shape = {"target": options.target, "exponent": options.exponent, "within": options.within}
    made = Scaled(metric=table.metric, cost=study.column, **shape)
    pairs = zip(table.scores[table.top], table.static[study.column], strict=True)
    return np.array([made.value(score, cost, goal_of(table.metric)) for score, cost in pairs])


def found(history: History, table: Table, units: float) -> list[int]:
    """Rows that were trained in full before so much was spent, in the order of their ends."""
    spent, rows = 0.0, []
    for segment in sorted(history.segments.values(), key=lambda s: s.finished_utc or math.inf):
        end, job = segment.end, segment.job
        spent += end.seconds / table.unit_s if end is not None else math.inf
        if spent <= units and job.candidate is not None and job.ladder[job.to_rung].epochs == table.top:
            rows.append(table.rows[job.candidate])
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each strategy and level."""
    options = parser().parse_args(arguments)
    print("strategy        units   reward / best   test accuracy    cost")
    for strategy in options.strategies:
        study = studies(options, strategy)
        table = study.table()
        values = rewards(study, table, options)
        histories = [tabular.drive(study, seed) for seed in range(options.seeds)]
        for units in LEVELS:
            best = [max(found(h, table, units), key=lambda row: values[row]) for h in histories]
            share, test, cost = (
                statistics.median(float(column[row]) for row in best)
                for column in (values / values.max(), table.test, table.static[study.column])
            )
            print(f"{strategy:<15} {units:>5}   {share:>13.4f}   {test:>13.4f}   {cost:>5.2f}")
    row = int(values.argmax())
    cost = float(table.static[study.column][row])
    print(f"{'the best cell':<21}   {1:>13.4f}   {table.test[row]:>13.4f}   {cost:>5.2f}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", help="archive with the codes of the architectures")
    parser.add_argument("--accuracy", required=True, help="archive with scores of separate schedules")
    parser.add_argument("--cost", required=True, help="FILE.npz:COLUMN")
    parser.add_argument("--target", type=float, required=True, help="in the unit of the cost")
    parser.add_argument("--exponent", type=float, default=-0.07)
    parser.add_argument("--within", type=float, help="exponent within the target; 0 for the hard variant")
    parser.add_argument("--reference", type=float, default=0.5)
    parser.add_argument("--strategies", nargs="+", default=["random", "evolution", "frontier"])
    parser.add_argument("--seeds", type=int, default=10)
    return parser


if __name__ == "__main__":
    sys.exit(main())
