"""How any worker, warm or not, near or far, does a job: from the files it needs to a result that is whole.

Where there is a store, it is the common ground: a checkpoint is fetched from it if it is not here, and what
the job writes is kept there before the result, which comes last.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat import usage
from ziggurat.domain import Failure, FailureKind, Job
from ziggurat.errors import ZigguratError
from ziggurat.events import to_plain
from ziggurat.files import write_whole
from ziggurat.launchers.results import home, result_key
from ziggurat.stores import StoreError

if TYPE_CHECKING:
    from ziggurat.jobs import Desk, Row
    from ziggurat.stores import Store

LONGEST_TEXT = 500
LIVE = "checkpoint"
"""Folder of a trial in which a script keeps its checkpoint while it runs; what counts of it is packed."""
PATIENCE = 0.6
"""Share of the grace in which a stop waits for the end of an epoch, where the state can be kept."""


class Stop:
    """Whether a job is to stop, and how soon."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self._at: float | None = None
        self.reason = "stopped on request"

    def ask(self, grace_s: float, reason: str = "") -> None:
        """Have the job stop; asking again changes nothing but the reason."""
        self.reason = reason or self.reason
        if self._at is None:
            self._at = time.monotonic() + PATIENCE * grace_s

    def clear(self) -> None:
        """Forget that somebody asked: another job begins."""
        self._at, self.reason = None, "stopped on request"

    def __call__(self, at_epoch_end: bool) -> bool:
        """Whether to stop here: at the end of an epoch, or anywhere once the grace runs out."""
        if self._at is None:
            return False
        return at_epoch_end or time.monotonic() >= self._at


def describe(error: BaseException) -> str:
    """An exception as one line: text, and of one that nobody has foreseen type and place too."""
    from ziggurat.trainers import Diverged

    text = (" ".join(str(error).split()) or "no text")[:LONGEST_TEXT]
    if isinstance(error, (ZigguratError, Diverged)):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def classify(error: BaseException, reason: str = "stopped on request") -> Failure:
    """The failure that an exception stands for; `reason` says why a training was stopped."""
    from ziggurat.trainers import Diverged, StopTraining, TrainingFailed

    if isinstance(error, StopTraining):
        return Failure(FailureKind.PREEMPTED, reason)
    if isinstance(error, TrainingFailed):
        return Failure(error.kind, describe(error))
    if isinstance(error, Diverged):
        return Failure(FailureKind.DIVERGED, describe(error))
    if isinstance(error, StoreError):
        return Failure(FailureKind.LOST, describe(error))
    text = str(error).lower()
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or "can't allocate memory" in text or "not enough memory" in text:
        return Failure(FailureKind.OUT_OF_MEMORY, describe(error))
    return Failure(FailureKind.USER_ERROR, describe(error))


def fetch(folder: Path, store: Store | None, key: str | None) -> None:
    """Have a file of the run here, from the store if it is not.

    Raises:
        StoreError: The store cannot be read, or does not have it.
    """
    if store is None or key is None or (folder / key).exists():
        return
    if not store.download(key, folder / key):
        raise StoreError(
            f"{store.url.partition('?')[0]}: '{key}' is not there any more; restore it from a copy"
        )


@dataclass
class Keeper:
    """Keeps in the store what a job writes into its trial's folder; without a store it does nothing."""

    folder: Path
    store: Store | None
    job: Job

    def __post_init__(self) -> None:
        """Nothing is kept yet."""
        self._lock = threading.Lock()
        self._kept: tuple[str, float] | None = None
        self._began = time.time()
        self.begin()

    def begin(self) -> None:
        """Remember what is there before the job begins: that is not its work, and not to be kept again."""
        self._known, self._before = self._state(), self._newest()

    def _newest(self) -> tuple[str, float] | None:
        """The youngest checkpoint inside a segment and when it was written (seconds since the epoch)."""
        base = self.folder / home(self.job.key)
        found = [(p.stat().st_mtime, p) for p in base.glob("partial.*")] if base.is_dir() else []
        return (str(max(found)[1].relative_to(self.folder)), max(found)[0]) if found else None

    def partial(self) -> str | None:
        """The checkpoint inside its segment that the job has written since it began, if it has."""
        newest = self._newest()
        return newest[0] if newest is not None and newest != self._before else None

    @property
    def kept(self) -> str | None:
        """That checkpoint as it was last known to be kept, if it was."""
        return self._kept[0] if self._kept is not None else None

    def unkept_s(self, now: float | None = None) -> float:
        """Seconds of work that no checkpoint holds yet that is kept, at a time in seconds since 1970."""
        return (time.time() if now is None else now) - (self._kept[1] if self._kept else self._began)

    def _state(self) -> dict[str, tuple[int, int]]:
        base = self.folder / home(self.job.key)
        if self.store is None or not base.is_dir():
            return {}
        live = base / LIVE
        found = (p for p in base.rglob("*") if p.is_file() and not p.name.startswith("."))
        found = (p for p in found if live not in p.parents)
        return {
            str(p.relative_to(self.folder)): (s.st_mtime_ns, s.st_size) for p in found for s in [p.stat()]
        }

    def keep(self) -> None:
        """Upload what is new or has changed since the last time.

        Raises:
            StoreError: The store cannot be written.
        """
        self.keep_partial()
        if self.store is None or self.job.trial < 0:
            return
        with self._lock:
            for key, state in self._state().items():
                if self._known.get(key) != state and not key.endswith(".json"):
                    self.store.upload(self.folder / key, key)
                    self._known[key] = state

    def keep_partial(self) -> None:
        """Upload the checkpoint inside its segment, if there is a new one.

        Raises:
            StoreError: The store cannot be written.
        """
        with self._lock:
            newest = self._newest()
            if newest in {None, self._before, self._kept}:
                return
            assert newest is not None
            if self.store is not None and self.job.trial >= 0:
                state = self._state().get(newest[0])
                self.store.upload(self.folder / newest[0], newest[0])
                if state is not None:
                    self._known[newest[0]] = state
            self._kept = newest


@dataclass
class Earlier:
    """What earlier starts of the same job have done: it was requeued, or its machine was lost.

    Attributes:
        checkpoint: The last one they have written.
        seconds: Worker seconds they took.
        lost_s: How many of these went into what no checkpoint holds.
        starts: How many there were.
    """

    checkpoint: str | None = None
    seconds: float = 0.0
    lost_s: float = 0.0
    starts: int = 0


def attempt(desk: Desk, job: Job, row: Row, stop: Stop, keeper: Keeper, earlier: Earlier) -> dict[str, Any]:
    """Do a job, keep what it wrote, and return its result, whatever happens."""
    with usage.metered() as meter:
        result = _attempt(desk, job, row, stop, keeper, earlier)
    return result | {"usage": meter.told()}


def _attempt(desk: Desk, job: Job, row: Row, stop: Stop, keeper: Keeper, earlier: Earlier) -> dict[str, Any]:
    from ziggurat.jobs import resumed
    from ziggurat.trainers import StopTraining, TrainingFailed

    began, busy = time.monotonic(), time.process_time()
    result: dict[str, Any]
    try:
        given = resumed(job, earlier.checkpoint)
        fetch(desk.folder, keeper.store, given.checkpoint)
        keeper.begin()
        outcome = desk.do(given, row, stop)
        keeper.keep()
        result = {
            "measurements": to_plain(outcome.measurements),
            "checkpoint": outcome.checkpoint,
            "payload": outcome.payload,
        }
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a failed job is a value, classified and kept
        if not isinstance(error, (StopTraining, TrainingFailed)):  # a program of the user's has its own log
            traceback.print_exc()
        result = _failed(error, stop, keeper)
        result["checkpoint"] = result["checkpoint"] or earlier.checkpoint
    result |= {"job": to_plain(job), "seconds": earlier.seconds + time.monotonic() - began}
    result["lost_s"] = earlier.lost_s + result.get("lost_s", 0.0)
    return result | {"cpu_s": time.process_time() - busy, "starts": earlier.starts + 1}


def leave(result: dict[str, Any], job: Job, keeper: Keeper) -> None:
    """Write a result where the controller looks for it, here and in the store."""
    text = json.dumps(result)
    write_whole(keeper.folder / result_key(job.key), text)
    if keeper.store is not None and job.trial >= 0:
        keeper.store.put(result_key(job.key), text.encode())


def _failed(error: BaseException, stop: Stop, keeper: Keeper) -> dict[str, Any]:
    failure = classify(error, stop.reason)
    checkpoint = getattr(error, "checkpoint", None) or keeper.partial()
    now = time.time()
    try:
        keeper.keep()
    except StoreError as problem:
        print(f"what a job has written is not kept: {problem}", file=sys.stderr, flush=True)  # noqa: T201 - the log
        checkpoint = keeper.kept
    return {
        "failure": to_plain(failure),
        "retry": failure.kind is FailureKind.PREEMPTED,
        "checkpoint": checkpoint,
        "lost_s": keeper.unkept_s(now),
    }
