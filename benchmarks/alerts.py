"""What the rules of alerts cost per tick while a search grows to thousands of trials.

python -m benchmarks.alerts --trials 5000

The run is made up: every trial is trained to two rungs and tells its use of the processor, one in twenty
fails, eight run at the same time, and a tick comes every second of the run's time. Listening to an event is
counted too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

# so that it also runs as `python benchmarks/alerts.py`
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ziggurat import choices as space
from ziggurat.budget import Budget, Ledger
from ziggurat.domain import (
    Failure,
    FailureKind,
    Fidelity,
    Goal,
    Job,
    JobKind,
    Measurement,
    Objective,
    TrialStatus,
)
from ziggurat.events import (
    Body,
    Event,
    RunStarted,
    SegmentFinished,
    SegmentPlanned,
    SegmentStarted,
    StageStarted,
    TrialEnded,
    TrialProposed,
)
from ziggurat.history import History
from ziggurat.listeners.alerts import Alerts, Digest, Watch, due

OBJECTIVES = (
    Objective("val_accuracy", Goal.MAXIMIZE, 0.1),
    Objective("parameters", Goal.MINIMIZE, 1e6),
    Objective("latency_ms", Goal.MINIMIZE, 100.0),
)
CHOICES = {f"layer{i}": space.Values(values=[8, 16, 32, 64]) for i in range(20)}
LADDER = (Fidelity(1), Fidelity(3))
WORKERS = 8
SEGMENT_S = 12.0
USAGE = {"cpu_utilisation": 0.9, "memory_mb": 500.0}


def story(trials: int, rng: np.random.Generator) -> Iterator[tuple[float, Body]]:
    """Events of a search with their times, in groups that end at the same moment."""
    yield 0.0, RunStarted("toy", "0", "a" * 64)
    yield 0.0, StageStarted("search")
    now = 0.0
    for first in range(0, trials, WORKERS):
        numbers = range(first, min(first + WORKERS, trials))
        for number in numbers:
            static = (Measurement("parameters", 1e4 + 9e5 * rng.random()),)
            candidate = space.sample(CHOICES, rng)
            yield now, TrialProposed(number, number, "search", candidate, 0, LADDER, static=static)
        for rung in range(len(LADDER)):
            keys = {n: f"{n:05d}-r{rung}-0" for n in numbers if rung == 0 or n % 20}
            for number, key in keys.items():
                job = Job(key, JobKind.TRAIN, "search", number, None, LADDER, rung - 1, rung)
                yield now, SegmentPlanned(job, SEGMENT_S, 0.01)
                yield now, SegmentStarted(key, number, "pid:1")
            now += SEGMENT_S
            for number, key in keys.items():
                yield now, _end(key, number, rung, rng)
                if rung == 0 and number % 20 == 0:
                    failure = Failure(FailureKind.DIVERGED, "loss is NaN")
                    yield now, TrialEnded(number, TrialStatus.FAILED, failure)


def _end(key: str, number: int, rung: int, rng: np.random.Generator) -> SegmentFinished:
    if number % 20 == 0:
        return SegmentFinished(key, number, SEGMENT_S, 0.01, Failure(FailureKind.DIVERGED, "loss is NaN"))
    found = (
        Measurement("val_accuracy", float(rng.random()), step=LADDER[rung].epochs),
        Measurement("latency_ms", 1 + 50 * float(rng.random())),
    )
    return SegmentFinished(key, number, SEGMENT_S, 0.01, measurements=found, usage=USAGE)


def measure(trials: int, seed: int = 0) -> dict[str, float]:
    """CPU milliseconds for a tick and microseconds for an event, over a whole run."""
    settings = Alerts()
    history = History()
    digest = Digest(settings.outline(OBJECTIVES, ("search",), lambda _: CHOICES))
    watch = Watch(workers=WORKERS, budget=Budget(limit_usd=1e6), ledger=Ledger(0, 0, 0, 1e6))
    ticks: list[float] = []
    events = alerts = 0
    heard_s = ticked = 0.0
    for utc, body in [*story(trials, np.random.default_rng(seed))]:
        while ticked + 1.0 <= utc:
            ticked += 1.0
            begun = time.process_time()
            usage = dict.fromkeys(history.open_segments, USAGE)
            elapsed = {k: ticked - (s.started_utc or 0.0) for k, s in history.open_segments.items()}
            digest.sample(ticked, usage, elapsed)
            found = due(history, digest, ticked, settings, replace(watch, elapsed=elapsed))
            ticks.append(time.process_time() - begun)
            alerts += len(found)
            for alert in found:
                event = Event(events, ticked, "toy", alert)
                events += 1
                history.apply(event)
                digest(event, history)
        event = Event(events, utc, "toy", body)
        events += 1
        history.apply(event)
        begun = time.process_time()
        digest(event, history)
        heard_s += time.process_time() - begun
    late = ticks[-1000:]
    return {
        "trials": trials,
        "ticks": len(ticks),
        "mean_ms": 1e3 * sum(ticks) / len(ticks),
        "mean_of_last_1000_ms": 1e3 * sum(late) / len(late),
        "p99_ms": 1e3 * sorted(ticks)[int(0.99 * len(ticks))],
        "longest_ms": 1e3 * max(ticks),
        "event_us": 1e6 * heard_s / events,
        "alerts": alerts,
    }


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5000)
    print(json.dumps(measure(parser.parse_args().trials), indent=2))


if __name__ == "__main__":
    main()
