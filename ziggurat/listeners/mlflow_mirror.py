"""A mirror of a run in MLflow: one parent run, and one child for each trial.

Events are only noted by the controller's thread; a thread of its own writes them, in batches, and catches up
after an outage or a crash. It rests between batches, the longer the more a batch has taken, so that it never
takes much of the controller's time. The journal stays the truth: the mirror knows how many of its events are
in MLflow (`mlflow.json` in the run directory) and finds its runs again by their tags. Nothing that happens
here reaches the run.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.events import Event
from ziggurat.files import write_whole
from ziggurat.listeners import mlflow_client, mlflow_words
from ziggurat.listeners.mlflow_fold import Fold
from ziggurat.listeners.mlflow_writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ziggurat.history import History
    from ziggurat.listeners.mlflow_about import About
    from ziggurat.listeners.mlflow_client import Place
    from ziggurat.listeners.mlflow_words import Point
    from ziggurat.listeners.tracking import Tracking

log = logging.getLogger(__name__)

CURSOR = "mlflow.json"
"""File in the run directory that says how far the mirror is."""
BATCH = 1000
"""Events written between two looks at the cursor."""
GATHER_S = 3.0
"""Time that events get at least to become a batch."""
REST, REST_BEHIND = 19.0, 4.0
"""How much longer than it has written the mirror rests: usually, and while it is a batch or more behind."""
LONGEST_REST_S = 30.0
LAST_TRIES = 4
"""How often copying a file may have failed to be tried again when the run ends."""
LONGEST_PAUSE_S = 60.0
SAMPLES = 2000
"""Samples of machines' use kept for a server that cannot be reached; older ones are dropped."""


@dataclass(frozen=True)
class Copy:
    """A file or folder for the run of a trial, or for the parent."""

    trial: int | None
    path: Path
    folder: str | None = None


class MlflowMirror:
    """Listener that writes a run to MLflow in the background."""

    def __init__(self, settings: Tracking, place: Place, run_dir: Path, about: About) -> None:
        """Start the thread; nothing is written before the first event."""
        self._settings, self._place, self._about = settings, place, about
        self._cursor_file = run_dir / CURSOR
        self._events: list[Event] = []
        self._copies: deque[Copy] = deque()
        self._samples: deque[tuple[float, int, Mapping[str, float]]] = deque(maxlen=SAMPLES)
        self._wake, self._prompt, self._closing, self._abandoned = (threading.Event() for _ in range(4))
        self._thread = threading.Thread(target=self._run, name="mlflow-mirror", daemon=True)
        # what follows belongs to the thread
        self._fold = Fold(about)
        self._writer: Writer | None = None
        self._mirrored = 0
        self._down = False
        self._stuck_until = 0.0
        self._stuck = 0
        self._connecting_s = 0.0
        self.busy_s = 0.0
        """Seconds of processor time that the thread has taken."""
        self._thread.start()

    def __call__(self, event: Event, history: History) -> None:
        """Note an event; it is written later."""
        self._note(event)
        self._wake.set()

    def replay(self, events: Iterable[Event]) -> None:
        """Note the events of earlier sessions; those that are in MLflow already are not written again."""
        for event in events:
            self._note(event)
        self._wake.set()

    def _note(self, event: Event) -> None:
        if event.seq == len(self._events):
            self._events.append(event)
        elif event.seq > len(self._events) and not self._closing.is_set():
            log.warning("MLflow mirror: event %d came before event %d", event.seq, len(self._events))

    def log_artifacts(self, folder: Path) -> None:
        """Copy a folder to the parent run, under its own name, once all events so far are written."""
        if not folder.is_dir():
            log.warning("MLflow mirror: there is no folder %s to copy", folder)
            return
        self._copies.append(Copy(None, folder))
        self._wake.set()

    def log_files(self, trial: int, files: Sequence[Path]) -> None:
        """Copy files to the run of a trial, into the folder `export`, once all events so far are written."""
        self._copies += [Copy(trial, file, "export") for file in files]
        self._wake.set()

    def sample(self, utc: float, usage: Mapping[int, Mapping[str, float]]) -> None:
        """Note what trainings use of their machines at this moment, by trial."""
        self._samples += [(utc, number, found) for number, found in usage.items() if found]
        self._wake.set()

    def hurry(self, *, on: bool) -> None:
        """Have it write without rests as long as somebody waits for it."""
        if on:
            self._prompt.set()
            self._wake.set()
        elif not self._closing.is_set():
            self._prompt.clear()

    @property
    def behind(self) -> int:
        """Events that are not in MLflow yet."""
        return len(self._events) - self._mirrored

    @property
    def pending(self) -> int:
        """Events, folders and files that are not in MLflow yet."""
        return self.behind + len(self._copies)

    @property
    def down(self) -> bool:
        """Whether the last try to write events failed."""
        return self._down

    def close(self, deadline_s: float) -> int:
        """Write what is left for at most some seconds; what is pending then is left for the next session."""
        self._closing.set()
        self.hurry(on=True)
        self._thread.join(max(deadline_s, 0.0))
        self._abandoned.set()
        if self.behind:
            log.warning(
                "MLflow: %d events are not in %s yet; `ziggurat resume` or `ziggurat report` writes them",
                self.behind,
                self._place.shown,
            )
        elif self._copies:
            log.warning(
                "MLflow: %d files or folders are not in %s yet; `ziggurat report` copies the report",
                len(self._copies),
                self._place.shown,
            )
        return self.pending

    def _run(self) -> None:
        failures = 0
        while not self._abandoned.is_set():
            closing = self._closing.is_set()
            if self._idle(closing=closing):
                if closing:
                    return
                self._wake.wait(LONGEST_PAUSE_S if self._copies else None)
                self._wake.clear()
                self._prompt.wait(GATHER_S)
                continue
            try:
                self._advance()
            except Exception as error:  # noqa: BLE001 - nothing that happens here may reach the run
                if self._abandoned.is_set():  # given up, which whoever closes it tells
                    return
                failures += 1
                self._lose(error)
                pause = min(0.5 * 2.0 ** min(failures, 10), LONGEST_PAUSE_S)
                (self._abandoned if closing else self._closing).wait(min(pause, 0.5) if closing else pause)
            else:
                failures = 0
                self._regain()
                self._rest()

    def _idle(self, *, closing: bool) -> bool:
        """Whether there is nothing to write now."""
        if self.behind or (self._samples and not closing):
            return False
        if closing and self._stuck < LAST_TRIES:
            return not self._copies
        return not self._copies or time.monotonic() < self._stuck_until

    def _rest(self) -> None:
        """Give the controller its time back, unless somebody waits for what is still to be written."""
        before, self.busy_s = self.busy_s, time.thread_time()
        share = REST if self.behind < BATCH else REST_BEHIND
        self._prompt.wait(min(share * (self.busy_s - before - self._connecting_s), LONGEST_REST_S))
        self._connecting_s = 0.0

    def _lose(self, error: Exception) -> None:
        # a request that timed out may have been carried out, so the runs are looked up again
        self._writer = None
        if not self._down:
            log.warning(
                "MLflow at %s cannot be written (%s); the run goes on, and the mirror catches up later",
                self._place.shown,
                mlflow_client.told(error, self._place),
            )
        self._down = True

    def _regain(self) -> None:
        if self._down:
            log.warning("MLflow at %s can be written again", self._place.shown)
        self._down = False

    def _advance(self) -> None:
        """Write the next batch of events or, behind the last one, samples and files."""
        if not self._events:
            raise ConnectionError("a folder was given before any event")
        writer = self._writer or self._connect()
        stop = min(len(self._events), self._mirrored + BATCH)
        batch = self._events[self._mirrored : stop]
        if batch:
            self._fold.add(self._events[self._fold.history.length : stop])
            points = self._fold.told(self._mirrored, stop)
            writer.write(batch, self._fold, points, self._abandoned.is_set)
            self._mirrored = stop
            self._fold.forget(stop)
            self._save(writer)
        if not self.behind:
            self._write_samples(writer)
            self._copy(writer)

    def _connect(self) -> Writer:
        began, run_id = time.thread_time(), self._events[0].run_id
        writer = Writer(self._settings, self._place, self._about, run_id)
        saved = self._saved()
        known = writer.parent is not None and writer.parent.run_id == saved.get("parent")
        mirrored = min(int(str(saved.get("mirrored", 0))), len(self._events)) if known else 0
        if mirrored < self._fold.history.length:  # what was folded is needed once more
            self._fold = Fold(self._about)
        self._mirrored = mirrored
        self._fold.add(self._events[self._fold.history.length : mirrored])
        self._fold.forget(mirrored)
        self._writer = writer
        self._connecting_s += time.thread_time() - began
        return writer

    def _saved(self) -> dict[str, object]:
        try:
            plain = json.loads(self._cursor_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return plain if isinstance(plain, dict) else {}

    def _save(self, writer: Writer) -> None:
        plain = {
            "mirrored": self._mirrored,
            "experiment": writer.experiment,
            "parent": writer.parent.run_id if writer.parent else None,
            "trials": {str(number): known.run_id for number, known in sorted(writer.children.items())},
        }
        write_whole(self._cursor_file, json.dumps(plain))

    def _write_samples(self, writer: Writer) -> None:
        """Write the samples of machines' use; they are lost if that fails."""
        found: dict[int, list[Point]] = {}
        while self._samples:
            utc, number, usage = self._samples.popleft()
            if number in self._fold.born:
                found.setdefault(number, []).extend(mlflow_words.usage(usage, utc, self._fold.born[number]))
        writer.write_usage(found)

    def _copy(self, writer: Writer) -> None:
        """Copy what is due; files that cannot be copied do not hold up events."""
        closing = self._closing.is_set()
        if time.monotonic() < self._stuck_until and not closing:
            return
        if closing and self._stuck:
            self._abandoned.wait(1.0)
        try:
            writer.keep_spec()
            while self._copies and not self._abandoned.is_set():
                copy = self._copies[0]
                writer.copy(copy.trial, copy.path, copy.folder)
                self._copies.popleft()
        except Exception as error:  # noqa: BLE001 - it is told, and tried again
            self._stuck += 1
            self._stuck_until = time.monotonic() + min(2.0**self._stuck, LONGEST_PAUSE_S)
            if self._stuck == 1:
                log.warning(
                    "MLflow at %s takes no files (%s); metrics are written, and the files are tried again",
                    self._place.shown,
                    mlflow_client.told(error, self._place),
                )
        else:
            self._stuck, self._stuck_until = 0, 0.0
