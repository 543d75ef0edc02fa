"""A world in which controllers and workers are killed between any two steps, and time costs nothing.

Store, scheduler and machines outlive whoever is killed. The controller is the engine with a dispatcher as in
any run; the worker is a `Seat`, in this process, whose training writes a file that says which rungs it stands
on. A kill is an exception that nothing catches.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from tests.memory_store import MemoryStore
from tests.real import plain
from ziggurat import once, performing, runs
from ziggurat import spec as specs
from ziggurat.domain import Candidate, Fidelity, Job, Measurement
from ziggurat.engine import Engine
from ziggurat.events import TrialProposed
from ziggurat.jobs import Outcome
from ziggurat.launchers import Local, dispatcher, errand, relay
from ziggurat.launchers.dispatcher import Dispatcher
from ziggurat.launchers.remote import LingeringSetting
from ziggurat.launchers.results import Shelf, home, next_key, parsed
from ziggurat.launchers.scheduler import OVER, Condition, Request, State
from ziggurat.protocols import Site
from ziggurat.stages.validate import planner_for

URL = "s3://memory/run"
TRAIN_S = 100.0
LADDER = (Fidelity(1), Fidelity(3))
CANDIDATE = Candidate({"depth": 1, "width_1": 4, "learning_rate": 0.01})


class Killed(BaseException):
    """The process is gone."""


class Fuse:
    """Kills whoever passes it for the n-th time; it does not blow twice."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.passed = at, 0

    def __call__(self, *_: object) -> None:
        self.passed += 1
        if self.passed == self.at:
            raise Killed(self.at)


class FakeTime:
    """A clock that goes on when somebody sleeps, and a little with each look at it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.time, self.process_time = time.time, time.process_time

    def monotonic(self) -> float:
        self.now += 1e-4
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class View(MemoryStore):
    """What one process sees of the store that all share; its fuse lies before and behind every change."""

    def __init__(self, things: dict[str, tuple[bytes, str]], fuse: Callable[..., None]) -> None:
        super().__init__(URL)
        self.things, self.fuse = things, fuse

    def before(self, verb: str, key: str) -> None:
        self.fuse(verb, key)

    def after(self, key: str) -> None:
        self.fuse("put", key)

    def download(self, key: str, path: Path) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        return super().download(key, path)


class World(LingeringSetting):
    """The settings of a launcher whose scheduler lives on between controllers."""

    kind: Literal["world"] = "world"

    def scheduler(self, folder: Path) -> Ward:
        return WARD[0]


class Ward:
    """A scheduler, its queue and its machines; each question lets every job take one step."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.things: dict[str, tuple[bytes, str]] = {}
        self.controller = self.worker = Fuse()
        self.jobs: dict[str, tuple[str, State]] = {}
        self.waits: dict[str, tuple[Job, int]] = {}
        self.trained: list[tuple[int, int]] = []
        self.submitted: list[str] = []
        self.clock = FakeTime()
        self.ran_s: dict[str, float] = {}
        for module in (dispatcher, errand, once, performing, relay):
            patch.setattr(module, "time", self.clock)
        patch.setattr(once, "open_url", lambda _: View(self.things, self.worker))
        patch.setattr(once, "sources", list)

    def store(self) -> View:
        """The store as a controller sees it."""
        return View(self.things, self._passed)

    def _passed(self, *what: object) -> None:
        self.controller(*what)  # whose fuse is lit only once the run is taken

    def check(self) -> None:
        return None

    def plan(self, request: Request) -> str:
        return request.name

    def submit(self, request: Request) -> str:
        self.controller("submit")
        self.submitted.append(request.command[-1])
        self.jobs[request.name] = (request.command[-1], State.PENDING)
        self.controller("submitted")
        return request.name

    def look_up(self, name: str) -> str | None:
        self.controller("look_up")
        return name if name in self.jobs else None

    def conditions(self, handles: Sequence[str]) -> Mapping[str, Condition]:
        self.controller("conditions")
        for name in list(self.jobs):
            self._step(name)
        return {h: Condition(self.jobs[h][1] if h in self.jobs else State.GONE) for h in handles}

    def _step(self, name: str) -> None:
        key, state = self.jobs[name]
        if state is State.PENDING:
            self.jobs[name] = (key, State.RUNNING)
        elif state is State.RUNNING:
            try:
                ended = self._wait(name) if name in self.waits else self._work(name, key)
            except Killed:
                self.waits.pop(name, None)
                ended = State.PENDING  # it is queued again
            self.jobs[name] = (key, ended)

    def _work(self, name: str, key: str) -> State:
        """Do a job on the machine of another or of its own; it may wait for the next one then."""
        began = self.clock.now
        try:
            good, last = self._perform(key, due=name not in self.waits)
        finally:
            self.ran_s[name] = self.ran_s.get(name, 0.0) + self.clock.now - began
        self.waits.pop(name, None)
        if last is not None and last.linger_s > 0:
            self.waits[name] = (last.job, 0)
            return State.RUNNING
        return State.SUCCEEDED if good else State.FAILED

    def _wait(self, name: str) -> State:
        """One look of a worker for what follows."""
        job, looks = self.waits[name]
        shelf = Shelf(Path(), View(self.things, self.worker))
        told = parsed(shelf.get(next_key(job.key)))
        if told is None:
            self.waits[name] = (job, looks + 1)
            return State.SUCCEEDED if looks > 1 and relay.close(shelf, job) else State.RUNNING
        return State.SUCCEEDED if told["next"] is None else self._work(name, told["next"])

    def _perform(self, key: str, *, due: bool = True) -> tuple[bool, once.Order | None]:
        seat = once.Seat(URL)
        try:
            seat.desk.do = lambda job, row, _: self._train(seat.desk.folder, job, row)  # type: ignore[method-assign]
            return seat.do(seat.due(key) if due else key), seat._last
        finally:
            seat.close()

    def _train(self, folder: Path, job: Job, row: Callable[..., None]) -> Outcome:
        done = json.loads((folder / job.checkpoint).read_text()) if job.checkpoint else []
        assert done == list(range(job.from_rung + 1)), "the wrong checkpoint"
        self.trained.append((job.trial, job.to_rung))
        self.clock.sleep(TRAIN_S)
        path = folder / home(job.key) / f"rung-{job.to_rung}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([*done, job.to_rung]))
        found = (Measurement("val_accuracy", 0.5 + job.to_rung / 10, step=job.to_rung + 1),)
        row(job.to_rung + 1, found)
        known = (Measurement("parameters", 100.0),)
        return Outcome(found + known, str(path.relative_to(folder)))

    def cancel(self, handle: str) -> None:
        self.controller("cancel")
        key, state = self.jobs[handle]
        self.jobs[handle] = (key, state if state in OVER else State.CANCELLED)

    def last_words(self, handle: str) -> str:
        return ""

    def close(self, *, leave: bool = False) -> None:
        del leave


WARD: list[Ward] = []
RAW = plain(launcher={"kind": "local"})


@cache
def _spec() -> specs.Spec:
    """The spec of every run, parsed once, since that would take most of the time."""
    return specs.parse(RAW, "test")


class Controllers:
    """One run, and the controllers that drive it one after the other."""

    def __init__(self, tmp_path: Path, patch: pytest.MonkeyPatch, linger_s: float) -> None:
        self.ward = Ward(patch)
        WARD[:] = [self.ward]
        self.setting = World(poll_s=0.05, usd_per_hour=3600.0, linger_s=linger_s)
        patch.setattr(specs.Spec, "open_store", lambda *_: self.ward.store())
        patch.setattr(dispatcher, "AFTERMATH_S", 0.0)
        patch.setattr(Local, "starts_processes", False)
        patch.setattr(Local, "launch", lambda _, site: self._launch(site))
        patch.setattr(specs, "read", lambda *_: (_spec(), RAW))
        patch.setattr(runs, "write_spec", lambda path, *_: path.write_text("the same for all\n"))
        run = runs.create(_spec(), RAW, tmp_path)
        self.folder = run.folder
        run.close()

    def _launch(self, site: Site) -> Dispatcher:
        return Dispatcher(self.setting, replace(site, role="all"))  # type: ignore[arg-type]

    @contextlib.contextmanager
    def opened(self, fuse: Fuse | None = None) -> Iterator[runs.Run]:
        """A run as a new controller takes it; a kill leaves everything as it is."""
        self.ward.controller = Fuse()
        run = runs.open_run(self.folder)
        append = run.journal.append

        def appended(*given):
            self.ward.controller("append")
            found = append(*given)
            self.ward.controller("appended")
            return found

        run.journal.append = appended  # type: ignore[method-assign]
        self.ward.controller = fuse or Fuse()
        try:
            yield run
        finally:
            self.ward.controller = Fuse()
            run.journal.close()
            run._lock.release()

    def drive(self, run: runs.Run) -> None:
        """Take all trials to the top."""
        engine = Engine(run)
        launcher = engine.pool._launchers[""]
        try:
            if not run.history.trials:
                run.record([TrialProposed(0, 0, "any", CANDIDATE, 0, LADDER)])
            engine.drive(planner_for("any", reserve=False), "any")
        finally:
            launcher._threads.shutdown()  # type: ignore[attr-defined]

    def finish(self, fuse: Fuse | None = None) -> runs.Run:
        """The run as a controller has it that is not killed, or not yet."""
        with self.opened(fuse) as run:
            self.drive(run)
        return run
