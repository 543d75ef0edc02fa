"""Histories of made-up runs, built by applying events as a controller would."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import pytest

from ziggurat.domain import (
    Candidate,
    Failure,
    FailureKind,
    Fidelity,
    Job,
    JobKind,
    Measurement,
    Recipe,
    RunStatus,
    TrialStatus,
    Value,
)
from ziggurat.events import (
    Alert,
    Body,
    Decided,
    Event,
    RunFinished,
    RunStarted,
    SegmentFinished,
    SegmentPlanned,
    SegmentStarted,
    StageFinished,
    StageStarted,
    TrialEnded,
    TrialProposed,
)
from ziggurat.history import History
from ziggurat.report.summary import front_rows
from ziggurat.spec import Spec, parse

LADDER = (Fidelity(3), Fidelity(9), Fidelity(27))
FULL = (Fidelity(20), Fidelity(40), Fidelity(60))
START = 1_790_000_000.0


def unit(metric: str) -> str:
    return "ms" if metric.split("@", maxsplit=1)[0].endswith("_ms") else "1"


class Story:
    """A run that is told event by event; time goes on by what segments take, shared by the workers."""

    def __init__(self, workers: int = 2, usd_per_hour: float = 0.5) -> None:
        self.history = History()
        self.now = START
        self.workers = workers
        self.price = usd_per_hour
        self.tell(RunStarted("digits", "0.1.0", "0" * 64))

    def tell(self, body: Body) -> None:
        self.history.apply(Event(self.history.length, self.now, "digits-20260921T141320Z-1f2e3d4c", body))

    def begin(self, stage: str) -> None:
        self.tell(StageStarted(stage))

    def end(self, stage: str, verdict: str = "ok", **summary: object) -> None:
        self.tell(StageFinished(stage, verdict, summary))  # type: ignore[arg-type]

    def propose(
        self,
        candidate: Mapping[str, Value],
        static: Mapping[str, float] | None = None,
        *,
        stage: str = "search",
        seed: int = 0,
        ladder: tuple[Fidelity, ...] = LADDER,
    ) -> int:
        number = len(self.history.trials)
        known = tuple(Measurement(m, v, unit(m)) for m, v in (static or {}).items())
        recipe = Recipe.RETRAIN if stage == "retrain" else Recipe.SEARCH
        index = len(self.history.of_stage(stage))
        self.tell(TrialProposed(number, index, stage, Candidate(candidate), seed, ladder, recipe, known))
        return number

    def segment(
        self,
        trial: int,
        rung: int,
        seconds: float = 10.0,
        *,
        kind: JobKind = JobKind.TRAIN,
        stage: str | None = None,
        failure: Failure | None = None,
        spread: float | None = None,
        **found: float,
    ) -> None:
        known = self.history.trials[trial]
        key = f"t{trial}-{kind}-{rung}-{len(self.history.segments)}"
        job = Job(key, kind, stage or known.stage, trial, known.candidate, known.ladder, known.rung, rung)
        cost = seconds * self.price / 3600
        self.tell(SegmentPlanned(job, seconds * 1.1, cost * 1.1))
        self.tell(SegmentStarted(key, trial, "w0"))
        self.now += seconds / self.workers * 1.06
        step = known.ladder[rung].epochs if kind is JobKind.TRAIN else None
        numbers = tuple(Measurement(m, v, unit(m), step, spread=spread) for m, v in found.items())
        self.tell(
            SegmentFinished(key, trial, seconds, cost, failure, numbers, None if failure else "last.ckpt")
        )

    def decide(self, trial: int, verdict: str, rung: int) -> None:
        self.tell(Decided("stopper", verdict, trial, rung))

    def fail(self, trial: int, kind: FailureKind, text: str) -> None:
        failure = Failure(kind, text)
        self.segment(trial, 0, 2.0, failure=failure)
        self.tell(TrialEnded(trial, TrialStatus.FAILED, failure))

    def finish(self, status: RunStatus, reason: str = "") -> None:
        self.tell(RunFinished(status, reason))

    def complete(
        self, candidate: Mapping[str, Value], *, stage: str = "search", cost_s: float = 30.0, **found: float
    ) -> int:
        """A trial that goes straight to the top rung with these values."""
        number = self.propose(candidate, stage=stage)
        self.segment(number, len(LADDER) - 1, cost_s, **found)
        return number


def draw(rng: np.random.Generator) -> dict[str, Value]:
    depth = int(rng.integers(1, 4))
    chosen: dict[str, Value] = {
        "depth": depth,
        "batch_size": 64,
        "norm": "none",
        "activation": str(rng.choice(["relu", "gelu", "silu"])),
    }
    chosen |= {f"width_{i + 1}": int(rng.choice([8, 16, 32, 64, 128])) for i in range(depth)}
    return chosen | {
        "learning_rate": float(f"{10 ** rng.uniform(-4, -1.3):.6g}"),
        "dropout": round(float(rng.uniform(0, 0.5)), 3),
    }


def parameters(candidate: Mapping[str, Value]) -> float:
    widths = [64, *(int(candidate[f"width_{i + 1}"]) for i in range(int(candidate["depth"]))), 10]
    return float(sum(a * b + b for a, b in pairwise(widths)))


def skill(candidate: Mapping[str, Value], epochs: float, rng: np.random.Generator) -> float:
    size = math.log10(parameters(candidate))
    off = abs(math.log10(float(candidate["learning_rate"])) + 2.3)
    error = (
        0.01
        + 0.35 * math.exp(-2.2 * (size - 2.8))
        + 0.035 * off**2
        + 0.3 / (epochs + 0.5)
        + 0.01 * float(candidate["dropout"])
    )
    return float(np.clip(1 - error * math.exp(rng.normal(0, 0.12)), 0.1, 0.998))


def latency(candidate: Mapping[str, Value], rng: np.random.Generator) -> float:
    return float(
        (0.05 + 0.03 * int(candidate["depth"]) + parameters(candidate) / 4e5) * math.exp(rng.normal(0, 0.05))
    )


def search(story: Story, trials: int, rng: np.random.Generator, stage: str = "search") -> None:
    """Trials of promotion ASHA, with a failure now and then."""
    for i in range(trials):
        candidate = draw(rng)
        static = {"parameters": parameters(candidate), "latency_p50_ms": latency(candidate, rng)}
        number = story.propose(candidate, static, stage=stage)
        if i % 17 == 11:
            kind = FailureKind.DIVERGED if i % 2 else FailureKind.OUT_OF_MEMORY
            story.fail(number, kind, f"loss became NaN at epoch 2 (lr {candidate['learning_rate']})")
            continue
        for rung, fidelity in enumerate(LADDER):
            accuracy = skill(candidate, fidelity.epochs, rng)
            seconds = 1.1 * (fidelity.epochs - (LADDER[rung - 1].epochs if rung else 0))
            story.segment(number, rung, seconds, val_accuracy=accuracy, val_loss=2 * (1 - accuracy))
            if rung + 1 < len(LADDER):
                good = accuracy > 0.80 + 0.07 * rung + rng.normal(0, 0.06)
                story.decide(number, "continue" if good else "pause", rung)
                if not good:
                    break


def retrain(story: Story, numbers: list[int], rng: np.random.Generator, seeds: int = 2) -> None:
    story.begin("retrain")
    made = []
    for number in numbers:
        candidate = story.history.trials[number].candidate.choices
        for seed in range(seeds):
            trial = story.propose(
                candidate, {"parameters": parameters(candidate)}, stage="retrain", seed=seed, ladder=FULL
            )
            made.append(trial)
            for rung, fidelity in enumerate(FULL):
                accuracy = skill(candidate, 3 * fidelity.epochs, rng)
                story.segment(trial, rung, 18.0, val_accuracy=accuracy, val_loss=1 - accuracy)
    story.end("retrain")
    story.begin("measure")
    for trial in made:
        candidate = story.history.trials[trial].candidate.choices
        story.segment(
            trial,
            2,
            0.4,
            kind=JobKind.EVALUATE,
            stage="measure",
            test_accuracy=skill(candidate, 180, rng) - 0.004,
        )
        middle = latency(candidate, rng)
        for device in ("laptop", "edge"):
            slow = middle * (1 if device == "laptop" else 6.5)
            numbers_found = {
                f"latency_p50_ms@{device}": slow,
                f"latency_p90_ms@{device}": slow * 1.12,
                f"latency_p99_ms@{device}": slow * 1.4,
                f"latency_noise@{device}": 0.04 if device == "laptop" else 0.17,
            }
            story.segment(
                trial, 2, 1.2, kind=JobKind.PROFILE, stage="measure", spread=0.02 * slow, **numbers_found
            )
    story.end("measure", looks=len(made))


def whole(trials: int = 60, *, baseline: int = 0, retrained: int = 3) -> Story:
    """A run through all stages."""
    rng = np.random.default_rng(7)
    story = Story()
    story.begin("preflight")
    story.now += 1.4
    story.end("preflight", checks=9, failed=[])
    story.begin("validate")
    for i in range(6):
        number = story.propose(draw(rng), stage="validate", ladder=(Fidelity(3, 0.5), Fidelity(27)))
        story.segment(number, 0, 2.0, val_accuracy=0.5 + 0.05 * i)
    facts = {"tau": 0.62, "low": 0.31, "high": 0.84, "candidates": 6}
    story.tell(Decided("gate", "passed", reason="upper end above the gate", facts=facts))
    story.end("validate", probes=12, best_val_accuracy=0.83)
    if baseline:
        story.begin("baseline")
        search(story, baseline, rng, "baseline")
        story.end("baseline")
    story.begin("search")
    search(story, trials, rng)
    story.end("search", trials=trials)
    story.tell(
        Alert("slow-t31", "warning", "Trial 31 took 2.4 times its forecast", "12.1 s instead of 5.0 s")
    )
    goals = spec().goals()
    rows = front_rows(goals, story.history)
    if retrained:
        picks = [
            rows[i].trial
            for i in np.linspace(0, len(rows) - 1, min(retrained, len(rows))).round().astype(int)
        ]
        retrain(story, list(dict.fromkeys(picks)), rng)
    story.begin("report")
    return story


OBJECTIVES: list[dict[str, object]] = [
    {"metric": "val_accuracy", "reference": 0.5, "limit": 0.8},
    {"metric": "parameters", "reference": 40_000},
    {"metric": "latency_p50_ms", "reference": 0.5, "limit": 0.3},
    {"metric": "val_loss", "reference": 2.0},
]


SPACE: dict[str, object] = {
    "kind": "mlp",
    "depth": {"min": 1, "max": 3},
    "width": [8, 16, 32, 64, 128],
    "dropout": {"min": 0.0, "max": 0.5},
    "activation": ["relu", "gelu", "silu"],
    "norm": ["none"],
    "hyperparameters": {"learning_rate": {"min": 1e-4, "max": 0.06, "log": True}, "batch_size": [64]},
}


def spec(count: int = 3, **changes: object) -> Spec:
    plain: dict[str, object] = {
        "name": "digits",
        "space": SPACE,
        "objectives": OBJECTIVES[:count],
        "fidelities": [{"epochs": 3}, {"epochs": 9}, {"epochs": 27}],
        "search": {"trials": 60},
        "devices": [{"name": "laptop"}, {"name": "edge", "threads": 2}],
        "budget": {"plan_usd": 0.25, "limit_usd": 0.4},
    }
    return parse(plain | changes, "test")


@pytest.fixture
def make_spec() -> Callable[..., Spec]:
    return spec


@pytest.fixture
def make_story() -> Callable[..., Story]:
    return Story


@pytest.fixture
def make_whole() -> Callable[..., Story]:
    return whole


@pytest.fixture(scope="session")
def told() -> History:
    """A completed run with 60 trials, a random baseline and three retrained models; to be read only."""
    return whole(60, baseline=25).history


@pytest.fixture
def make_search() -> Callable[..., None]:
    return search
