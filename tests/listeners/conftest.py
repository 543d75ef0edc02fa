"""Synthetic runs for the tests of listeners: events as a controller would write them, at made-up times."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers.mlflow import database
from ziggurat.domain import (
    Candidate,
    Failure,
    FailureKind,
    Fidelity,
    Goal,
    Job,
    JobKind,
    Measurement,
    Objective,
    RunStatus,
    TrialStatus,
)
from ziggurat.events import (
    Body,
    Event,
    Measured,
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
from ziggurat.listeners import Tracking
from ziggurat.listeners.mlflow_client import Place, connect, experiment_id, place_of

START = 1_700_000_000.0
OBJECTIVES = (
    Objective("val_accuracy", Goal.MAXIMIZE, 0.1),
    Objective("parameters", Goal.MINIMIZE, 10_000),
)


class Run:
    """A run under construction; `clock` is advanced by hand."""

    objectives = OBJECTIVES

    def __init__(self, run_id: str = "toy-1") -> None:
        self.run_id = run_id
        self.clock = START
        self.events: list[Event] = []
        self.history = History()

    def add(self, *bodies: Body) -> list[Event]:
        """Append events at the present time."""
        new = []
        for body in bodies:
            event = Event(len(self.events), self.clock, self.run_id, body)
            self.events.append(event)
            self.history.apply(event)
            new.append(event)
        return new

    def begin(self, *, resumed: bool = False) -> None:
        """The run and its search stage start."""
        self.add(RunStarted("toy", "0", "a" * 64, resumed), StageStarted("search"))

    def propose(
        self, number: int, width: int = 8, parameters: float = 500, rungs: int = 1, stage: str = "search"
    ) -> None:
        """A trial appears."""
        ladder = tuple(Fidelity(3**r) for r in range(1, rungs + 1))
        static = (Measurement("parameters", parameters),)
        candidate = Candidate({"width": width, "activation": "relu"})
        self.add(TrialProposed(number, number, stage, candidate, number, ladder, static=static))

    def plan(self, number: int, rung: int = 0, forecast_s: float = 10.0) -> str:
        """A segment of a trial is planned and started."""
        trial = self.history.trials[number]
        job = Job(
            f"{number:05d}-r{rung}-a{trial.attempt}",
            JobKind.TRAIN,
            trial.stage,
            number,
            trial.candidate,
            trial.ladder,
            rung - 1,
            rung,
        )
        self.add(SegmentPlanned(job, forecast_s, forecast_s / 3600), SegmentStarted(job.key, number, "pid:1"))
        return job.key

    def train(
        self, number: int, accuracy: float = 0.9, rung: int = 0, seconds: float = 10.0, cost_usd: float = 0.01
    ) -> None:
        """A segment runs to its end, with a point of the curve after every epoch."""
        key, started = self.plan(number, rung), self.clock
        epochs = self.history.trials[number].ladder[rung].epochs
        begin = 0 if rung == 0 else self.history.trials[number].ladder[rung - 1].epochs
        for epoch in range(begin + 1, epochs + 1):
            self.clock = started + seconds * ((epoch - begin) / (epochs - begin))
            value = Measurement("val_accuracy", accuracy * (epoch / epochs), step=epoch)
            self.add(Measured(key, number, 0, epoch, (value,)))
        final = Measurement("val_accuracy", accuracy, step=epochs)
        self.add(SegmentFinished(key, number, seconds, cost_usd, measurements=(final,), checkpoint="c.pt"))

    def fail(self, number: int, kind: FailureKind = FailureKind.DIVERGED) -> None:
        """A trial fails for good."""
        key = self.plan(number)
        failure = Failure(kind, "loss is NaN after epoch 2")
        self.clock += 1
        self.add(SegmentFinished(key, number, 1.0, 0.001, failure=failure))
        self.add(TrialEnded(number, TrialStatus.FAILED, failure))

    def end(self, status: RunStatus = RunStatus.COMPLETED) -> None:
        """The search stage and the run finish."""
        self.add(StageFinished("search", "ok"), RunFinished(status))

    def feed(self, *listeners: Callable[[Event, History], None], since: int = 0) -> None:
        """Give the events to listeners as a controller does."""
        history = History()
        for event in self.events:
            history.apply(event)
            if event.seq >= since:
                for listener in listeners:
                    listener(event, history)


@pytest.fixture
def run() -> Run:
    """An empty run."""
    return Run()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An MLflow database that is shared by all tests."""
    folder = tmp_path_factory.mktemp("mlflow")
    database(folder, tmp_path_factory.getbasetemp().parent)
    found = place_of(Tracking(), folder, "toy")
    experiment_id(connect(found), found)
    return found
