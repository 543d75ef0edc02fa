"""A sign of life: a small file that whoever drives a run renews every few seconds, in a thread of its own.

It lies in the run directory, and in the run's store if there is one. It decides nothing about who may write
the run, which is the journal's matter; it only lets others see that a controller is alive. A process that is
killed, stopped or asleep renews nothing; one that ends says how the run stands then.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ziggurat.stores import Store, StoreError

log = logging.getLogger(__name__)

LEASE = "lease.json"
WATCH = "watch.json"
"""What watchers have told of a run; see `ziggurat.watching`."""
SHARE = 6
"""Renewals within the silence that a watcher promises to notice."""
SLOWEST_S = 5.0
GOODBYE_S = 5.0
"""Seconds for the last words."""
RUNNING = "running"


@dataclass(frozen=True)
class Lease:
    """What a controller says of itself.

    Attributes:
        run_id: The run it drives.
        host: Name of its machine.
        pid: Number of its process.
        token: Unlike that of any other sitting at the run.
        utc: By its clock.
        every_s: Seconds between two renewals.
        count: Renewals so far.
        status: Status of the run.
        ended: Whether the controller has given the run back.
    """

    run_id: str
    host: str
    pid: int
    token: str
    utc: float
    every_s: float
    count: int = 0
    status: str = RUNNING
    ended: bool = False

    @property
    def mark(self) -> str:
        """Changes whenever there is a sign of life."""
        return f"{self.token}:{self.count}"

    def to_bytes(self) -> bytes:
        """As JSON."""
        return json.dumps({"v": 1, **asdict(self)}).encode() + b"\n"


def from_bytes(data: bytes) -> Lease:
    """A lease from its bytes.

    Raises:
        ValueError: It is none.
    """
    plain = json.loads(data)
    if not isinstance(plain, Mapping) or plain.get("v") != 1:
        raise ValueError("not a lease of version 1")
    try:
        return Lease(**{k: v for k, v in plain.items() if k != "v"})
    except TypeError as error:
        raise ValueError(str(error)) from None


def fresh(run_id: str, every_s: float) -> Lease:
    """The lease of this process, at this moment."""
    return Lease(run_id, socket.gethostname(), os.getpid(), uuid.uuid4().hex, time.time(), every_s)


class Keeper:
    """Renews a lease in one place until it is told to stop."""

    def __init__(self, lease: Lease, write: Callable[[bytes], None], held: Callable[[], bool]) -> None:
        """Write it once, then go on in a thread.

        Args:
            lease: What to write, with later times and counts.
            write: Writes it; may fail.
            held: Whether the run is still this process's.
        """
        self._lease, self._write, self._held = lease, write, held
        self._over = threading.Event()
        self._ok = True
        self._renew()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self._lease.every_s):
            if not self._held():
                return
            self._lease = replace(self._lease, utc=time.time(), count=self._lease.count + 1)
            self._renew()
        if self._held():
            self._renew()

    def _renew(self) -> None:
        try:
            self._write(self._lease.to_bytes())
        except (OSError, StoreError) as error:
            if self._ok and self._held():
                log.warning(
                    "the sign of life cannot be written (%s); watchers may take this for silence", error
                )
            self._ok = False
        else:
            self._ok = True

    def abandon(self) -> None:
        """Stop without a word, as the end of the process would."""
        self._held = lambda: False
        self._over.set()

    def release(self, status: str) -> None:
        """Write the last words and stop."""
        lease = self._lease
        self._lease = replace(lease, utc=time.time(), count=lease.count + 1, status=status, ended=True)
        self._over.set()
        self._thread.join(GOODBYE_S)


def keep(
    folder: Path, run_id: str, silence_s: float, store: Store | None, held: Callable[[], bool]
) -> list[Keeper]:
    """Keepers of this process's lease, in the run directory and in the store if there is one."""
    lease = fresh(run_id, min(SLOWEST_S, silence_s / SHARE))
    keepers = [Keeper(lease, lambda data: _replace(folder / LEASE, data), folder.is_dir)]
    if store is not None:
        keepers.append(Keeper(lease, lambda data: _put(store, data), held))
    return keepers


def last_sign_utc(folder: Path, store: Store | None) -> float:
    """Until when an earlier controller may have lived; 0 if it gave the run back, or has left no lease."""
    found = [0.0]
    try:
        texts = [(folder / LEASE).read_bytes()] if (folder / LEASE).is_file() else []
        entry = store.get(LEASE) if store is not None else None
        texts += [entry[0]] if entry is not None else []
        for text in texts:
            told = from_bytes(text)
            found += [] if told.ended else [told.utc + told.every_s]
    except (OSError, StoreError, ValueError) as error:
        log.debug("the lease of an earlier controller cannot be read: %s", error)
    return min(max(found), time.time())


def _put(store: Store, data: bytes) -> None:
    store.put(LEASE, data)


def _replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another; it need not survive a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    draft.write_bytes(data)
    draft.replace(path)


def told_utc(folder: Path, store: Store | None) -> tuple[float, ...]:
    """When watchers have told of a silence of a run; empty if nothing can be read."""
    found: list[float] = []
    try:
        texts = [(folder / WATCH).read_bytes()] if (folder / WATCH).is_file() else []
        entry = store.get(WATCH) if store is not None else None
        texts += [entry[0]] if entry is not None else []
        for text in texts:
            found += [float(utc) for utc in json.loads(text).get("raised", [])]
    except (OSError, StoreError, ValueError, TypeError, AttributeError) as error:
        log.debug("what watchers have told cannot be read: %s", error)
    return tuple(found)
