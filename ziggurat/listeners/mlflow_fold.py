"""The history up to a moment, and what its events say to MLflow and nobody has written there yet.

Every event adds its points when it is folded, so that writing the same events twice, in whatever portions,
gives the same points.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ziggurat.domain import ENDED, Trial, TrialStatus
from ziggurat.events import (
    Charged,
    Decided,
    Measured,
    RunFinished,
    SegmentFinished,
    StageFinished,
    TrialEnded,
    TrialProposed,
)
from ziggurat.history import History
from ziggurat.listeners import mlflow_words
from ziggurat.listeners.mlflow_about import finalists
from ziggurat.listeners.mlflow_front import Front
from ziggurat.listeners.mlflow_words import Point, ms, name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ziggurat.events import Event
    from ziggurat.listeners.mlflow_about import About

PARENT = -1
"""Stands for the parent run where trials have their numbers."""
PACE = 10
"""So many trials end between two forecasts of the whole cost."""


class Fold:
    """A history that grows by events, and their points by the run that they belong to."""

    def __init__(self, about: About) -> None:
        """Begin before the first event."""
        self.history = History()
        self.born: dict[int, float] = {}
        self.front = Front(about.objectives)
        self._about = about
        self._points: deque[tuple[int, int, Point | None]] = deque()
        self._said: dict[str, float] = {}
        self._static: dict[tuple[int, str], float] = {}

    def add(self, events: Iterable[Event]) -> None:
        """Fold further events, each the next one of the journal."""
        for event in events:
            self.history.apply(event)
            number = self._trial(event)
            if number is not None:
                if isinstance(event.body, TrialProposed):
                    self.born[number] = event.utc
                found = mlflow_words.points(event, self.history, self.born[number])
                new = [point for point in found if self._is_new(number, point)]
                self._points += [(event.seq, number, point) for point in (*new, None)]
            self._points += [(event.seq, PARENT, point) for point in self._of_parent(event, number)]

    def _is_new(self, number: int, point: Point) -> bool:
        """Whether a point says what has not been said; every segment repeats what needs no training."""
        if point.step != 0:
            return True
        key = number, point.name
        before, self._static[key] = self._static.get(key), point.value
        return before != point.value

    def _trial(self, event: Event) -> int | None:
        """The trial that an event belongs to, if it says something about one."""
        body = event.body
        if not isinstance(body, (TrialProposed, Measured, SegmentFinished, TrialEnded, Decided)):
            return None
        return body.trial if body.trial in self.history.trials else None

    def _of_parent(self, event: Event, number: int | None) -> list[Point]:
        """What an event adds to the run as a whole; the step is the number of trials that have ended."""
        ended = sum(len(found) for (_, status), found in self.history.standing.items() if status in ENDED)
        told: dict[str, float] = {}
        if number is not None and self.front.heed(self.history.trials[number], self.history):
            told |= self.front.told()
        if ended != self._said.get("trials") or isinstance(event.body, Charged):
            told |= {"trials": float(ended), "spent_usd": self.history.spent_usd}
            if ended % PACE == 0:
                told |= self._projected()
        if isinstance(event.body, (StageFinished, RunFinished)):
            told |= self._milestone()
        step, utc = ended, ms(event.utc)
        self._said |= told
        return [Point(name(key), float(value), utc, step) for key, value in told.items()]

    def _projected(self) -> dict[str, float]:
        forecast = None if self._about.projected is None else self._about.projected(self.history)
        return {} if forecast is None else {"projected_usd": forecast}

    def _milestone(self) -> dict[str, float]:
        """Everything at the end of a stage, so that every curve reaches it."""
        failed = sum(t.status is TrialStatus.FAILED for t in self.history.trials.values())
        best = finalists(self.history, self._about)[:1]
        return {
            **self.front.told(),
            "spent_usd": self.history.spent_usd,
            "trials_failed": float(failed),
            **self._projected(),
            **{f"final/{metric}": value for t in best for metric, value in _known(t).items()},
        }

    def told(self, start: int, stop: int) -> dict[int, list[Point]]:
        """The points of some events by trial, in order; a trial that was only touched has an empty list."""
        found: dict[int, list[Point]] = {}
        for seq, number, point in self._points:
            if seq >= stop:
                break
            if seq >= start:
                rows = found.setdefault(number, [])
                if point is not None:
                    rows.append(point)
        return found

    def forget(self, before: int) -> None:
        """Drop the points of events that are written."""
        while self._points and self._points[0][0] < before:
            self._points.popleft()


def _known(trial: Trial) -> Mapping[str, float]:
    found = {**trial.static, **trial.results.get(trial.rung, {})}
    return {metric: m.value for metric, m in found.items()}
