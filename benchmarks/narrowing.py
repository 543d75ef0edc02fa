"""A narrower space after a first search of a table: how much of the best that is there does it still hold?

A first search by the production engine, then `ziggurat.analysis.narrow` on its trials. Held against the
whole table, by test scores: the share of its hypervolume that the best front within the narrower space
reaches (what a perfect search could still find), how many of its front's members are inside, and how many
candidates are left. `missed` counts searches whose narrower space holds less than 99 % of the hypervolume.
`then` and `else` are what the search has found after as many random candidates again, in full, from the
narrower and from the whole space: the front by validation at its test scores, as a share of the table's.

    python benchmarks/narrowing.py --tables FOLDER [--trials 100 300] [--seeds 10] [--json OUT]

What counts as good and the level of the test were chosen on seeds from 1000 on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import numpy.typing as npt
import tabular
from tabular_study import Study, losses, reference

from ziggurat import pareto
from ziggurat.analysis import narrow

IntArray = npt.NDArray[np.int64]
ENOUGH = 0.99
REPEATS = 10
UNLIMITED = 1e9
STRATEGIES = ("random", "evolution")
SOURCES: Mapping[str, tuple[Mapping[str, str], str]] = {
    "nb201 raspi4": (
        {"architectures": "nb201_space", "accuracy": "nb201_cifar10"},
        "nb201_latency_ms.npz:raspi4",
    ),
    "nb201 params": (
        {"architectures": "nb201_space", "accuracy": "nb201_cifar10"},
        "nb201_cifar10.npz:params_m",
    ),
    "nbmacro flops": (
        {"architectures": "nbmacro_cifar10", "accuracy": "nbmacro_cifar10"},
        "nbmacro_cifar10.npz:flops",
    ),
    "nbgraph cora": (
        {"architectures": "nbgraph_cora", "accuracy": "nbgraph_cora"},
        "nbgraph_cora.npz:latency_s",
    ),
    "fcnet protein": (
        {"architectures": "fcnet_protein_structure", "accuracy": "fcnet_protein_structure"},
        "fcnet_protein_structure.npz:params",
    ),
}
"""Files of each table by the key of the spec, and what is minimised beside the error."""


@dataclass(frozen=True)
class Result:
    """One search and the space that it suggests.

    Attributes:
        kept: Share of the candidates that is left.
        volume: Share of the table's hypervolume that is reached inside.
        front: Share of the members of the table's front that are inside.
        best: Whether the candidate of the least error is inside, among those within the reference.
        then: Share of the hypervolume found after further candidates from inside.
        otherwise: The same with further candidates from the whole table.
    """

    kept: float
    volume: float
    front: float
    best: bool
    then: float
    otherwise: float


def study_of(folder: Path, name: str, strategy: str, trials: int) -> Study:
    """A table as a study."""
    files, cost = SOURCES[name]
    return Study(
        files={key: str(folder / f"{file}.npz") for key, file in files.items()},
        cost=str(folder / cost),
        strategy=strategy,
        workers=4,
        budget=UNLIMITED,
        max_trials=trials,
    )


def one(study: Study, seed: int) -> Result:
    """One search, and what its narrower space holds."""
    history, spec = tabular.drive(study, seed), tabular.spec_of(study, seed)
    found = narrow.narrower(spec.space, history.of_stage("search"), spec.goals())
    table = study.table()
    inside = np.array([found.holds(c) for c in table.candidates])
    rows = losses(study, table, table.test)
    known = ~np.isnan(rows).any(axis=1)
    corner = np.array(reference(study, table))
    worth = known & (rows < corner).all(axis=1)
    front = np.zeros(len(rows), dtype=bool)
    front[worth] = pareto.is_front(rows[worth])
    tried = np.array([table.rows[t.candidate] for t in history.of_stage("search") if t.rung == t.top_rung])
    whole = pareto.hypervolume(rows[known], corner)
    then, otherwise = (
        further(study, tried, np.flatnonzero(pool & known), seed) / whole
        for pool in (inside, np.ones_like(inside))
    )
    return Result(
        kept=float(inside.mean()),
        volume=pareto.hypervolume(rows[inside & known], corner) / whole,
        front=float(inside[front].mean()),
        best=bool(inside[np.flatnonzero(worth)[int(np.argmin(rows[worth, 0]))]]),
        then=then,
        otherwise=otherwise,
    )


def further(study: Study, tried: IntArray, pool: IntArray, seed: int) -> float:
    """Mean hypervolume, by test, after as many random rows of a pool as were tried before."""
    table = study.table()
    validation, test = (losses(study, table, v) for v in (table.scores[table.top], table.test))
    corner = np.array(reference(study, table))
    rng, volumes = np.random.default_rng([seed, 7]), []
    fresh = np.setdiff1d(pool, tried)
    for _ in range(REPEATS):
        rows = np.concatenate([tried, rng.choice(fresh, min(len(tried), len(fresh)), replace=False)])
        volumes.append(pareto.hypervolume(test[rows[pareto.is_front(validation[rows])]], corner))
    return float(np.mean(volumes))


def summary(found: Sequence[Result]) -> dict[str, float]:
    """Medians, and how often something was missed."""
    return {
        "kept": statistics.median(r.kept for r in found),
        "volume": statistics.median(r.volume for r in found),
        "volume_least": min(r.volume for r in found),
        "missed": sum(r.volume < ENOUGH for r in found),
        "front": statistics.median(r.front for r in found),
        "best": sum(r.best for r in found),
        "then": statistics.median(r.then for r in found),
        "otherwise": statistics.median(r.otherwise for r in found),
        "unchanged": sum(r.kept == 1.0 for r in found),
        "of": len(found),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the searches of the command line and print their table."""
    options = parser().parse_args(arguments)
    written = []
    heads = ["table", "first search", "trials", "left", "hypervolume inside", "least", "missed"]
    print(f"| {' | '.join([*heads, 'front inside', 'then', 'else'])} |")
    print(f"| {' | '.join(['---'] * 10)} |")
    for name in options.only or SOURCES:
        for strategy in options.strategies:
            for trials in options.trials:
                study = study_of(Path(options.tables), name, strategy, trials)
                seeds = range(options.first_seed, options.first_seed + options.seeds)
                found = [one(study, seed) for seed in seeds]
                s = summary(found)
                print(
                    f"| {name} | {strategy} | {trials} | {s['kept']:.0%} | {s['volume']:.3f} | "
                    f"{s['volume_least']:.3f} | {s['missed']} of {s['of']} | {s['front']:.0%} | "
                    f"{s['then']:.3f} | {s['otherwise']:.3f} |",
                    flush=True,
                )
                written.append(
                    {"table": name, "strategy": strategy, "trials": trials, **s}
                    | {"each": [asdict(r) for r in found]}
                )
    if options.json:
        Path(options.json).write_text(json.dumps(written, indent=1), encoding="utf-8")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", required=True, help="folder with the archives")
    parser.add_argument("--only", nargs="*", choices=sorted(SOURCES), help="tables; by default all")
    parser.add_argument(
        "--strategies", nargs="*", default=list(STRATEGIES), choices=sorted(tabular.STRATEGIES)
    )
    parser.add_argument("--trials", type=int, nargs="*", default=[100, 300])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", help="file to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
