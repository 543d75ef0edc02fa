"""Builders for tests: a small space, and histories made by applying real events."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ziggurat import choices as space
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
    Proposal,
    Trial,
    TrialStatus,
)
from ziggurat.events import (
    Body,
    Decided,
    Event,
    SegmentFinished,
    SegmentPlanned,
    StageStarted,
    TrialEnded,
    TrialProposed,
)
from ziggurat.history import History
from ziggurat.protocols import Context, Forecast

ACCURACY = Objective("val_accuracy", Goal.MAXIMIZE, reference=0.2)
PARAMETERS = Objective("parameters", Goal.MINIMIZE, reference=1000.0)
LADDER = (Fidelity(1), Fidelity(3), Fidelity(9))
CHOICES = {
    "width": space.Range(min=4, max=64, log=True),
    "rate": space.Range(min=1e-4, max=1e-1, log=True),
    "depth": space.Values(values=[1, 2, 3]),
    "activation": space.Values(values=["relu", "tanh"]),
    "second": space.Range(min=4, max=64, when={"depth": [2, 3]}),
}
"""A mixed space: whole and continuous, logarithmic, unordered and conditional choices."""


def parameters_of(candidate: Candidate) -> float:
    """A size that follows from the candidate alone."""
    return float(candidate.choices.get("width", 1)) * 10 + float(candidate.choices.get("second", 0))


def static_parameters(candidates: Sequence[Candidate]) -> list[Mapping[str, float]]:
    """The static metrics of candidates: their size."""
    return [{"parameters": parameters_of(c)} for c in candidates]


@dataclass
class Story:
    """A history that grows by applying events, and the contexts a strategy would see.

    Attributes:
        ladder: Fidelities of its trials.
        stage: Stage of its trials.
        history: What has happened so far.
        events: The events it is the fold of, as they would stand in a journal.
    """

    ladder: tuple[Fidelity, ...] = LADDER
    stage: str = "search"
    history: History = field(default_factory=History)
    events: list[Event] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        """Begin the stage."""
        self.add(StageStarted(self.stage))

    def add(self, body: Body) -> None:
        """Apply one event."""
        self.events.append(Event(self.history.length, float(self.history.length), "test", body))
        self.history.apply(self.events[-1])

    def trial(self, number: int) -> Trial:
        """A trial as it stands."""
        return self.history.trials[number]

    def propose(self, proposal: Proposal | Candidate, static: Mapping[str, float] | None = None) -> int:
        """Make a trial of a candidate; its number is returned."""
        if isinstance(proposal, Candidate):
            proposal = Proposal(proposal)
        number, index = len(self.history.trials), len(self.history.of_stage(self.stage))
        known = tuple(Measurement(name, value) for name, value in (static or {}).items())
        self.add(
            TrialProposed(
                number,
                index,
                self.stage,
                proposal.candidate,
                0,
                self.ladder,
                static=known or proposal.static,
                parent=proposal.parent,
                origin=proposal.origin,
            )
        )
        return number

    def start(self, number: int) -> Job:
        """Plan the trial's next segment."""
        trial = self.trial(number)
        key = f"{number}-{trial.rung + 1}-{self.history.length}"
        job = Job(
            key, JobKind.TRAIN, self.stage, number, trial.candidate, trial.ladder, trial.rung, trial.rung + 1
        )
        self.add(SegmentPlanned(job, 1.0, 0.0))
        return job

    def finish(self, number: int, **metrics: float) -> Trial:
        """Train the trial up to its next rung with these results."""
        job = self.start(number)
        epochs = self.ladder[job.to_rung].epochs
        found = tuple(Measurement(name, value, step=epochs) for name, value in metrics.items())
        path = f"trials/{number:05d}/rung-{job.to_rung}.ckpt"
        self.add(SegmentFinished(job.key, number, 1.0, 0.0, measurements=found, checkpoint=path))
        return self.trial(number)

    def fail(self, number: int, kind: FailureKind = FailureKind.DIVERGED) -> Trial:
        """Let the trial's next segment fail, and the trial with it."""
        job = self.start(number)
        failure = Failure(kind, "told to")
        self.add(SegmentFinished(job.key, number, 1.0, 0.0, failure=failure))
        self.add(_failed(number, failure))
        return self.trial(number)

    def verdict(self, number: int, verdict: str) -> Trial:
        """Record a stopper's decision: continue, pause or stop."""
        self.add(Decided("stopper", verdict, number, self.trial(number).rung))
        return self.trial(number)

    def context(self, **changes: Any) -> Context:  # noqa: ANN401 - any field of a context
        """What a strategy sees now; the generator belongs to the seed 0 and the next trial, as in a run."""
        plain: dict[str, Any] = {
            "choices": CHOICES,
            "objectives": (ACCURACY, PARAMETERS),
            "history": self.history,
            "stage": self.stage,
            "ladder": self.ladder,
            "static": static_parameters,
            "forecast": lambda candidate, low, high: Forecast(1.0, 0.0),  # noqa: ARG005 - same for all
            "rng": np.random.default_rng([0, len(self.history.of_stage(self.stage))]),
            "trials": 40,
            "chance": {"val_accuracy": 0.1},
        }
        return Context(**{**plain, **changes})


def _failed(number: int, failure: Failure) -> TrialEnded:
    return TrialEnded(number, TrialStatus.FAILED, failure=failure)


def search(
    searcher: Any,  # noqa: ANN401 - any searcher
    count: int,
    outcome: Callable[[Candidate], Mapping[str, float]],
    **changes: Any,  # noqa: ANN401 - any field of a context
) -> Story:
    """A story in which a searcher's proposals are trained to the only rung until it has `count` trials."""
    story = Story(ladder=(Fidelity(1),))
    while len(story.history.trials) < count:
        context = story.context(trials=count, **changes)
        wanted = min(getattr(searcher, "batch", 1), count - len(story.history.trials))
        proposals = searcher.propose_batch(context, wanted)
        if not proposals:
            return story
        for proposal in proposals:
            number = story.propose(proposal, context.static([proposal.candidate])[0])
            values = outcome(proposal.candidate)
            if any(not math.isnan(v) for v in values.values()):
                story.finish(number, **values)
            else:
                story.fail(number)
    return story
