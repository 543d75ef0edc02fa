"""The jobs of one Ray worker: a queue, and the seat where they are done one after the other.

It knows neither Ray nor the controller; whoever has it calls `tend` again and again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ziggurat.launchers.ray_process import Chair, SeatProcess
from ziggurat.launchers.ray_seat import ended
from ziggurat.launchers.scheduler import OVER, State

REMEMBERED = 200
"""Ended jobs that can still be asked about."""


@dataclass(frozen=True)
class Assignment:
    """A job for a Ray worker.

    Attributes:
        name: Its name, unique to the run.
        chair: Where it can be done.
        key: Its key, where the chair is that of a run.
        command: What to run, where it is not.
        limit_s: Seconds it may take.
        grace_s: Seconds between the request to stop and the end by force.
        start_s: Seconds the process may take to become ready.
    """

    name: str
    chair: Chair
    key: str
    command: tuple[str, ...]
    limit_s: float
    grace_s: float
    start_s: float


@dataclass(frozen=True)
class Told:
    """What a worker says about a job.

    Attributes:
        state: Where it stands.
        text: Why.
        words: Last line of its output.
        leaving: The worker takes no further jobs.
    """

    state: State
    text: str = ""
    words: str = ""
    leaving: bool = False


@dataclass
class Task:
    """A job as its worker knows it."""

    assignment: Assignment
    told: Told = field(default_factory=lambda: Told(State.PENDING))
    began: float = 0.0
    stop: tuple[State, str] | None = None
    stop_by: float = 0.0

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.told.state in OVER


class Place:
    """The queue and the seat of a worker; it moves on when `tend` is called."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Begin without jobs."""
        self._now = now
        self.tasks: dict[str, Task] = {}
        self._queue: list[Task] = []
        self._task: Task | None = None
        self._seat: SeatProcess | None = None
        self._since = now()
        self._refused: dict[str, str] = {}
        self.leaving = ""
        """Why no further job is taken; empty if jobs are."""
        self.idle_since = now()

    def take(self, assignment: Assignment) -> Told:
        """Take a job; the same one again makes no difference."""
        if assignment.name not in self.tasks:
            task = Task(assignment)
            self.tasks[assignment.name] = task
            self._queue.append(task)
            if assignment.name in self._refused:
                self._end(task, State.CANCELLED, self._refused.pop(assignment.name))
            elif self.leaving:
                self._end(task, State.PREEMPTED, self.leaving)
            self._forget()
            self.tend()
        return self.about(assignment.name)

    def about(self, name: str) -> Told:
        """What is known of a job."""
        task = self.tasks.get(name)
        if task is None:
            return Told(State.GONE, "the worker on Ray does not know it: it was started anew")
        return replace(task.told, leaving=bool(self.leaving))

    def stop(
        self, name: str, why: str, state: State = State.CANCELLED, within_s: float | None = None
    ) -> None:
        """Have a job write its checkpoint and end; one that has not begun ends at once."""
        task = self.tasks.get(name)
        if task is None:
            self._refused[name] = why  # the request has overtaken the job
        elif task is not self._task:
            if not task.over:
                self._end(task, state, why)
        elif task.stop is None:
            grace = task.assignment.grace_s if within_s is None else min(task.assignment.grace_s, within_s)
            task.stop, task.stop_by = (state, why), self._now() + grace
            if self._seat is not None:
                self._seat.tell(do="stop", name=name, reason=why, grace_s=grace)

    def leave(self, why: str, state: State = State.PREEMPTED, within_s: float | None = None) -> None:
        """Take no further jobs, and have those that are here end."""
        self.leaving = self.leaving or why
        for name in [t.assignment.name for t in (*self._queue, *([self._task] if self._task else []))]:
            self.stop(name, why, state, within_s)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self._task is None and not self._queue

    def tend(self) -> None:
        """Hear what the seat says, end what is late, begin what waits."""
        if self._seat is not None:
            self._listen(self._seat)
        if self._task is not None:
            self._hurry(self._task)
        if self._task is None and self._queue:
            self._begin(self._queue.pop(0))
        if not self.idle:
            self.idle_since = self._now()

    def _begin(self, task: Task) -> None:
        """Seat a job; it runs once the seat is ready."""
        self._task, self._since = task, self._now()
        if self._seat is None or self._seat.chair != task.assignment.chair:
            self._rise()
            try:
                self._seat = SeatProcess(task.assignment.chair)
            except OSError as error:
                self._end(task, State.FAILED, f"its Python cannot be started: {error}")
        elif self._seat.ready:
            self._run(task, self._seat)

    def _run(self, task: Task, seat: SeatProcess) -> None:
        about = task.assignment
        task.began, task.told = self._now(), Told(State.RUNNING)
        seat.begin()
        seat.tell(do="job", name=about.name, key=about.key, command=about.command)

    def _listen(self, seat: SeatProcess) -> None:
        code = seat.code()
        for message in seat.hear():
            if message["is"] == "ready":
                seat.ready = True
                if self._task is not None and self._task.stop is None:
                    self._run(self._task, seat)
            elif self._task is not None and message["name"] == self._task.assignment.name:
                if message["notice"]:
                    self.leave(str(message["notice"]))
                self._done(self._task, good=bool(message["good"]), text=str(message["text"]))
        if code is not None and seat is self._seat:
            self._bury(seat, code)

    def _done(self, task: Task, *, good: bool, text: str) -> None:
        if good:
            self._end(task, State.SUCCEEDED, "")
        elif task.stop is not None:
            self._end(task, *task.stop)
        else:
            self._end(task, State.FAILED, text)

    def _bury(self, seat: SeatProcess, code: int) -> None:
        """Say how the seat's process has ended; the next job gets another."""
        task = self._task
        if task is not None:
            if code == -signal.SIGKILL and seat.starved:
                self._end(task, State.OUT_OF_MEMORY, "ended by the kernel for lack of memory")
            elif task.stop is not None:
                self._end(task, *task.stop)
            else:
                where = "its process" if seat.ready else "the process for it, before it was ready"
                self._end(task, State.FAILED, f"{where} ended with {ended(code)}")
        self._rise()

    def _hurry(self, task: Task) -> None:
        """End a job that is late."""
        now, about = self._now(), task.assignment
        if task.stop is not None:
            state, why = task.stop
            if task.told.state is State.PENDING:
                self._end(task, state, why)  # the seat goes on becoming ready, for the next job
            elif now > task.stop_by:
                self._end(task, state, f"{why}; ended by force")
                self._rise()
        elif task.told.state is State.RUNNING:
            if now - task.began > about.limit_s:
                self.stop(about.name, f"longer than its limit of {about.limit_s:g} s", State.TIMEOUT)
        elif now - self._since > about.start_s:
            self._end(task, State.FAILED, f"the process for it was not ready within {about.start_s:g} s")
            self._rise()

    def _end(self, task: Task, state: State, text: str) -> None:
        words = self._seat.last_words() if self._seat is not None and task is self._task else ""
        task.told = Told(state, text, words)
        if task is self._task:
            self._task = None
        if task in self._queue:
            self._queue.remove(task)

    def _rise(self) -> None:
        """End the seat's process."""
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.close()

    def _forget(self) -> None:
        """Keep the last ended jobs only."""
        for name in [n for n, t in self.tasks.items() if t.over][:-REMEMBERED]:
            del self.tasks[name]

    def close(self) -> None:
        """End everything."""
        self._rise()
