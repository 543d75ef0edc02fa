"""The journal of a run in a store: any machine can go on from it, one at a time.

Two writers of the same chain meet at the same next number, and the store lets exactly one of them have it. A
controller takes a run with a link that holds no events and a higher epoch: who came before finds its next
number gone, so epoch and events cannot disagree, and no clock, lease or second object decides who writes.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ziggurat.domain import Decision
from ziggurat.errors import JournalError, RunTakenError
from ziggurat.events import (
    Body,
    Decided,
    Event,
    Measured,
    StageStarted,
    TrialProposed,
    to_line,
)
from ziggurat.files import write_whole
from ziggurat.journal_chain import WHOLE, End, Link, create, key_of, link_from, name_of, read
from ziggurat.stores import Store, StoreError

log = logging.getLogger(__name__)

CHECK_S = 10.0
"""How often an idle writer looks whether somebody else has taken the run."""
FLUSH_S = 5.0
"""How long events may wait that nothing outside depends on."""
MANY = 64
"""Links beyond the last whole copy from which another one is worth its while."""


class Mirror:
    """The writer's end of the chain.

    Attributes:
        store: Where it is kept.
        down: Whether the store could not be written, after which nothing is tried any more.
        taken: Whether another controller has taken the run.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read or written yet."""
        self.store = store
        self.down = self.taken = False
        self._clock = clock
        self._writer = uuid.uuid4().hex
        self._who = f"process {os.getpid()} on {socket.gethostname()}"
        self._end = End()
        self._found: list[bytes] = []
        self._pending: list[bytes] = []
        self._waits_since = self._owned_at = clock()

    @property
    def epoch(self) -> int:
        """How often the run has been taken, this time included."""
        return self._end.epoch

    @property
    def links(self) -> int:
        """How many objects the chain has."""
        return self._end.number

    def take(self) -> None:
        """Take the run from whoever had it; from now on nobody else can add to its journal.

        Raises:
            RunTakenError: Somebody else takes it at this moment.
            StoreError: The store cannot be read or written.
        """
        self._end, self._found = read(self.store)
        seen = self._end.epoch
        while not self._put(self._next((), taking=True)):
            self._end, more = read(self.store, self._end)
            self._found += more
            if self._end.epoch > seen:
                raise self._lost(self._end.who)

    def settle(self, path: Path) -> Path | None:
        """Make the journal on disk and the one in the store the same, after `take`.

        What only the disk has is added to the store, what only the store has is fetched. Where they part,
        the store is right: others have gone on from it.

        Args:
            path: The journal on disk, which need not exist.

        Returns:
            Where the part of the disk's journal is kept that has no place in the run any more; else None.

        Raises:
            RunTakenError: Somebody else has taken the run since.
            StoreError: The store cannot be written.
        """
        theirs, self._found = self._found, []
        mine = _whole_lines(path)
        common = next((i for i, (a, b) in enumerate(zip(theirs, mine, strict=False)) if a != b), None)
        common = min(len(theirs), len(mine)) if common is None else common
        if common == len(theirs):
            self._pending = mine[common:]
            self.flush()
            return None
        aside = None if common == len(mine) else _set_aside(path, mine[common:])
        write_whole(path, b"".join(theirs))
        return aside

    def append(self, events: Sequence[Event]) -> None:
        """Add events; what matters to others is in the store when this returns.

        Raises:
            RunTakenError: Another controller has taken the run.
            StoreError: The store cannot be written; nothing more is tried.
        """
        self.hold()
        expected = self._end.length + len(self._pending)
        if events and events[0].seq != expected and not self.down:
            self.down = True
            raise StoreError(f"{name_of(self.store)}: event {expected} of the journal has not come this far")
        if not self._pending:
            self._waits_since = self._clock()
        self._pending += [f"{to_line(event)}\n".encode() for event in events]
        if not all(_may_wait(event.body) for event in events):
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            RunTakenError: Another controller has taken the run.
            StoreError: The store cannot be written; nothing more is tried.
        """
        try:
            while self._pending and not self.down:
                self._push()
        except StoreError:
            self.down = True
            raise

    def _push(self) -> None:
        """Write what waits as one link, or find that a part of it has been written."""
        if self._put(self._next(self._pending)):
            self._pending = []
            return
        found = self._at_end()
        if found is None or found.writer != self._writer:
            raise self._lost("" if found is None else found.who)
        # this writer was broken off in the middle of an earlier attempt, which had come through
        self._end = self._end.after(found, key_of(found.number))
        self._pending = self._pending[len(found.lines) :]

    def tend(self) -> None:
        """Write what has waited long enough, and look now and then whether the run is still this writer's.

        Raises:
            RunTakenError: Another controller has taken the run.
            StoreError: The store cannot be written; nothing more is tried.
        """
        self.hold()
        now = self._clock()
        if self._pending and now - self._waits_since >= FLUSH_S:
            self.flush()
        if now - self._owned_at >= CHECK_S and not self.down:
            self._look()

    def hold(self) -> None:
        """Raise if the run is known to be another's.

        Raises:
            RunTakenError: It is.
        """
        if self.taken:
            raise self._lost(self._end.who)

    def compact(self, path: Path) -> None:
        """Keep the whole chain as one more object if it has grown long; `path` is the same journal on disk.

        It is a mere copy of what never changes, so nothing is lost if this fails.
        """
        if self.down or self.taken or self._pending:
            return
        try:
            copies = [entry.key for entry in self.store.entries(WHOLE)]
            covered = int(copies[-1][len(WHOLE) :].partition(".")[0]) + 1 if copies else 0
            if self._end.number - covered < MANY:
                return
            last = self._end.number - 1
            lines = tuple(_whole_lines(path)[: self._end.length])
            with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
                draft = Path(folder) / "whole"
                draft.write_bytes(Link(last, self.epoch, self._writer, self._who, 0, lines).to_bytes())
                self.store.upload(draft, f"{WHOLE}{last:08d}.jsonl")
            self.store.delete(copies)
        except (StoreError, OSError) as error:
            log.warning(
                "%s: the journal was not put together (%s); it is whole in parts", name_of(self.store), error
            )

    def _next(self, lines: Sequence[bytes], *, taking: bool = False) -> Link:
        end = self._end
        return Link(end.number, end.epoch + taking, self._writer, self._who, end.length, tuple(lines))

    def _at_end(self) -> Link | None:
        """What somebody has written where this writer would go on."""
        found = self.store.get(key_of(self._end.number))
        return None if found is None else link_from(found[0], name_of(self.store))

    def _put(self, link: Link) -> bool:
        """Whether a link is in the store now; not if another one has its place."""
        key = key_of(link.number)
        if not create(self.store, key, link.to_bytes()):
            return False
        self._end = self._end.after(link, key)
        self._owned_at = self._clock()
        return True

    def _look(self) -> None:
        self._owned_at = self._clock()
        try:
            found = self._at_end()
        except StoreError as error:
            log.warning("%s: cannot be read (%s); trying again", name_of(self.store), error)
            return
        if found is not None and found.writer != self._writer:
            raise self._lost(found.who)

    def _lost(self, who: str) -> RunTakenError:
        self.taken, self._pending = True, []
        self._end = replace(self._end, who=who)
        return RunTakenError(
            f"{name_of(self.store)}: {who or 'another controller'} has taken this run; this one stops and "
            "starts nothing more, and what it had running is the other's"
        )


def _may_wait(body: Body) -> bool:
    """Whether nothing outside depends on an event yet, checkpoints that are removed included.

    A proposal, or a decision to go on, has no effect before a segment is planned, which takes it along.
    """
    if isinstance(body, Decided):
        return body.kind == "stopper" and body.verdict == Decision.CONTINUE.value
    return isinstance(body, (Measured, TrialProposed, StageStarted))


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a file, without a torn last one; none if it is not there."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise JournalError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]


def _set_aside(path: Path, lines: Sequence[bytes]) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}.stale-{number}.jsonl")).exists():
        number += 1
    write_whole(aside, b"".join(lines))
    return aside
