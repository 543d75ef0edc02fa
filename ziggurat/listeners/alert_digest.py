"""What rules of alerts ask of a run, kept event by event, so that asking costs the same however long it is.

It is a fold of the events, like the history: a resumed run that reads its journal has the same. Only what
running jobs tell of their use of machines is not in the journal.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ziggurat import choices as space
from ziggurat.answers import blameless
from ziggurat.choices import Choices
from ziggurat.diversity import Recent, mean_distance
from ziggurat.domain import JobKind, Objective, RunStatus, Trial, TrialStatus
from ziggurat.events import (
    Alert,
    Amended,
    Charged,
    Decided,
    Event,
    RunFinished,
    RunStarted,
    SegmentFinished,
    SegmentStarted,
    StageFinished,
    StageStarted,
    TrialEnded,
    TrialProposed,
)
from ziggurat.history import History
from ziggurat.listeners.alert_load import Load, Use
from ziggurat.listeners.improvement import Growth, Mark

SAMPLE = 200
"""Random candidates whose mean distance others are compared with."""
KEPT = frozenset({"budget", "subset", "gate", "approval"})
"""Kinds of decisions that rules are about."""


@dataclass(frozen=True)
class Outline:
    """What is known of a run beforehand.

    Attributes:
        objectives: Objectives in the order of the spec.
        searching: Stages that search, in order.
        choices: The choices of a stage's space.
        horizon_s: The longest window over which the load of the workers is asked for.
        use_s: The window over which their use of machines is asked for.
        candidates: How many of the last candidates are compared with one another.
        trials: Of how many of the last trials failures are counted.
    """

    objectives: tuple[Objective, ...]
    searching: tuple[str, ...] = ("search",)
    choices: Callable[[str], Choices] = lambda _: {}
    horizon_s: float = 600.0
    use_s: float = 600.0
    candidates: int = 20
    trials: int = 20


@dataclass(frozen=True)
class Standing:
    """An alert that is raised: its latest form, when it was first raised, and when last."""

    alert: Alert
    first_utc: float
    last_utc: float


class Digest:
    """The fold; call it with every event, in order.

    Attributes:
        standing: Alerts that are raised and not over, by key.
        crashes: From when to when the run had no controller since one had died.
        decisions: Decisions of the kinds that rules are about, with their times, oldest first.
        ends: When each stage ended last, and how.
        amended_utc: When the budget was last changed.
        finish: When and how the run ended; None while it goes on.
        spent_usd: Money spent.
        use: What trainings use of their machines.
    """

    def __init__(self, outline: Outline) -> None:
        """Nothing has happened yet."""
        self._outline = outline
        self.standing: dict[str, Standing] = {}
        self.crashes: list[tuple[float, float]] = []
        self.decisions: list[tuple[float, Decided]] = []
        self.ends: dict[str, tuple[float, StageFinished]] = {}
        self.finish: tuple[float, RunFinished] | None = None
        self.spent_usd = self.amended_utc = 0.0
        self.use = Use(outline.use_s)
        self._working, self._alone = Load(outline.horizon_s), Load(outline.horizon_s)
        self._running: dict[str, JobKind] = {}
        self._active_s = self._last_utc = 0.0
        self._growth: dict[str, Growth] = {}
        self._begun: dict[str, float] = {}
        self._recent: dict[str, Recent] = {}
        self._proposed: Counter[str] = Counter()
        self._random: dict[str, float] = {}
        self._outcomes: deque[int] = deque()
        self._failed: dict[int, bool] = {}

    def __call__(self, event: Event, history: History) -> None:
        """Take one more event into account; the history contains it already, and may be ahead of it."""
        body = event.body
        if isinstance(body, RunStarted):
            self._take(body, event.utc)
        else:
            self._pass(event.utc)
        handle = _HANDLERS.get(type(body))
        if handle is not None:
            handle(self, body, event.utc, history)

    def _pass(self, utc: float) -> None:
        """Let time go by in which somebody drives the run."""
        if self._running:
            self._active_s += max(0.0, utc - self._last_utc)
        self._last_utc = max(self._last_utc, utc)

    def _take(self, body: RunStarted, utc: float) -> None:
        if body.resumed and self.finish is None and self._last_utc:
            self.crashes.append((self._last_utc, utc))
        self._last_utc, self.finish = max(self._last_utc, utc), None

    def _finish(self, body: RunFinished, utc: float, _: History) -> None:
        self.finish = utc, body

    def _begin(self, body: StageStarted, utc: float, _: History) -> None:
        self.ends.pop(body.stage, None)
        self._begun.setdefault(body.stage, utc)
        if body.stage in self._outline.searching and body.stage not in self._growth:
            self._growth[body.stage] = Growth(self._outline.objectives, self._mark(utc))

    def _end(self, body: StageFinished, utc: float, _: History) -> None:
        self.ends[body.stage] = utc, body

    def _mark(self, utc: float) -> Mark:
        return Mark(utc, self._active_s, self.spent_usd)

    def _propose(self, body: TrialProposed, _: float, __: History) -> None:
        if body.stage not in self._outline.searching:
            return
        if body.stage not in self._recent:
            self._recent[body.stage] = Recent(self._outline.choices(body.stage), self._outline.candidates)
        self._recent[body.stage].add(body.candidate)
        self._proposed[body.stage] += 1

    def _start(self, body: SegmentStarted, utc: float, history: History) -> None:
        job = history.segments[body.job].job
        if job.key in self._running:
            return
        self._running[job.key] = job.kind
        if job.kind is not JobKind.PROPOSE:
            (self._alone if job.exclusive else self._working).change(utc, 1)

    def _stop(self, body: SegmentFinished, utc: float, history: History) -> None:
        self.spent_usd += body.cost_usd
        job = history.segments[body.job].job
        if self._running.pop(body.job, JobKind.PROPOSE) is not JobKind.PROPOSE:
            (self._alone if job.exclusive else self._working).change(utc, -1)
        trial = history.trials.get(body.trial)
        if job.kind is JobKind.TRAIN:
            self.use.end(utc, body.job, body.seconds, body.usage, failed=body.failure is not None)
        if trial is None or body.failure is not None:
            return
        if job.kind is JobKind.TRAIN:
            self._outcome(trial.number, failed=False)
        if job.kind is not JobKind.TRAIN or job.to_rung >= trial.top_rung:
            self._arrive(trial, utc)

    def _arrive(self, trial: Trial, utc: float) -> None:
        growth = self._growth.get(trial.stage)
        if growth is not None and trial.rung >= trial.top_rung:
            growth.arrive(trial, self._mark(utc))

    def _lose(self, body: TrialEnded, _: float, history: History) -> None:
        trial = history.trials[body.trial]
        if body.status is TrialStatus.FAILED and not blameless(trial):
            self._outcome(body.trial, failed=True)

    def _outcome(self, number: int, *, failed: bool) -> None:
        if number not in self._failed:
            self._outcomes.append(number)
        self._failed[number] = failed
        if len(self._outcomes) > self._outline.trials:
            self._failed.pop(self._outcomes.popleft())

    def _decide(self, body: Decided, utc: float, _: History) -> None:
        if body.kind in KEPT:
            self.decisions.append((utc, body))

    def _charge(self, body: Charged, _: float, __: History) -> None:
        self.spent_usd += body.cost_usd

    def _amend(self, body: Amended, utc: float, _: History) -> None:
        if any(key.startswith("budget.") for key in body.changes):
            self.amended_utc = utc

    def _alert(self, body: Alert, utc: float, _: History) -> None:
        before = self.standing.get(body.key)
        if body.state == "resolved":
            self.standing.pop(body.key, None)
        else:
            self.standing[body.key] = Standing(body, before.first_utc if before else utc, utc)

    def sample(
        self, utc: float, usage: Mapping[str, Mapping[str, float]], elapsed: Mapping[str, float]
    ) -> None:
        """Take note of what running trainings have used so far, by job key."""
        for job, found in usage.items():
            if self._running.get(job) is JobKind.TRAIN and elapsed.get(job, 0.0) > 0:
                self.use.tell(utc, job, elapsed[job], found)

    @property
    def searching(self) -> str | None:
        """The stage that searches now, if one does."""
        if self.finish is not None:
            return None
        open_ = [s for s in self._outline.searching if s in self._begun and s not in self.ends]
        return open_[-1] if open_ else None

    def begun_utc(self, stage: str) -> float:
        """When a stage began."""
        return self._begun[stage]

    def quiet(self, stage: str, now_utc: float) -> tuple[float, float]:
        """Seconds of work, and money spent, since the front of a stage last grew or the stage began."""
        running_s = max(0.0, now_utc - self._last_utc) if self._running else 0.0
        last = self._growth[stage].last
        return self._active_s + running_s - last.active_s, self.spent_usd - last.spent_usd

    def busy(self, now_utc: float, window_s: float, workers: int) -> float:
        """Busy share of the workers in the window that ends now; time of exclusive jobs does not count."""
        capacity_s = workers * (window_s - self._alone.within(now_utc, window_s))
        return self._working.within(now_utc, window_s) / capacity_s if capacity_s > 0 else 1.0

    def likeness(self, stage: str) -> tuple[float, float] | None:
        """Mean distance of the last candidates of a stage, and of random ones; None before there are some."""
        if self._proposed[stage] < self._outline.candidates:
            return None
        if stage not in self._random:
            self._random[stage] = _random_distance(self._outline.choices(stage))
        return self._recent[stage].mean, self._random[stage]

    def failures(self) -> tuple[int, int]:
        """How many of the last trials have failed, and how many these were."""
        return sum(self._failed.values()), len(self._failed)

    @property
    def last_failed(self) -> int | None:
        """The last of them that has failed."""
        return next((n for n in reversed(self._outcomes) if self._failed[n]), None)

    def decided(self, kind: str) -> tuple[float, Decided] | None:
        """The latest decision of a kind, and when it was taken."""
        return next(((utc, d) for utc, d in reversed(self.decisions) if d.kind == kind), None)

    @property
    def proposals(self) -> int:
        """Trials of all searches so far."""
        return self._proposed.total()

    @property
    def over(self) -> bool:
        """Whether the run has come to an end, for now or for good."""
        return self.finish is not None and self.finish[1].status is not RunStatus.RUNNING


def _random_distance(choices: Choices) -> float:
    """Mean pairwise edit distance of random candidates; always of the same ones."""
    rng = np.random.default_rng(0)
    return mean_distance(choices, [space.sample(choices, rng) for _ in range(SAMPLE)]) if choices else 0.0


_HANDLERS: Mapping[type, Callable[[Digest, Any, float, History], None]] = {
    StageStarted: Digest._begin,
    TrialProposed: Digest._propose,
    SegmentStarted: Digest._start,
    SegmentFinished: Digest._stop,
    TrialEnded: Digest._lose,
    Decided: Digest._decide,
    StageFinished: Digest._end,
    Charged: Digest._charge,
    Alert: Digest._alert,
    Amended: Digest._amend,
    RunFinished: Digest._finish,
}
