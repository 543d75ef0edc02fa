"""Early stopping on real training: time and epochs saved against hypervolume lost, on examples/moasha.yaml.

A three-layer perceptron on Fashion-MNIST, 25 trials, at most 8 epochs, with 2 and with 3 objectives. Each
run is a real search with two workers. `fifo`, `stopping` and `promotion` draw the same random candidates and
train them from the same seeds, so they differ in nothing but what is stopped; others propose their own. The
hypervolume counts trials that were trained to the top, and is given relative to FIFO's of the same seed.

    python benchmarks/moasha.py [--seeds 0 1 2] [--strategies fifo promotion] [--json OUT] [--plot OUT.png]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import studies
from moasha_results import BASE, Result, compare, judge, plot, table

from ziggurat import runs, stages
from ziggurat import spec as specs
from ziggurat.domain import JobKind
from ziggurat.errors import SpecError, StageFailed, ZigguratError
from ziggurat.history import History
from ziggurat.session import Session
from ziggurat.spec import Spec
from ziggurat.spec_files import parse_yaml, read_text

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/moasha.yaml"
RANDOM: dict[str, Any] = {"kind": "random"}
ASHA: dict[str, Any] = {"kind": "asha", "reduction_factor": 2, "floor": "chance"}
STRATEGIES: dict[str, dict[str, Any]] = {
    BASE: {"searcher": RANDOM, "stopper": {"kind": "never"}},
    "stopping": {"searcher": RANDOM, "stopper": {**ASHA, "type": "stopping"}},
    "promotion": {"searcher": RANDOM, "stopper": {**ASHA, "type": "promotion"}},
    "frontier": {"strategy": {"kind": "frontier"}},
}
"""What each strategy puts into the `search` section."""
START_S = 300.0
"""Deadline for the workers to be up."""


def strategy_of(text: str) -> tuple[str, dict[str, Any]]:
    """A strategy by its name, or `NAME={...}` with what it puts into the `search` section.

    Raises:
        SpecError: There is none of this name.
    """
    name, equals, section = text.partition("=")
    if equals:
        plain = parse_yaml(section, f"--strategies {name}")
        if not isinstance(plain, dict):
            raise SpecError(f"--strategies {text}: write NAME={{stopper: {{kind: never}}}} or the like")
        return name, plain
    if name not in STRATEGIES:
        raise SpecError(f"--strategies {name}: allowed are {', '.join(STRATEGIES)}, or NAME={{...}}")
    return name, STRATEGIES[name]


def spec_of(section: Mapping[str, Any], objectives: int, seed: int, given: argparse.Namespace) -> list[str]:
    """The assignments that make the example one search.

    FIFO stops nothing, so it has no rungs: one segment for each trial, which is the fastest it can be.
    """
    raw = parse_yaml(read_text(given.spec), str(given.spec))
    kept = {key: raw["search"][key] for key in ("trainer", "workers") if key in raw["search"]}
    search = {**kept, "trials": given.trials, **section}
    sets = {
        "seed": seed,
        "search": search,
        "objectives": raw["objectives"][:objectives],
        "data.limit": given.examples,
        "validate.enabled": False,
        "retrain.enabled": False,
        "tracking.enabled": False,
    }
    if section.get("stopper") == {"kind": "never"}:
        sets["fidelities"] = raw["fidelities"][-1:]
    return [f"{key}={json.dumps(value)}" for key, value in sets.items()]


def search(spec: Spec, raw: dict[str, Any], folder: Path) -> tuple[History, float]:
    """Run one search; its history, and the seconds of its stage once the workers are up."""
    run = runs.create(spec, raw, folder)
    session = Session(run)
    try:
        stages.preflight(session.engine)
        pool, deadline = session.engine.pool, time.monotonic() + START_S
        while pool.free(JobKind.TRAIN) < spec.search.workers or not pool.free(JobKind.PROPOSE):
            if time.monotonic() > deadline:
                raise ZigguratError(f"the workers were not up within {START_S:g} s; see {run.folder}/logs")
            pool.wait(0.05)
        began = time.perf_counter()
        try:
            stages.search(session.engine)
        except StageFailed as error:
            print(error, file=sys.stderr)  # what it has found is counted all the same
        wall = time.perf_counter() - began
        run.finish(session.status())
        return run.history, wall
    finally:
        session.close()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--spec", type=Path, default=EXAMPLE, help="another spec with the same objectives")
    found.add_argument(
        "--strategies",
        nargs="+",
        default=list(STRATEGIES),
        help="names of strategies, or NAME={...} with keys of the search section",
    )
    found.add_argument("--objectives", type=int, nargs="+", default=[2, 3], help="the first so many")
    found.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the specs")
    found.add_argument("--trials", type=int, default=25, help="trials of a search")
    found.add_argument("--examples", type=int, default=24_000, help="examples, validation included")
    found.add_argument("--plot", type=Path, help="write a PNG: hypervolume against epochs trained")
    return studies.with_places(found)


def _check_data(spec: Spec) -> None:
    """Look for the data before anything is started.

    Raises:
        SpecError: They are not there.
    """
    try:
        spec.data.check()
    except SpecError as error:
        cure = (
            "set FASHION_MNIST to a folder with Fashion-MNIST (Debian: apt-get install dataset-fashion-mnist)"
        )
        raise SpecError(f"{error}; {cure}") from None


def study(given: argparse.Namespace, folder: Path) -> list[Result]:
    """Run all searches, one after the other; specs and data are checked before the first."""
    planned = []
    for seed in given.seeds:
        for objectives in given.objectives:
            for name, section in map(strategy_of, given.strategies):
                spec, raw = specs.read(given.spec, spec_of(section, objectives, seed, given))
                planned.append((name, seed, spec, raw))
    _check_data(planned[0][2])
    results = []
    for i, (name, seed, spec, raw) in enumerate(planned):
        history, wall = search(spec, raw, folder)
        results.append(
            judge(history, spec.goals(), name, seed=seed, wall_s=wall, workers=spec.search.workers)
        )
        last = results[-1]
        what = f"{last.objectives} objectives, {name}, seed {seed}: {wall:.1f} s, {last.epochs} epochs"
        print(f"[{i + 1}/{len(planned)}] {what}, {last.top} at the top", file=sys.stderr, flush=True)
    compare(results)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and print its table; the exit status."""
    given = parser().parse_args(arguments)
    code, results = studies.told(study, table, given, {"examples": given.examples})
    if results and given.plot:
        given.plot.write_bytes(plot(results))
    return code


if __name__ == "__main__":
    sys.exit(main())
