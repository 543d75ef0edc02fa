"""A job on another machine, as its controller sees it: where it stands, and what its end means."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ziggurat.domain import Failure, FailureKind, Job, Measurement
from ziggurat.events import measurements_from_plain
from ziggurat.launchers.results import heard
from ziggurat.launchers.scheduler import OVER, Condition, State
from ziggurat.protocols import Progress

_CAUSES = {
    State.PREEMPTED: (FailureKind.PREEMPTED, True),
    State.NODE_LOST: (FailureKind.PREEMPTED, True),
    State.CANCELLED: (FailureKind.PREEMPTED, True),
    State.TIMEOUT: (FailureKind.TIMEOUT, False),
    State.OUT_OF_MEMORY: (FailureKind.OUT_OF_MEMORY, False),
}
"""What the end of a job without a result means, and whether it does not count against its trial."""
SPEAKING = frozenset({State.SUCCEEDED, State.FAILED, State.GONE})
"""Ends whose cause may lie in the job itself, so that its output says more."""


@dataclass
class Errand:
    """A submitted job, as this controller sees it."""

    job: Job
    handle: str
    limit_s: float
    after: Job | None = None
    """The job that its machine did before, if it was passed on there and not submitted on its own."""
    since: float | None = None
    """When its machine was first seen to run, in seconds since 1970."""
    beat: dict[str, Any] = field(default_factory=dict)
    heard: float | None = None
    """When a new beat was last seen, or when the job was first said to run."""
    excused: float = 0.0
    """When beats could last not be read, for a reason that is not the job's."""
    condition: Condition = field(default_factory=partial(Condition, State.PENDING))
    stood: float = field(default_factory=time.monotonic)
    """When the scheduler last said how it stands."""
    ran_s: float = 0.0
    """How long it was seen to run until then."""
    over_since: float | None = None
    stop_by: float | None = None
    verdict: Failure | None = None
    steps: set[int] = field(default_factory=set)
    rows: list[tuple[int, Any]] = field(default_factory=list)
    end: Progress | None = None

    @property
    def seconds(self) -> float:
        """Worker seconds so far: by the worker's own account, or as long as it was seen to run."""
        now, runs = time.monotonic(), self.condition.state is State.RUNNING
        seen = self.ran_s + (now - self.stood if runs else 0.0)
        if not self.beat or self.heard is None:
            return seen
        return max(seen, float(self.beat["seconds"]) + (now - self.heard if runs else 0.0))

    def hear(self, plain: dict[str, Any] | None) -> None:
        """Take in a beat, if there is one."""
        if plain is None or plain.get("utc") == self.beat.get("utc"):
            return
        beat = heard(plain, self.job)
        if beat is None:
            return
        self.beat, self.heard = beat, time.monotonic()
        for step, measurements in beat["rows"]:
            if step not in self.steps:
                self.steps.add(step)
                self.rows.append((step, measurements))

    def news(self) -> tuple[tuple[int, tuple[Measurement, ...]], ...]:
        """Steps and what was measured there, since this was asked last."""
        rows, self.rows = self.rows, []
        return tuple((step, measurements_from_plain(found)) for step, found in rows)

    def stand(self, condition: Condition) -> None:
        """Take in what the scheduler says."""
        now, ran = time.monotonic(), self.condition.state is State.RUNNING
        if ran:
            self.ran_s += now - self.stood
        elif condition.state is State.RUNNING:
            self.heard, self.since = now, time.time()
        self.condition, self.stood = condition, now

    def silent(self, lease_s: float) -> bool:
        """Whether it is said to run, but has given no sign of life for so long."""
        runs = self.condition.state is State.RUNNING
        return runs and self.heard is not None and time.monotonic() - max(self.heard, self.excused) > lease_s

    def settled(self, aftermath_s: float) -> bool:
        """Whether all has come to light that a job that is over has written; file systems may be behind."""
        if self.over_since is None:
            return False
        return self.condition.state not in SPEAKING or time.monotonic() - self.over_since >= aftermath_s

    @property
    def forgotten(self) -> bool:
        """Whether it was passed on to a machine that ended without having begun it."""
        return self.after is not None and self.condition.state in OVER and not self.beat

    @property
    def astray(self) -> bool:
        """Whether it is to be submitted on its own for that reason."""
        return self.forgotten and self.stop_by is None

    def outstays(self, lasts_s: float) -> bool:
        """Whether the machine that it was passed on to will soon have had its time."""
        return self.after is not None and self.since is not None and time.time() - self.since > lasts_s

    def judged(self, found: Progress) -> Progress:
        """A result, with the reason for the end by force if it came of one."""
        if self.verdict is None or found.failure is None:
            return found
        return self._failed(self.verdict, found.seconds, found.checkpoint)

    def obituary(self, words: str = "") -> Progress:
        """What is said of it if it has ended without a result.

        Args:
            words: The last line of its output, if there is one.
        """
        failure, retry = self.verdict, None
        if failure is None and self.forgotten:
            failure = Failure(FailureKind.PREEMPTED, "stopped before it began")
        elif failure is None:
            state = self.condition.state
            kind, retry = _CAUSES.get(state, (FailureKind.LOST, False))
            told = "; ".join(t for t in (self.condition.text, words) if t)
            failure = Failure(
                kind, f"no result, its scheduler says {state.value}{': ' + told if told else ''}"
            )
        return self._failed(failure, self.seconds, self.beat.get("checkpoint"), retry=retry)

    @staticmethod
    def _failed(
        failure: Failure, seconds: float, checkpoint: str | None, *, retry: bool | None = None
    ) -> Progress:
        again = failure.kind is FailureKind.PREEMPTED if retry is None else retry
        return Progress(True, seconds, checkpoint=checkpoint, failure=failure, retry=again)
