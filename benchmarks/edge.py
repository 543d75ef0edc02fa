"""A search under a hard latency limit: does what it trains keep it, and what does it find for its money?

The search stage of a spec is run as it stands. Then random search, every trial trained in full, gets the
money that the first has spent, and the hypervolumes of both fronts are compared. When no worker is left, each
candidate that was trained is measured once more on the spec's first device: one breaks the limit if its
median, less the half-width of the 95 % interval that the measurement states, lies above it.

    python benchmarks/edge.py [--spec examples/edge.yaml] [--seeds 0 1 2] [--json OUT] [--keep DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import studies
import torch
from moasha import search

from ziggurat import choices, pareto
from ziggurat import spec as specs
from ziggurat.answers import eligible
from ziggurat.bench import Bench
from ziggurat.domain import TrialStatus
from ziggurat.history import History
from ziggurat.spec import Spec

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "edge.yaml"
RANDOM = {"searcher": {"kind": "random"}, "stopper": {"kind": "never"}}
MOST = 1000
"""Trials that random search may take at most; the money ends it long before."""
LATENCY = "latency_p50_ms"


@dataclass(frozen=True)
class Found:
    """What one search has found.

    Attributes:
        strategy: Its name.
        seed: Seed of its spec.
        usd: What it has spent.
        trials: Candidates proposed.
        rejected: Candidates that were never trained since they break the limit.
        trained: Different architectures that were trained at all.
        top: Trials at the top rung within the limit.
        best: Highest validation accuracy among these; NaN without any.
        hypervolume: Of their front, against the spec's references.
        breaking: Medians of trained candidates that break the limit when they are measured again.
        noisy: Candidates whose second measurement was too noisy to say.
    """

    strategy: str
    seed: int
    usd: float
    trials: int
    rejected: int
    trained: int
    top: int
    best: float
    hypervolume: float
    breaking: list[float]
    noisy: int


def judged(spec: Spec, history: History, strategy: str) -> Found:
    """Count what a search has found, and measure what it has trained once more."""
    goals = spec.goals()
    trials = history.of_stage("search")
    done = eligible(history, goals)
    volume = pareto.hypervolume([t.losses(goals) for t in done], [o.loss(o.reference) for o in goals])
    limit = next((o.limit for o in goals if o.metric == LATENCY), None)
    bench, device = Bench(spec, spec.data.signature()), spec.devices[0]
    trained = {t.candidate.key: t for t in trials if t.rung >= 0}
    breaking, noisy = [], 0
    for number, trial in enumerate(trained.values(), start=1):
        model = bench.build(trial.candidate, trial.seed)
        found = device.profile(model, torch.zeros(1, *bench.signature.shape), trial.candidate)
        values = {m.metric: m.value for m in found}
        noisy += device.noisy(found)
        if limit is not None and values[LATENCY] * (1 - values["latency_noise"]) > limit:
            breaking.append(round(values[LATENCY], 5))
        print(f"measured {number}/{len(trained)}", end="\r", file=sys.stderr, flush=True)
    return Found(
        strategy=strategy,
        seed=spec.seed,
        usd=history.spent_usd,
        trials=len(trials),
        rejected=sum(t.status is TrialStatus.REJECTED for t in trials),
        trained=len(trained),
        top=len(done),
        best=max((t.value("val_accuracy") for t in done), default=float("nan")),
        hypervolume=float(volume),
        breaking=breaking,
        noisy=noisy,
    )


def assignments(seed: int, sets: Sequence[str]) -> list[str]:
    """What makes a spec one search of a seed, and nothing else."""
    off = [f"{key}.enabled=false" for key in ("validate", "retrain", "tracking")]
    return [*sets, f"seed={seed}", *off, "search.baseline=0", "budget.plan_usd=null"]


def rival(spec: Spec, usd: float) -> list[str]:
    """What makes of a search the random one, each trial trained in full, that has so much money."""
    search = {
        **RANDOM,
        "trials": int(min(MOST, choices.count(spec.space.choices(), at_most=MOST))),
        "workers": spec.search.workers,
        "trainer": spec.search.trainer.model_dump(mode="json"),
    }
    top = [f.model_dump(mode="json") for f in spec.fidelities[-1:]]
    limits = [f"budget.limit_usd={usd}", "budget.stop_margin_s=0"]
    return [*limits, f"search={json.dumps(search)}", f"fidelities={json.dumps(top)}"]


def compared(path: Path, seed: int, sets: Sequence[str], folder: Path) -> list[Found]:
    """The spec's own search, then random search with the same money."""
    given = assignments(seed, sets)
    spec, raw = specs.read(path, given)
    first, _ = search(spec, raw, folder)
    other, raw = specs.read(path, [*given, *rival(spec, first.spent_usd)])
    second, _ = search(other, raw, folder)
    return [judged(spec, first, spec.search.proposer.kind), judged(other, second, "random")]


def table(rows: Sequence[Found]) -> list[str]:
    """The results as lines of text."""
    head = "strategy    seed      USD  trials  rejected  trained  top  best   hypervolume  breaking  noisy"
    lines = [
        f"{r.strategy:10}  {r.seed:4}  {r.usd:7.5f}  {r.trials:6}  {r.rejected:8}  {r.trained:7}  {r.top:3}  "
        f"{r.best:.4f}  {r.hypervolume:11.5f}  {len(r.breaking):8}  {r.noisy:5}"
        for r in rows
    ]
    return [head, *lines]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    found.add_argument("--spec", type=Path, default=EXAMPLE)
    found.add_argument("--seeds", type=int, nargs="+", default=[0])
    found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    return studies.with_places(found)


def study(given: argparse.Namespace, folder: Path) -> list[Found]:
    """Both searches of every seed, one after the other."""
    rows: list[Found] = []
    for seed in given.seeds:
        rows += compared(given.spec, seed, given.set, folder)
        print("\n".join(table(rows[-2:])), file=sys.stderr, flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the searches; 2 if something is wrong with what was given, 1 if a search could not be run."""
    given = parser().parse_args(arguments)
    torch.set_num_threads(1)
    code, rows = studies.told(study, table, given, {"spec": str(given.spec)})
    gains = [f"{a.hypervolume - b.hypervolume:+.5f}" for a, b in zip(rows[::2], rows[1::2], strict=True)]
    if gains:
        print(f"hypervolume beyond random search at equal cost: {', '.join(gains)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
