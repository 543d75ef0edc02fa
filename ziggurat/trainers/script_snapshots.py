"""Snapshots of a script's checkpoint while the script goes on, so that a lost machine costs minutes.

The script is neither asked nor halted: a thread of the worker packs its checkpoint folder when that has been
quiet for a moment, and the archive counts only if the folder was the same before and after.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ziggurat.trainers import script_checkpoint as checkpoints
from ziggurat.trainers.failures import TrainingFailed
from ziggurat.trainers.script_checkpoint import State, Told
from ziggurat.trainers.script_metrics import Found
from ziggurat.trainers.script_place import Place
from ziggurat.trainers.script_process import SETTLE_S, Program

PARTIAL = "partial.tar"
"""Checkpoint inside a segment: of a script that was asked to stop, or takes long."""
SHARE = 20
"""A look is followed by at least so many times the seconds it has taken without one."""
AGAIN = 5
"""Packing in vain is followed by at least so many times the seconds it has taken without another try."""
LATE_S = 1.0
"""Seconds in which the numbers of an epoch may follow the checkpoint that was written at its end."""
ROOM = 2
"""A snapshot is taken where the disk has room for so many of them, or it might take the script's own."""


@dataclass
class Diary:
    """When a training has told of which epoch, so that it is known which one a checkpoint belongs to.

    Attributes:
        begun: What it had told when it began.
        found: What it has told by now.
    """

    begun: Told
    found: Found
    _pages: list[tuple[float, int]] = field(default_factory=list)

    def note(self, now: float | None = None) -> None:
        """Take down what has been told by now, in seconds since 1970."""
        if self.found.done > (self._pages[-1][1] if self._pages else self.begun.epoch):
            self._pages.append((time.time() if now is None else now, self.found.done))

    def told_at(self, changed: float) -> Told:
        """What had been told by a checkpoint that was written at some time.

        A script may write it right before or right after it tells the numbers of an epoch.
        """
        before, epoch = 0.0, self.begun.epoch
        for at, told in self._pages:
            late = at - changed
            if late > 0 and (late > LATE_S or late >= changed - before):
                break
            before, epoch = at, told
            if late > 0:
                break
        return Told(epoch, self.found.last or self.begun.last)


class Snapshots:
    """Takes snapshots of one start of a script."""

    def __init__(self, place: Place, program: Program, diary: Diary, before: State | None) -> None:
        """Begin; what its folder held before it began need not be kept again."""
        self._place, self._program, self._diary = place, program, diary
        every_s = place.setting.checkpoint_s if place.setting.resumable else None
        self._every_s = every_s
        self._due = time.monotonic() + (every_s or 0.0)
        self._kept = before
        self._seen: State | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Begin to pack if it is time, and the folder is new and quiet."""
        now = time.monotonic()
        if self._every_s is None or now < self._due or (self._thread and self._thread.is_alive()):
            return
        found = checkpoints.state(self._place.checkpoint)
        self._due = now + max(SETTLE_S, SHARE * (time.monotonic() - now))
        if found is None or found == self._kept:
            self._seen = None
        elif found != self._seen:
            self._seen = found  # if it is so at the next look as well, it is quiet
        elif not self._program.writes_into(self._place.checkpoint):
            told = self._diary.told_at(found.changed)
            self._thread = threading.Thread(target=self._take, args=(found, told), daemon=True)
            self._thread.start()

    def _take(self, found: State, told: Told) -> None:
        """Pack the folder, and put the archive in its place if the folder has stayed the same."""
        began = time.monotonic()
        archive = self._place.trial / PARTIAL
        draft = checkpoints.beside(archive)
        kept = False
        try:
            checkpoints.check_room(archive.parent, ROOM * found.size)
            self._write(draft, found, told)
            with self._lock:
                kept = not self._over.is_set() and self._unchanged(found)
                if kept:
                    draft.replace(archive)
                    self._kept = found
        except (OSError, TrainingFailed) as error:
            if not self._over.is_set():
                print(f"no snapshot of the checkpoint: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log
                kept = True  # it is tried again when the next is due
        finally:
            draft.unlink(missing_ok=True)
            now = time.monotonic()
            self._due = now + (self._every_s or 0.0) if kept else now + max(SETTLE_S, AGAIN * (now - began))

    def _write(self, draft: Path, found: State, told: Told) -> None:
        checkpoints.write(
            self._place.checkpoint,
            draft,
            told,
            self._place.setting.checkpoint_limit_mb,
            changed=found.changed,
            given_up=self._over.is_set,
        )

    def _unchanged(self, found: State) -> bool:
        folder = self._place.checkpoint
        return checkpoints.state(folder) == found and not self._program.writes_into(folder)

    def close(self) -> None:
        """Take no more, and give up one that is not whole; nothing is put in its place from now on."""
        with self._lock:
            self._over.set()
