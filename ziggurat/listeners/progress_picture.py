"""What a live view shows of a run: a few counters, the front and the last events, kept event by event.

The work for an event does not grow with the length of the history. Nothing here draws.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ziggurat.answers import eligible, is_answer
from ziggurat.domain import JobKind, TrialStatus
from ziggurat.events import SegmentFinished, SegmentPlanned
from ziggurat.history import History
from ziggurat.listeners import progress_words as words

if TYPE_CHECKING:
    from ziggurat.domain import Trial
    from ziggurat.events import Event
    from ziggurat.listeners.progress_words import Outline

SEARCH = "search"
RECENT = 6
"""Events that are kept to be shown."""


class Picture:
    """What the view shows; kept up to date event by event."""

    def __init__(self, outline: Outline) -> None:
        """A run before its first event."""
        self.outline = outline
        self.run_id = ""
        self.stages: dict[str, str] = dict.fromkeys(outline.stages, "")
        self.counts: dict[str, int] = {}
        self.front: list[Trial] = []
        self.recent: deque[tuple[str, str]] = deque(maxlen=RECENT)
        self.spent_usd = 0.0
        self.busy = 0
        self.begun_utc = 0.0
        self.status = ""
        self._states: dict[int, TrialStatus] = {}
        self._fresh = True

    def apply(self, event: Event, history: History) -> None:
        """Take an event into account; the history already contains it."""
        self.run_id = event.run_id
        self.begun_utc = history.started_utc
        self.spent_usd = history.spent_usd
        self.status = history.status.value
        self._count(event, history)
        text = words.line(event, history, self.outline)
        if text is not None:
            elapsed = words.clock(event.utc - history.started_utc)
            self.recent.append((elapsed, " ".join(text.split())))
        self.stages |= {name: "…" if end is None else end.verdict for name, end in history.stages.items()}
        body = event.body
        if isinstance(body, SegmentFinished | SegmentPlanned) or self._fresh:
            self.busy = sum(s.job.kind is not JobKind.PROPOSE for s in history.open_segments.values())
        if self._fresh:
            self._fill(history)
        elif isinstance(body, SegmentFinished) and body.failure is None and body.trial in history.trials:
            self._arrive(history.trials[body.trial], history)
        self._fresh = False

    @property
    def judged(self) -> int:
        """Trials of the search that need no decision now: ended, or paused at a rung."""
        waiting = (TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.UNDECIDED, TrialStatus.READY)
        return len(self._states) - sum(self.counts.get(s.value, 0) for s in waiting)

    def _fill(self, history: History) -> None:
        """Begin with a whole history, as after a resume."""
        for trial in history.trials.values():
            self._move(trial)
        self.front = []
        for trial in eligible(history, self.outline.objectives):
            self._insert(trial)

    def _count(self, event: Event, history: History) -> None:
        body: Any = event.body
        number = body.job.trial if isinstance(body, SegmentPlanned) else getattr(body, "trial", None)
        if number is not None and number in history.trials:
            self._move(history.trials[number])

    def _move(self, trial: Trial) -> None:
        if trial.stage != SEARCH:
            return
        before = self._states.get(trial.number)
        if before is not None:
            self.counts[before.value] -= 1
        self._states[trial.number] = trial.status
        self.counts[trial.status.value] = self.counts.get(trial.status.value, 0) + 1

    def _arrive(self, trial: Trial, history: History) -> None:
        if trial.stage != SEARCH or trial.status is not TrialStatus.COMPLETED:
            return
        if any(t.number == trial.number for t in self.front):
            # a new measurement may have made it worse than one it had beaten
            self._fill(history)
        elif is_answer(trial, self.outline.objectives):
            self._insert(trial)

    def _insert(self, trial: Trial) -> None:
        losses = trial.losses(self.outline.objectives)
        others = [(t, t.losses(self.outline.objectives)) for t in self.front]
        if any(all(a <= b for a, b in zip(other, losses, strict=True)) for _, other in others):
            return
        kept = [t for t, other in others if not all(a <= b for a, b in zip(losses, other, strict=True))]
        self.front = sorted([*kept, trial], key=lambda t: t.losses(self.outline.objectives))
