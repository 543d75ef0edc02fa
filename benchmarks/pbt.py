"""Population-based training against random search on Fashion-MNIST, at the same number of epochs.

A perceptron of two layers on a subset of the training files; learning rate, weight decay, label smoothing and
batch size are searched. Both begin with the same random candidates of a seed. Random search trains each to
the end, at a constant learning rate and again with a cosine schedule, which population-based training has to
find for itself. The best model by validation is also looked at on the test files, which decide nothing.

    python benchmarks/pbt.py [--seeds 0 1 2 3 4] [--population 12] [--epochs 16] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import studies
from moasha import search

from ziggurat import spec as specs
from ziggurat.answers import eligible
from ziggurat.domain import JobKind, Trial
from ziggurat.history import History
from ziggurat.spec import Spec
from ziggurat.trainers import Lightning

BASE = "random"
WAYS = {"pbt": "constant", BASE: "constant", "random, cosine": "CosineAnnealingLR"}
"""What is compared, each with its learning-rate schedule."""
SPEC = """\
schema_version: 1
name: pbt
data:
  kind: idx
  directory: ${FASHION_MNIST:/usr/share/datasets/fashion-mnist}
  split: {train: 0.6, validation: 0.4, test: 0.0}
space:
  kind: mlp
  depth: 2
  width: 128
  dropout: 0.2
  activation: relu
  norm: none
  hyperparameters:
    learning_rate: {min: 1e-4, max: 1e-1, log: true}
    weight_decay: {min: 1e-4, max: 1.0, log: true}
    label_smoothing: {min: 0.0, max: 0.3}
    batch_size: {min: 16, max: 256, log: true}
objectives: [{metric: val_accuracy, reference: 0.1}]
fidelities: [{epochs: 1}]
validate: {enabled: false}
retrain: {enabled: false}
tracking: {enabled: false}
"""


@dataclass(frozen=True)
class Result:
    """One search.

    Attributes:
        way: What searched.
        seed: Seed of the spec.
        epochs: Epochs trained.
        trials: Trials started.
        val_accuracy: Of the best trial trained to the end.
        test_accuracy: Of the same trial.
        wall_s: Seconds of the search stage.
    """

    way: str
    seed: int
    epochs: int
    trials: int
    val_accuracy: float
    test_accuracy: float
    wall_s: float


def assignments(way: str, seed: int, given: argparse.Namespace) -> list[str]:
    """What makes the spec one search."""
    places, pace = given.population, given.epochs // given.rungs
    ends = [pace * (i + 1) for i in range(given.rungs - 1)] if way == "pbt" else []
    chosen: Mapping[str, Any] = (
        {"strategy": {"kind": "pbt", "population": places}, "trials": places * given.rungs}
        if way == "pbt"
        else {"searcher": {"kind": "random"}, "trials": places}
    )
    trainer = {"kind": "lightning", "schedule": {"name": WAYS[way]}}
    plain = {
        "seed": seed,
        "data.limit": given.examples,
        "fidelities": [{"epochs": e} for e in [*ends, given.epochs]],
        "search": {**chosen, "workers": given.workers, "trainer": trainer},
    }
    return [f"{key}={json.dumps(value)}" for key, value in plain.items()]


def judge(way: str, spec: Spec, history: History, folder: Path, wall_s: float) -> Result:
    """The best trial of a search, and what the search took."""
    goals = spec.goals()
    best = min(eligible(history, goals), key=lambda t: t.losses(goals))
    ends = [s.job for s in history.segments.values() if s.end and s.job.kind is JobKind.TRAIN]
    begun = [j.ladder[j.from_rung].epochs if j.from_rung >= 0 else 0 for j in ends]
    return Result(
        way=way,
        seed=spec.seed,
        epochs=sum(j.ladder[j.to_rung].epochs - b for j, b in zip(ends, begun, strict=True)),
        trials=len(history.of_stage("search")),
        val_accuracy=best.value("val_accuracy"),
        test_accuracy=tested(spec, best, folder),
        wall_s=round(wall_s, 1),
    )


def tested(spec: Spec, trial: Trial, folder: Path) -> float:
    """Accuracy of a trained trial on the test files."""
    trainer = spec.search.trainer
    assert isinstance(trainer, Lightning)
    model = spec.space.build(trial.candidate, spec.data.signature())
    found = trainer.evaluate(model, folder / (trial.checkpoint or ""), *spec.data.load_test())
    return next(m.value for m in found if m.metric == "test_accuracy")


def table(results: Sequence[Result]) -> list[str]:
    """Mean and standard deviation of every way, and its gain over random search of the same seeds."""
    lines = [f"{'':16}{'validation %':>16}{'over random':>16}{'test %':>16}{'epochs':>8}{'wall s':>8}"]
    base = {r.seed: r for r in results if r.way == BASE}
    for way in dict.fromkeys(r.way for r in results):
        rows = [r for r in results if r.way == way]
        paired = [100 * (r.val_accuracy - base[r.seed].val_accuracy) for r in rows if r.seed in base]
        lines.append(
            f"{way:16}{_spread([100 * r.val_accuracy for r in rows]):>16}"
            f"{_spread(paired) if paired and way != BASE else '':>16}"
            f"{_spread([100 * r.test_accuracy for r in rows]):>16}"
            f"{statistics.mean(r.epochs for r in rows):>8.0f}{statistics.mean(r.wall_s for r in rows):>8.1f}"
        )
    return lines


def _spread(values: Sequence[float]) -> str:
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} +- {sd:.2f}"


def study(given: argparse.Namespace, folder: Path) -> list[Result]:
    """Run all searches, one after the other."""
    path = folder / "pbt.yaml"
    path.write_text(SPEC)
    results = []
    for seed in given.seeds:
        for way in given.ways:
            spec, raw = specs.read(path, assignments(way, seed, given))
            spec.data.check()
            home = folder / f"{way.replace(', ', '-')}-{seed}"
            history, wall = search(spec, raw, home)
            results.append(judge(way, spec, history, home / history.run_id, wall))
            last = results[-1]
            found = f"validation {last.val_accuracy:.4f}, test {last.test_accuracy:.4f}"
            print(f"{way}, seed {seed}: {found}, {last.wall_s} s", file=sys.stderr, flush=True)
    return results


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="what to compare")
    found.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds of the specs")
    found.add_argument("--population", type=int, default=12, help="trials that are trained together")
    found.add_argument("--epochs", type=int, default=16, help="epochs of a whole training")
    found.add_argument("--rungs", type=int, default=8, help="segments of a whole training under pbt")
    found.add_argument(
        "--examples", type=int, default=5000, help="of the training files, validation included"
    )
    found.add_argument("--workers", type=int, default=2, help="segments that run at the same time")
    return studies.with_places(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study and print its table; the exit status."""
    given = parser().parse_args(arguments)
    if given.epochs % given.rungs:
        print(f"--epochs {given.epochs} is no multiple of --rungs {given.rungs}; change one", file=sys.stderr)
        return 2
    return studies.told(study, table, given, {"examples": given.examples})[0]


if __name__ == "__main__":
    sys.exit(main())
