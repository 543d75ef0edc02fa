"""Searches in many dimensions of which few matter, in batches: hypervolume found, and seconds for each ask.

A test function of two objectives (Branin and Currin, two active choices; or DTLZ2, six) is hidden in a space
of `--dims` continuous choices; which ones are active is drawn from the seed. The searchers are those of the
product and are asked as in a run, with a history made of the same events. `--seeds N` takes the seeds from
`--first-seed` on.

    python benchmarks/highdim.py [--dims 24] [--batch 16] [--evaluations 96] [--strategies sobol ax ax-map]
        [--function branin-currin] [--seeds 3] [--json OUT]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from ziggurat import choices, pareto
from ziggurat.domain import Candidate, Fidelity, Goal, Job, JobKind, Measurement, Objective, Proposal
from ziggurat.events import Body, Event, SegmentFinished, SegmentPlanned, StageStarted, TrialProposed
from ziggurat.history import History
from ziggurat.protocols import Context, FloatArray, Forecast
from ziggurat.searchers import AxSearcher, RandomSearch, Sobol

DEFAULTS = ["sobol", "ax", "ax-map"]
LADDER = (Fidelity(1),)
STAGE = "search"
STRATEGIES: Mapping[str, RandomSearch | Sobol | AxSearcher] = {
    "random": RandomSearch(),
    "sobol": Sobol(),
    "ax": AxSearcher(),
    "ax-quality": AxSearcher(method="quality"),
    "ax-map": AxSearcher(saas="map"),
    "ax-map-quality": AxSearcher(method="quality", saas="map"),
    "ax-full": AxSearcher(saas="full"),
}


@dataclass(frozen=True)
class Problem:
    """A test function inside a larger space.

    Attributes:
        evaluate: Two losses of the active coordinates, shape (active,).
        active: Number of active coordinates.
        reference: Losses at which a point is worth nothing.
        best: Hypervolume of the true front.
    """

    evaluate: Callable[[FloatArray], FloatArray]
    active: int
    reference: tuple[float, float]
    best: float


def branin_currin(x: FloatArray) -> FloatArray:
    """Branin rescaled to the unit square, and Currin; two coordinates.

    Source: Belakaria et al. 2019, MESMO, NeurIPS, appendix; hypervolume of the front as BoTorch gives it.
    """
    u, v = 15 * x[0] - 5, 15 * x[1]
    branin = (
        (v - 5.1 / (4 * np.pi**2) * u**2 + 5 / np.pi * u - 6) ** 2
        + 10 * (1 - 1 / (8 * np.pi)) * np.cos(u)
        + 10
    )
    decay = 1 - np.exp(-1 / (2 * x[1])) if x[1] > 0 else 1.0
    a = x[0]
    currin = decay * (2300 * a**3 + 1900 * a**2 + 2092 * a + 60) / (100 * a**3 + 500 * a**2 + 4 * a + 20)
    return np.array([branin, currin])


def dtlz2(x: FloatArray) -> FloatArray:
    """DTLZ2 with two losses: the front is a quarter of the unit circle.

    Source: Deb et al. 2002, Scalable multi-objective optimization test problems, section 6.
    """
    distance = 1 + float(np.sum((x[1:] - 0.5) ** 2))
    return distance * np.array([np.cos(x[0] * np.pi / 2), np.sin(x[0] * np.pi / 2)])


PROBLEMS = {
    "branin-currin": Problem(branin_currin, 2, (18.0, 6.0), 59.36011874867746),
    "dtlz2": Problem(dtlz2, 6, (1.1, 1.1), 1.1**2 - np.pi / 4),
}


@dataclass
class Search:
    """One search: its history, and how long the searcher took each time."""

    problem: Problem
    dims: int
    seed: int
    evaluations: int
    history: History = field(default_factory=History)
    asks: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin the stage, and draw which choices are active."""
        rng = np.random.default_rng([self.seed, self.dims])
        self.active = rng.permutation(self.dims)[: self.problem.active]
        self.choices = {f"x{i:02}": choices.Range(min=0.0, max=1.0) for i in range(self.dims)}
        self.objectives = tuple(
            Objective(f"loss{i}", Goal.MINIMIZE, reference=r) for i, r in enumerate(self.problem.reference)
        )
        self.add(StageStarted(STAGE))

    def add(self, body: Body) -> None:
        """Apply one event."""
        self.history.apply(Event(self.history.length, float(self.history.length), "highdim", body))

    def context(self) -> Context:
        """What the searcher sees now."""
        return Context(
            choices=self.choices,
            objectives=self.objectives,
            history=self.history,
            stage=STAGE,
            ladder=LADDER,
            static=lambda candidates: [{} for _ in candidates],
            forecast=lambda *_: Forecast(1.0, 0.0),
            rng=np.random.default_rng([self.seed, len(self.history.trials)]),
            trials=self.evaluations,
            chance={},
        )

    def ask(self, searcher: RandomSearch | Sobol | AxSearcher, count: int) -> int:
        """Have up to `count` candidates proposed, then evaluate them; how many there were."""
        results = len(self.history.trials)
        began, busy = time.perf_counter(), time.process_time()
        numbers: list[int] = []
        while len(numbers) < count:
            found = searcher.propose_batch(self.context(), count - len(numbers))
            if not found:
                break
            numbers += [self.propose(proposal) for proposal in found]
        wall, cpu = time.perf_counter() - began, time.process_time() - busy
        self.asks.append({"results": results, "points": len(numbers), "wall_s": wall, "cpu_s": cpu})
        for number in numbers:
            self.finish(number)
        return len(numbers)

    def propose(self, proposal: Proposal) -> int:
        """Make a trial of a proposal."""
        number = len(self.history.trials)
        self.add(TrialProposed(number, number, STAGE, proposal.candidate, 0, LADDER, origin=proposal.origin))
        return number

    def finish(self, number: int) -> None:
        """Evaluate a trial's candidate."""
        candidate = self.history.trials[number].candidate
        job = Job(f"{number}", JobKind.TRAIN, STAGE, number, candidate, LADDER, -1, 0)
        values = self.problem.evaluate(self.point(candidate)[self.active])
        found = tuple(
            Measurement(o.metric, float(v), step=1) for o, v in zip(self.objectives, values, strict=True)
        )
        self.add(SegmentPlanned(job, 1.0, 0.0))
        self.add(SegmentFinished(job.key, number, 1.0, 0.0, measurements=found))

    def point(self, candidate: Candidate) -> FloatArray:
        """The coordinates of a candidate."""
        return np.array([float(candidate.choices[name]) for name in self.choices])

    def volume(self, count: int) -> float:
        """Hypervolume of the first trials as a share of the true front's."""
        losses = [t.losses(self.objectives) for t in list(self.history.trials.values())[:count]]
        return pareto.hypervolume(losses, self.problem.reference) / self.problem.best


def run(name: str, problem: Problem, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One search by one strategy."""
    searcher = STRATEGIES[name]
    if not isinstance(searcher, RandomSearch):
        searcher = searcher.model_copy(update={"scramble_seed": seed})
    search = Search(problem, given.dims, seed, given.evaluations)
    while (left := given.evaluations - len(search.history.trials)) > 0:
        if not search.ask(searcher, min(given.batch, left)):
            break
    trials = search.history.trials.values()
    marks = [*range(given.batch, given.evaluations, given.batch), given.evaluations]
    return {
        "strategy": name,
        "seed": seed,
        "hypervolume": {m: search.volume(m) for m in marks},
        "asks": search.asks,
        "origins": {o: sum(t.note == o for t in trials) for o in sorted({t.note for t in trials})},
    }


def summary(name: str, runs: Sequence[dict[str, Any]], given: argparse.Namespace) -> str:
    """One row of the table."""
    half = max(given.batch, given.evaluations // 2 // given.batch * given.batch)
    end = [r["hypervolume"][given.evaluations] for r in runs]
    middle = [r["hypervolume"][half] for r in runs]
    model = [a for r in runs for a in r["asks"] if a["results"] >= half] or runs[0]["asks"]
    return (
        f"{name:16} {statistics.median(middle):9.3f} {statistics.median(end):9.3f} "
        f"{min(end):7.3f} {max(end):7.3f} {statistics.median(a['cpu_s'] for a in model):9.2f} "
        f"{statistics.median(a['wall_s'] for a in model):9.2f}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dims", type=int, default=24)
    parser.add_argument("--batch", type=int, default=16, help="points of one ask, evaluated together")
    parser.add_argument("--evaluations", type=int, default=96)
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=DEFAULTS)
    parser.add_argument("--function", choices=list(PROBLEMS), default="branin-currin")
    parser.add_argument("--seeds", type=int, default=3, help="number of searches of each strategy")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write all numbers to a file")
    given = parser.parse_args(arguments)
    if "ax-full" in given.strategies and importlib.util.find_spec("numpyro") is None:
        parser.error('ax-full needs the optional extra; install it with pip install -e ".[saas]"')
    problem = PROBLEMS[given.function]
    half = max(given.batch, given.evaluations // 2 // given.batch * given.batch)
    print(
        f"{given.function} with {problem.active} active of {given.dims} choices, {given.evaluations} "
        f"evaluations in batches of {given.batch}, {given.seeds} seeds from {given.first_seed} on; "
        "share of the true front's hypervolume"
    )
    print(
        f"{'strategy':16} {f'at {half}':>9} {f'at {given.evaluations}':>9} {'min':>7} {'max':>7} "
        f"{'cpu s/ask':>9} {'wall s':>9}",
        flush=True,
    )
    found: list[dict[str, Any]] = []
    for name in given.strategies:
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        runs = [run(name, problem, given, seed) for seed in seeds]
        found += runs
        print(summary(name, runs, given), flush=True)
        if given.json:
            given.json.write_text(json.dumps({"settings": vars(given) | {"json": None}, "runs": found}))


if __name__ == "__main__":
    main()
