"""How large a report is and how long it takes to write, for made-up searches of many sizes.

Each search has 24 choices, three objectives, three rungs, a random baseline of a tenth and three retrained
architectures with three seeds. The page is held against the drawing library inside it as it is distributed.

    python benchmarks/report_size.py [--trials 100 300 1000] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ziggurat import choices
from ziggurat.domain import Candidate, Fidelity, Job, JobKind, Measurement, Recipe
from ziggurat.events import Body, Decided, Event, RunStarted, SegmentFinished, SegmentPlanned, TrialProposed
from ziggurat.history import History
from ziggurat.report import ReportFacts, write_report
from ziggurat.report.summary import front_rows
from ziggurat.spec import Spec, parse

LADDER = (Fidelity(3), Fidelity(9), Fidelity(27))
LAYERS, START = 8, 1_790_000_000.0
SPEC: dict[str, Any] = {
    "name": "report-size",
    "space": {
        "kind": "mlp",
        "depth": {"min": 2, "max": LAYERS},
        "width": [16, 32, 64, 128],
        "dropout": {"min": 0.0, "max": 0.4, "step": 0.1},
        "norm": ["none", "batch"],
        "per_layer": ["width", "dropout"],
        "hyperparameters": {
            "learning_rate": {"min": 1e-4, "max": 0.06, "log": True},
            "batch_size": [32, 64, 128],
            "weight_decay": {"min": 1e-6, "max": 1e-2, "log": True},
            "label_smoothing": {"min": 0.0, "max": 0.2, "step": 0.05},
            "ema_decay": {"min": 0.9, "max": 0.999},
        },
    },
    "objectives": [
        {"metric": "val_accuracy", "reference": 0.5},
        {"metric": "parameters", "reference": 200_000},
        {"metric": "latency_p50_ms", "reference": 2.0, "limit": 1.5},
    ],
    "fidelities": [{"epochs": f.epochs} for f in LADDER],
    "search": {"trials": 100},
    "budget": {"limit_usd": 100.0},
}


class Story:
    """A made-up run, told event by event."""

    def __init__(self, spec: Spec, seed: int = 0) -> None:
        """Begin a run."""
        self.history, self.now = History(), START
        self._choices = spec.space.choices()
        self._rng = np.random.default_rng(seed)
        self._tell(RunStarted("report-size", "0", "0" * 64))

    def _tell(self, body: Body) -> None:
        self.history.apply(Event(self.history.length, self.now, "report-size", body))

    def trial(self, stage: str, candidate: Candidate | None = None, seed: int = 0) -> None:
        """A trial, to its top rung if it is good or not of the search."""
        drawn = choices.sample(self._choices, self._rng) if candidate is None else candidate
        number, index = len(self.history.trials), len(self.history.of_stage(stage))
        widths = [
            64.0,
            *(float(drawn.choices[f"width_{i + 1}"]) for i in range(int(drawn.choices["depth"]))),
            10.0,
        ]
        size = sum(a * b + b for a, b in pairwise(widths))
        latency = (0.05 + 0.03 * len(widths) + size / 4e5) * math.exp(self._rng.normal(0, 0.05))
        static = (
            Measurement("parameters", size),
            Measurement("latency_p50_ms", latency, "ms", device="local", spread=0.02 * latency, samples=100),
        )
        recipe = Recipe.RETRAIN if stage == "retrain" else Recipe.SEARCH
        self._tell(TrialProposed(number, index, stage, drawn, seed, LADDER, recipe, static))
        for rung, fidelity in enumerate(LADDER):
            accuracy = self._accuracy(drawn, size, fidelity.epochs)
            self._segment(number, rung, accuracy)
            if rung < len(LADDER) - 1:
                good = stage != "search" or accuracy > 0.72 + 0.06 * rung
                self._tell(Decided("stopper", "continue" if good else "pause", number, rung))
                if not good:
                    return

    def _accuracy(self, drawn: Candidate, size: float, epochs: int) -> float:
        off = math.log10(float(drawn.choices["learning_rate"])) + 2.3
        error = 0.02 + 0.15 * math.exp(3.4 - math.log10(size)) / 2.7 + 0.02 * off**2 + 0.3 / (epochs + 0.5)
        return float(np.clip(1 - error * math.exp(self._rng.normal(0, 0.1)), 0.1, 0.999))

    def _segment(self, number: int, rung: int, accuracy: float) -> None:
        trial = self.history.trials[number]
        key = f"{number:05d}-train-{rung}-0"
        job = Job(key, JobKind.TRAIN, trial.stage, number, trial.candidate, LADDER, trial.rung, rung)
        self._tell(SegmentPlanned(job, 10.0, 0.01))
        self.now += 5.0
        step = LADDER[rung].epochs
        found = (
            Measurement("val_accuracy", accuracy, step=step),
            Measurement("val_loss", 1 - accuracy, step=step),
        )
        self._tell(SegmentFinished(key, number, 9.0, 0.009, None, found, "last.ckpt"))


def told(spec: Spec, trials: int) -> History:
    """A search of so many trials, with its baseline and its retraining."""
    story = Story(spec)
    for _ in range(trials):
        story.trial("search")
    for _ in range(trials // 10):
        story.trial("baseline")
    rows = front_rows(spec.goals(), story.history)
    for row in rows[:: max(1, len(rows) // 3)][:3]:
        for seed in range(3):
            story.trial("retrain", row.candidate, seed)
    return story.history


def measure(trials: int) -> dict[str, float]:
    """Size of the report of a search, and what writing it takes."""
    from plotly.offline import get_plotlyjs

    spec = parse(SPEC, "report-size")
    history = told(spec, trials)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began, cpu = time.perf_counter(), time.process_time()
        write_report(folder, spec, history, utc=history.last_utc, facts=ReportFacts())
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
        page, beside = (folder / "index.html").stat().st_size, (folder / "report.json").stat().st_size
    return {
        "trials": trials,
        "segments": len(history.segments),
        "page_mb": page / 1e6,
        "page_to_library": page / len(get_plotlyjs()),
        "report_json_mb": beside / 1e6,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    given = parser.parse_args(arguments)
    measure(20)  # imports are not what is measured
    rows = [measure(trials) for trials in given.trials]
    print(f"{'trials':>7} {'page (MB)':>10} {'of plotly.js':>13} {'report.json (MB)':>17} {'CPU (s)':>8}")
    for row in rows:
        print(
            f"{row['trials']:>7} {row['page_mb']:>10.2f} {row['page_to_library']:>13.2f} "
            f"{row['report_json_mb']:>17.2f} {row['cpu_s']:>8.1f}"
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
