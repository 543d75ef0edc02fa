"""A run on disk: its directory, its spec, its journal, its lock and the listeners of its events."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import logging
import os
import shutil
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ziggurat import __version__, amended, budget, lease, processes, taking
from ziggurat import spec as specs
from ziggurat.domain import RunStatus
from ziggurat.errors import RunTakenError, SpecError
from ziggurat.events import Amended, Body, Event, RunFinished, RunStarted
from ziggurat.history import History
from ziggurat.journal import Journal, Lock, read_events
from ziggurat.journal_mirror import Mirror
from ziggurat.protocols import Listener
from ziggurat.spec import Spec
from ziggurat.stores import Store, StoreError

log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
SPEC = "spec.yaml"


class Interrupted(Exception):  # noqa: N818 - names an outcome
    """Somebody asked the run to stop; it can be resumed."""


class Run:
    """One run that this process drives.

    Attributes:
        folder: Run directory.
        spec: The spec in force, with what has been amended since the run began.
        history: What has happened, this moment included.
        listeners: Called for every new event.
        stop: Set to have the run stop at the next safe moment.
        fresh: Whether it was created now rather than resumed.
        last_seen_utc: When an earlier controller last wrote.
        clock: Gives the time of events; a launcher that simulates has its own.
        mirror: The journal in the run's store, taken; None without a store.
    """

    def __init__(
        self,
        folder: Path,
        spec: Spec,
        lock: Lock,
        journal: Journal,
        *,
        mirror: Mirror | None = None,
        fresh: bool,
    ) -> None:
        """Fold what the journal holds."""
        self.folder = folder
        self._written = spec
        self.fresh = fresh
        self.journal = journal
        self.mirror = mirror
        self.history = History()
        self.listeners: list[Listener] = []
        self.stop = threading.Event()
        self._lock = lock
        self._keepers: list[lease.Keeper] = []
        self._past: list[Event] = list(journal.events)
        journal.events.clear()
        for event in self._past:
            self.history.apply(event)
        self.spec = amended.in_force(spec, self.history)
        self.last_seen_utc = self.history.last_utc
        if not fresh and spec.launcher.starts_processes:  # imagined machines have a clock of their own
            self.last_seen_utc = max(self.last_seen_utc, lease.last_sign_utc(folder, self.store))
        self.clock: Callable[[], float] = spec.launcher.clock(self.history.last_utc)
        self.mark = processes.mark(folder)
        self._reaper = processes.Reaper(self.mark) if spec.launcher.starts_processes else None

    @property
    def run_id(self) -> str:
        """Identity of the run."""
        return self.journal.run_id

    @property
    def limit_usd(self) -> float | None:
        """The limit in force."""
        return budget.limit_usd(self.spec.budget, self.history)

    @property
    def store(self) -> Store | None:
        """Keeps the run's artifacts beside its directory; None without one."""
        return None if self.mirror is None else self.mirror.store

    @property
    def taken(self) -> bool:
        """Whether another controller has taken the run; what it had running is that one's now."""
        return self.mirror is not None and self.mirror.taken

    @property
    def durable(self) -> bool:
        """Whether the history can be acted on for good: nothing of it would go with this machine."""
        return self.mirror is None or not (self.mirror.down or self.mirror.taken)

    def record(self, bodies: Iterable[Body]) -> None:
        """Write events, on disk and in the store, fold them and tell the listeners.

        Raises:
            JournalError: They cannot be written on disk.
            RunTakenError: Another controller has taken the run.
            Interrupted: The store cannot be written, once; from then on the disk alone is.
        """
        if self.mirror is not None:
            self.mirror.hold()
        events = self.journal.append(list(bodies), self.clock())
        fault = self._mirrored(lambda mirror: mirror.append(events)) if events else ""
        for event in events:
            self.history.apply(event)
            if not self.listeners:
                self._past.append(event)
            for listener in self.listeners:
                listener(event, self.history)
        if any(isinstance(event.body, Amended) for event in events):
            self.spec = amended.in_force(self._written, self.history)
        if fault:
            raise Interrupted(fault)

    def _mirrored(self, do: Callable[[Mirror], object]) -> str:
        """Do something with the mirror, unless it is down; why it is down now, if that is new."""
        if self.mirror is None or self.mirror.down:
            return ""
        try:
            do(self.mirror)
        except StoreError as error:
            log.warning("%s; the run stops here, and its directory has what its store lacks", error)
            return "the store cannot be written"
        return ""

    def past(self) -> list[Event]:
        """Events that no listener has heard, oldest first; they are handed over once."""
        past, self._past = self._past, []
        return past

    def show_life(self) -> None:
        """Let watchers see from now on that this process is alive."""
        rule = self.spec.alerts.rules.controller_crashed
        if rule.enabled:
            me = weakref.ref(self)

            def held() -> bool:
                run = me()
                return run is not None and run.durable

            self._keepers = lease.keep(self.folder, self.run_id, rule.silence_s, self.store, held)
            for keeper in self._keepers:
                weakref.finalize(self, keeper.abandon)  # a run that nobody holds any more is driven by nobody

    def check_stop(self) -> None:
        """Raise if the run is to stop; to be called all the time, since it also tends the mirror.

        Raises:
            Interrupted: Somebody has asked for it, or the store cannot be written.
            RunTakenError: Another controller has taken the run.
        """
        if self.stop.is_set():
            raise Interrupted("stopped on request")
        if fault := self._mirrored(lambda mirror: mirror.tend()):
            raise Interrupted(fault)

    def finish(self, status: RunStatus, reason: str = "") -> None:
        """Write the end of the run."""
        self.record([RunFinished(status, reason)])

    def close(self) -> None:
        """Give the run back.

        A server that a library has started for this process, such as Prefect's embedded one, may still be
        needed; the reaper ends it with the process.
        """
        for keeper in self._keepers:
            keeper.release(self.history.status.value)
        with contextlib.suppress(RunTakenError):
            self._mirrored(lambda mirror: mirror.flush())
            self._mirrored(lambda mirror: mirror.compact(self.folder / JOURNAL))
        self.journal.close()
        if self._reaper is not None and not processes.marked(self.mark):
            self._reaper.close()
        processes.unmark()
        self._lock.release()

    def remove(self) -> None:
        """Remove a closed run that came to nothing before anything was paid for."""
        if self.store is not None and not self.taken:
            with contextlib.suppress(StoreError):
                self.store.delete([entry.key for entry in self.store.entries()])
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()  # only if it is empty


def _keep_variables(resolved: Any, raw: Any) -> Any:  # noqa: ANN401 - plain YAML values
    """Resolved values, except that texts with `${NAME}` stay as they were written."""
    if isinstance(raw, str) and "${" in raw:
        return raw
    if isinstance(resolved, dict) and isinstance(raw, dict):
        return {k: _keep_variables(v, raw.get(k)) for k, v in resolved.items()}
    if isinstance(resolved, list) and isinstance(raw, list) and len(raw) == len(resolved):
        return [_keep_variables(v, r) for v, r in zip(resolved, raw, strict=True)]
    return resolved


def write_spec(path: Path, spec: Spec, raw: Mapping[str, Any]) -> None:
    """Write a spec with its defaults filled in and its variables left as names."""
    plain = _keep_variables(spec.plain(), dict(raw))
    path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")


def create(spec: Spec, raw: Mapping[str, Any], runs_dir: Path) -> Run:
    """Create a run directory and take it.

    Raises:
        SpecError: The search needs what is not installed, or the directory cannot be created or written.
    """
    spec.search.check()
    stamp = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
    salt = f"{spec.sha256()}{time.time_ns()}{os.getpid()}{socket.gethostname()}"
    run_id = f"{spec.name}-{stamp}-{hashlib.sha256(salt.encode()).hexdigest()[:8]}"
    folder = runs_dir.resolve() / run_id
    taking.refuse_itself(spec, folder)
    store = taking.working_store(spec, run_id)
    draft = folder.with_name(f".{run_id}.part")
    there = folder.parent.exists()
    try:
        (draft / "trials").mkdir(parents=True)
        write_spec(draft / SPEC, spec, raw)
        draft.rename(folder)  # a run directory is there with its spec, or not at all
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not there:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
        raise SpecError(
            f"--runs-dir {runs_dir}: cannot be written ({error.strerror}); name a writable directory"
        ) from None
    lock = Lock(folder / "lock")
    try:
        mirror = taking.take(store, folder / SPEC, folder / JOURNAL)
    except Exception:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    run = Run(folder, spec, lock, Journal(folder / JOURNAL, run_id), mirror=mirror, fresh=True)
    run.record([RunStarted(spec.name, __version__, spec.sha256())])
    run.show_life()
    return run


def _require_run(folder: Path) -> None:
    if not (folder / SPEC).is_file():
        raise SpecError(
            f"{folder}: no run directory ({SPEC} is missing); name one, such as runs/NAME-DATE-HASH"
        )


def open_run(folder: Path, amendments: Mapping[str, float] | None = None) -> Run:
    """Take an existing run to continue it.

    Raises:
        SpecError: It is no run directory.
        RunBusyError: Another process drives it.
        JournalError: Its journal cannot be read, here or in its store.
    """
    folder = folder.resolve()
    _require_run(folder)
    spec, _ = specs.read(folder / SPEC)
    lock = Lock(folder / "lock")
    try:
        processes.end_leftovers(folder)
        mirror = taking.take(taking.working_store(spec, folder.name), folder / SPEC, folder / JOURNAL)
        journal = Journal(folder / JOURNAL, folder.name)
    except Exception:
        lock.release()
        raise
    run = Run(folder, spec, lock, journal, mirror=mirror, fresh=False)
    resumed = run.history.length > 0
    run.record([RunStarted(spec.name, __version__, spec.sha256(), resumed=resumed)])
    run.show_life()
    if amendments:
        run.record([Amended(dict(amendments), "given on resume")])
    return run


def look(folder: Path) -> tuple[Spec, History]:
    """The spec and history of a run, without taking it; it may be running.

    Raises:
        SpecError: It is no run directory.
        JournalError: Its journal cannot be read.
    """
    _require_run(folder)
    spec, _ = specs.read(folder / SPEC)
    history = History()
    if (folder / JOURNAL).exists():
        for event, _ in read_events(folder / JOURNAL):
            history.apply(event)
    history.run_id = history.run_id or folder.resolve().name
    return amended.in_force(spec, history), history


def latest(runs_dir: Path) -> Path:
    """The youngest run directory.

    Raises:
        SpecError: There is none.
    """
    found: Sequence[Path] = [p.parent for p in runs_dir.glob(f"*/{SPEC}")]
    if not found:
        raise SpecError(f"{runs_dir}: holds no run; name a run directory")
    return max(found, key=lambda p: (p / SPEC).stat().st_mtime)
