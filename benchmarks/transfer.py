"""Transfer against from scratch: the candidates of a backbone space trained both ways for as many epochs.

For each seed a candidate is drawn: channels, bits, blocks that are trained, hyperparameters. It is trained
with the weights of the spec, and again with `transfer: false`, which takes the same architecture, loads
nothing and freezes nothing. Seconds are of the processor, so that they mean the same on a busy machine; a
training runs on one thread. The test part is not looked at.

    python examples/backbone.py train examples/backbone.pt
    python benchmarks/transfer.py [SPEC] [--seeds 0 1 2] [--epochs 4] [--target 0.85] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from ziggurat import spec as specs
from ziggurat.budget import cost_usd
from ziggurat.choices import sample
from ziggurat.domain import Candidate, Fidelity, Job, JobKind, Measurement
from ziggurat.errors import SpecError
from ziggurat.protocols import Data
from ziggurat.spaces import Backbone
from ziggurat.spec import Spec
from ziggurat.trainers import Lightning

WAYS = {"transfer": True, "from scratch": False}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        way: Transfer or from scratch.
        seed: Of the candidate and the training.
        accuracies: On the validation part, from 0 to 1, after each epoch.
        seconds: Of the processor, after each epoch.
    """

    way: str
    seed: int
    accuracies: tuple[float, ...]
    seconds: tuple[float, ...]

    def reached(self, target: float) -> float | None:
        """Seconds until an accuracy; None if it is never reached."""
        return next((s for a, s in zip(self.accuracies, self.seconds, strict=True) if a >= target), None)


def trained(spec: Spec, data: Data, way: str, seed: int, epochs: int) -> Run:
    """Train the candidate of a seed in one way."""
    import torch

    space, trainer = spec.space, spec.search.trainer
    if not isinstance(space, Backbone) or not isinstance(trainer, Lightning):
        raise SpecError("the comparison is of a space of kind 'backbone' and a trainer of kind 'lightning'")
    drawn = sample(space.choices(), np.random.default_rng(seed))
    space = space.model_copy(update={"transfer": WAYS[way]})
    candidate = Candidate({n: v for n, v in drawn.choices.items() if n in space.choices()})
    torch.manual_seed(seed)
    model = space.build(candidate, data.signature)
    rows: list[tuple[float, float]] = []
    began = time.process_time()

    def report(measurements: Sequence[Measurement]) -> None:
        rows.extend(
            (m.value, time.process_time() - began) for m in measurements if m.metric == "val_accuracy"
        )

    job = Job(
        way, JobKind.TRAIN, "transfer", candidate=candidate, ladder=(Fidelity(epochs),), to_rung=0, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer.train(model, job, data, report, Path(folder), None)
    return Run(way, seed, tuple(a for a, _ in rows), tuple(s for _, s in rows))


def spread(values: Sequence[float], form: str) -> str:
    """Mean and sample deviation; a dash without values."""
    if not values:
        return "–"
    deviation = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation}"


def table(runs: Sequence[Run], target: float, usd_per_hour: float) -> str:
    """A row for each way: when the target was reached, how far it got, what it cost."""
    lines = [
        f"| way | runs that reach {target:.0%} | seconds until then | accuracy after 1 epoch | at the end "
        "| seconds | USD |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for way in WAYS:
        mine = [r for r in runs if r.way == way]
        reached = [s for r in mine if (s := r.reached(target)) is not None]
        seconds = [r.seconds[-1] for r in mine]
        cells = [
            way,
            f"{len(reached)} of {len(mine)}",
            spread(reached, ".1f"),
            spread([100 * r.accuracies[0] for r in mine], ".1f") + " %",
            spread([100 * r.accuracies[-1] for r in mine], ".1f") + " %",
            spread(seconds, ".1f"),
            spread([cost_usd(s, usd_per_hour) for s in seconds], ".5f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print a row for each way, and write all numbers if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("spec", nargs="?", type=Path, default=Path("examples/lastmile.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--target", type=float, default=0.85)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    try:
        spec, _ = specs.read(given.spec)
        data = spec.data.load()
        runs = []
        for seed in given.seeds:
            for way in WAYS:
                runs.append(trained(spec, data, way, seed, given.epochs))
                print(f"seed {seed}, {way}: {runs[-1].accuracies}", file=sys.stderr, flush=True)
    except SpecError as error:
        sys.exit(f"transfer: {error}")
    print(f"{len(given.seeds)} candidates, {given.epochs} epochs on {len(data.train_y)} examples\n")
    print(table(runs, given.target, spec.launcher.usd_per_hour))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(r) for r in runs]))


if __name__ == "__main__":
    main()
