"""Searches of measured tables: how much of the true front each strategy finds for its money.

The production engine, planner, journal, searchers and stoppers run on a `table` space with the `simulated`
launcher, hundreds of searches in seconds or minutes. A search is scored by the front of the cells it has
trained in full so far, chosen by validation, at their test scores: hypervolume of error and cost, as a share
of the whole table's. The budget is counted in units, the mean cost of one full training; spent is what the
ledger has charged, the segments that have ended (`hypervolume_accrued` counts running parts as well).

    python benchmarks/tabular.py --space FILE.npz --accuracy FILE.npz --cost FILE.npz:COLUMN
        --strategy NAME --workers 4 --budget 200 --seeds 20 --json OUT

`--curves FILE.npz` searches real learning curves, `--fidelities FILE.npz` separate trainings of several
lengths. `--set search.stopper.reduction_factor=2` changes any setting of the spec.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from tabular_study import PARTS, Scores, Study, progress, reference

from ziggurat import runs, tables
from ziggurat import spec as specs
from ziggurat.domain import JobKind
from ziggurat.engine import Engine, Planner
from ziggurat.errors import ZigguratError
from ziggurat.history import History
from ziggurat.spec_files import override
from ziggurat.stages.search import search_planner

LEVELS = (5, 10, 25, 50, 100, 200)
HOUR_S = 3600.0
STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "random": {"searcher": {"kind": "random", "ahead": 0}},
    "sobol": {"searcher": {"kind": "sobol", "ahead": 0}},
    "evolution": {"searcher": {"kind": "evolution", "ahead": 0}},
    "nsga2": {"searcher": {"kind": "nsga2", "ahead": 0}},
    "reinforce": {"searcher": {"kind": "reinforce", "ahead": 0}},
    "ax": {"searcher": {"kind": "ax", "batch": 4, "ahead": 0}},
    "asha-stopping": {
        "searcher": {"kind": "random", "ahead": 0},
        "stopper": {"kind": "asha", "type": "stopping", "floor": "chance"},
    },
    "asha-promotion": {
        "searcher": {"kind": "random", "ahead": 0},
        "stopper": {"kind": "asha", "type": "promotion", "floor": "chance"},
    },
    "hyperband": {
        "searcher": {"kind": "random", "ahead": 0},
        "stopper": {"kind": "asha", "type": "promotion", "floor": "chance", "brackets": 2},
    },
    "median": {"searcher": {"kind": "random", "ahead": 0}, "stopper": {"kind": "median", "grace": 0}},
    "percentile": {"searcher": {"kind": "random", "ahead": 0}, "stopper": {"kind": "percentile", "grace": 0}},
    "frontier": {"strategy": {"kind": "frontier", "ahead": 0}},
}
"""Settings under `search`; a stopper or a joint strategy climbs a ladder, the others train in full."""


def spec_of(study: Study, seed: int) -> specs.Spec:
    """The production spec of a search."""
    table = study.table()
    worst, dear = reference(study, table)
    accuracy = table.metric == "val_accuracy"
    objectives: list[dict[str, Any]] = [
        {"metric": table.metric, "reference": round(1.0 - worst if accuracy else worst, 9)}
    ]
    if study.cost:
        limit = {} if table.complete else {"limit": float(np.nanmax(table.static[study.column]))}
        objectives.append({"metric": study.column, "reference": dear, **limit})
    chosen = dict(STRATEGIES[study.strategy])
    plain: dict[str, Any] = {
        "name": "tabular",
        "seed": seed,
        "space": {"kind": "table", **study.files, "costs": {study.column: study.cost} if study.cost else {}},
        "objectives": objectives,
        "fidelities": [{"epochs": e} for e in rungs(study, table)],
        "validate": {"enabled": False},
        "retrain": {"enabled": False},
        "tracking": {"enabled": False},
        "search": {
            "trainer": {"kind": "table"},
            "trials": study.max_trials or min(len(table.rows), 100_000),
            "workers": study.workers,
            "max_failures": 1.0,
            **chosen,
        },
        "launcher": {"kind": "simulated", "usd_per_hour": HOUR_S / table.unit_s},
        "budget": {"limit_usd": study.budget, "stop_margin_s": 0},
    }
    return specs.parse(override(plain, study.settings), "tabular")


def rungs(study: Study, table: tables.Table) -> list[int]:
    """Epochs of the ladder: what was asked for, else all schedules, else a geometric one.

    A strategy that stops nothing trains in full at once.
    """
    if study.ladder:
        return list(study.ladder)
    settings = STRATEGIES[study.strategy]
    if "stopper" not in settings and "strategy" not in settings:
        return [table.top]
    return tables.geometric(table.top, 3.0, 4) if table.resumable else sorted(table.scores)


def drive(study: Study, seed: int, watch: Callable[[Engine], Planner] | None = None) -> History:
    """The history of one search; `watch` may put itself around the plan."""
    spec = spec_of(study, seed)
    shared = Path("/dev/shm")  # noqa: S108 - memory, where there is such a place
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        run = runs.create(spec, {}, Path(folder))
        engine = Engine(run)
        try:
            engine.drive(watch(engine) if watch else search_planner(run), "search")
        finally:
            engine.close()
            run.close()
    return run.history


def search(study: Study, seed: int) -> Scores:
    """One search, scored."""
    timers: list[Timer] = []

    def watch(engine: Engine) -> Planner:
        timers.append(Timer(engine))
        return timers[0].planner

    began = time.perf_counter()
    history = drive(study, seed, watch)
    wall_s = time.perf_counter() - began
    trials = history.of_stage("search")
    full = sum(t.rung == t.top_rung for t in trials)
    steps = tuple(progress(study, history))
    return Scores(steps, tuple(timers[0].decisions_s), wall_s, len(trials), full)


class Timer:
    """Measures what it takes to decide on a segment: planning and proposing, without journal and launcher."""

    def __init__(self, engine: Engine) -> None:
        """Listen to the answers of the service."""
        self.decisions_s: list[float] = []
        self._plan = search_planner(engine.run)
        self._spent = 0.0
        start = engine.pool.start

        def timed(job: Any) -> str:  # noqa: ANN401 - a job
            if job.kind is not JobKind.PROPOSE:
                return start(job)
            began = time.perf_counter()
            handle = start(job)
            self._spent += time.perf_counter() - began
            return handle

        engine.pool.start = timed  # type: ignore[method-assign]

    def planner(self, engine: Engine, free: int) -> Any:  # noqa: ANN401 - a step
        """The production plan, timed."""
        began = time.perf_counter()
        step = self._plan(engine, free)
        self._spent += time.perf_counter() - began
        if step.jobs:
            self.decisions_s += [self._spent / len(step.jobs)] * len(step.jobs)
            self._spent = 0.0
        return step


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": round(float(middle), 4), "q1": round(float(low), 4), "q3": round(float(high), 4)}


def _one(job: tuple[Study, int]) -> Scores:
    return search(*job)


def measure(study: Study, seeds: Sequence[int], jobs: int) -> list[Scores]:
    """All searches, some at a time, in the order of the seeds."""
    work = [(study, seed) for seed in seeds]
    if jobs == 1 or len(work) == 1:
        return [_one(job) for job in work]
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(_one, work))


def summary(study: Study, seeds: Sequence[int], found: Sequence[Scores]) -> dict[str, Any]:
    """What is written as JSON."""
    table = study.table()
    worst, dear = reference(study, table)
    grid = [float(u) for u in np.geomspace(1.0, study.budget, 60)]
    curve = [quartiles([s.at(u) for s in found]) for u in grid]
    decisions = [d for s in found for d in s.decisions_s]
    return {
        "strategy": study.strategy,
        "cost": study.column,
        "settings": list(study.settings),
        "seeds": list(seeds),
        "workers": study.workers,
        "unit_s": table.unit_s,
        "ladder": rungs(study, table),
        "reference": {"error": worst, "cost": dear if study.cost else None},
        "hypervolume": {str(u): quartiles([s.at(u) for s in found]) for u in LEVELS if u <= study.budget},
        "hypervolume_accrued": {
            str(u): quartiles([s.at(u, accrued=True) for s in found]) for u in LEVELS if u <= study.budget
        },
        "each": {str(u): [round(s.at(u), 4) for s in found] for u in LEVELS if u <= study.budget},
        "decision_s": round(statistics.median(decisions), 6) if decisions else None,
        "decision_max_s": round(max(decisions), 6) if decisions else None,
        "wall_s": round(statistics.median(s.wall_s for s in found), 3),
        "trials": statistics.median(s.trials for s in found),
        "full_trainings": statistics.median(s.full for s in found),
        "curve": {
            "units": [round(u, 3) for u in grid],
            **{name: [c[name] for c in curve] for name in ("median", "q1", "q3")},
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the searches of the command line and print their table."""
    options = parser().parse_args(arguments)
    names = {"architectures": options.space, **{n: getattr(options, n) for n in PARTS[1:]}}
    study = Study(
        files={n: str(Path(f).resolve()) for n, f in names.items() if f},
        cost=_absolute(options.cost),
        strategy=options.strategy,
        workers=options.workers,
        budget=options.budget,
        ladder=tuple(options.ladder),
        reference_error=options.reference_error,
        settings=tuple(options.set),
        max_trials=options.trials,
    )
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    try:
        found = measure(study, seeds, options.jobs)
        result = summary(study, seeds, found)
    except ZigguratError as problem:
        print(problem, file=sys.stderr)
        return 2
    print(
        f"{study.strategy} on {study.column or 'error alone'}: {len(seeds)} seeds, {study.workers} workers, "
        f"rungs {result['ladder']}"
    )
    print("units   median   q1       q3")
    for level, q in result["hypervolume"].items():
        print(f"{level:>5}   {q['median']:.4f}   {q['q1']:.4f}   {q['q3']:.4f}")
    print(
        f"{result['decision_s']} s per decision (median, {result['decision_max_s']} at most); "
        f"{result['wall_s']} s per search; {result['trials']:g} trials, {result['full_trainings']:g} in full"
    )
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1), encoding="utf-8")
    return 0


def _absolute(cost: str) -> str:
    file, _, column = cost.rpartition(":")
    return f"{Path(file).resolve()}:{column}" if file else cost


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", help="archive with the codes of the architectures")
    parser.add_argument("--accuracy", help="archive with scores of separate schedules")
    parser.add_argument("--curves", help="archive with learning curves")
    parser.add_argument("--fidelities", help="archive with scores at several budgets")
    parser.add_argument("--cost", default="", help="FILE.npz:COLUMN; without it the error alone is minimised")
    parser.add_argument("--strategy", required=True, choices=sorted(STRATEGIES))
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--budget", type=float, default=200.0, help="units to spend")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--ladder", type=int, nargs="*", default=[], help="epochs of the rungs")
    parser.add_argument(
        "--reference-error", type=float, help="per cent, or a loss where the table has losses"
    )
    parser.add_argument(
        "--trials", type=int, default=0, help="candidates at most; by default the whole table"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the spec"
    )
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="searches at a time")
    parser.add_argument("--json", help="file to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
