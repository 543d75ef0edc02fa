"""A mirror of a run in MLflow: one parent run, and one child for each trial.

Events are only noted by the controller's thread; a thread of its own writes them, in batches, and catches up
after an outage or a crash. The journal stays the truth: the mirror knows how many of its events are in MLflow
(`mlflow.json` in the run directory) and finds its runs again by their tags. Nothing that happens here reaches
the run.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING

from ziggurat.domain import Objective, RunStatus
from ziggurat.events import Event, RunFinished, RunStarted, TrialProposed
from ziggurat.files import write_whole
from ziggurat.history import History
from ziggurat.listeners import mlflow_client, mlflow_words
from ziggurat.listeners.mlflow_client import KIND, RUN_ID, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mlflow import MlflowClient

    from ziggurat.listeners.mlflow_words import Point
    from ziggurat.listeners.tracking import Tracking

log = logging.getLogger(__name__)

CURSOR = "mlflow.json"
"""File in the run directory that says how far the mirror is."""
BATCH = 500
"""Events written between two looks at the cursor."""
GATHER_S = 1.0
"""Time that events get to become a batch."""
LONGEST_PAUSE_S = 60.0


class MlflowMirror:
    """Listener that writes a run to MLflow in the background."""

    def __init__(
        self, settings: Tracking, place: Place, run_dir: Path, objectives: tuple[Objective, ...]
    ) -> None:
        """Start the thread; nothing is written before the first event."""
        self._settings = settings
        self._place = place
        self._cursor_file = run_dir / CURSOR
        self._objectives = objectives
        self._events: list[Event] = []
        self._copies: list[tuple[int | None, Path]] = []
        self._wake, self._closing, self._abandoned = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._run, name="mlflow-mirror", daemon=True)
        # what follows belongs to the thread
        self._history = History()
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._parent: str | None = None
        self._children: dict[int, str] = {}
        self._states: dict[int, str] = {}
        self._born: dict[int, float] = {}
        self._mirrored = 0
        self._down = False
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
        self._copies.append((None, folder))
        self._wake.set()

    def log_files(self, trial: int, files: Sequence[Path]) -> None:
        """Copy files to the run of a trial, into the folder `export`, once all events so far are written."""
        self._copies += [(trial, file) for file in files]
        self._wake.set()

    @property
    def pending(self) -> int:
        """Events, folders and files that are not in MLflow yet."""
        return len(self._events) - self._mirrored + len(self._copies)

    @property
    def down(self) -> bool:
        """Whether the last try to write failed."""
        return self._down

    def close(self, deadline_s: float) -> int:
        """Write what is left for at most some seconds; what is pending then is left for the next session."""
        self._closing.set()
        self._wake.set()
        self._thread.join(max(deadline_s, 0.0))
        self._abandoned.set()
        pending = self.pending
        if pending:
            log.warning(
                "MLflow: %d events are not in %s yet; `ziggurat resume` or `ziggurat report` writes them",
                pending,
                self._place.shown,
            )
        return pending

    def _run(self) -> None:
        failures = 0
        while not self._abandoned.is_set():
            closing = self._closing.is_set()
            if not self.pending:
                if closing:
                    return
                self._wake.wait()
                self._wake.clear()
                self._closing.wait(GATHER_S)
                continue
            try:
                self._advance()
            except Exception as error:  # noqa: BLE001 - nothing that happens here may reach the run
                failures += 1
                self._lose(error)
                pause = min(0.5 * 2.0 ** min(failures, 10), LONGEST_PAUSE_S)
                (self._abandoned if closing else self._closing).wait(min(pause, 0.5) if closing else pause)
            else:
                failures = 0
                self._regain()

    def _lose(self, error: Exception) -> None:
        # a request that timed out may have been carried out, so the runs are looked up again
        self._client = None
        if not self._down:
            log.warning(
                "MLflow at %s cannot be written (%s: %s); the run goes on, and the mirror catches up later",
                self._place.shown,
                type(error).__name__,
                _first_line(error).replace(self._place.uri, self._place.shown),
            )
        self._down = True

    def _regain(self) -> None:
        if self._down:
            log.warning("MLflow at %s can be written again", self._place.shown)
        self._down = False

    def _advance(self) -> None:
        """Write the next batch of events or, behind the last one, a folder."""
        client = self._client or self._connect()
        batch = self._events[self._mirrored : self._mirrored + BATCH]
        if batch:
            self._write(client, batch)
            self._mirrored = batch[-1].seq + 1
            self._save()
        elif self._parent is not None:
            trial, path = self._copies[0]
            if trial is None:
                client.log_artifacts(self._parent, str(path), artifact_path=path.name)
            elif trial in self._children:
                client.log_artifact(self._children[trial], str(path), artifact_path="export")
            else:
                log.warning("MLflow mirror: trial %d has no run, so %s is not copied", trial, path.name)
            self._copies.pop(0)
        else:
            raise ConnectionError("a folder was given before any event")

    def _connect(self) -> MlflowClient:
        client = mlflow_client.connect(self._place)
        self._experiment = mlflow_client.experiment_id(client, self._place)
        run_id = self._events[0].run_id if self._events else ""
        self._parent, self._children = mlflow_client.find(client, self._experiment, run_id)
        self._states = {}
        known = self._parent is not None and self._parent == self._saved().get("parent")
        self._mirrored = min(int(str(self._saved().get("mirrored", 0))), len(self._events)) if known else 0
        self._client = client
        return client

    def _saved(self) -> dict[str, object]:
        try:
            plain = json.loads(self._cursor_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return plain if isinstance(plain, dict) else {}

    def _save(self) -> None:
        plain = {
            "mirrored": self._mirrored,
            "experiment": self._experiment,
            "parent": self._parent,
            "trials": {str(number): run for number, run in sorted(self._children.items())},
        }
        write_whole(self._cursor_file, json.dumps(plain))

    def _write(self, client: MlflowClient, batch: Sequence[Event]) -> None:
        self._fold(batch[-1].seq + 1)
        if self._parent is None:
            self._parent = self._create_parent(client)
        touched = mlflow_words.points(batch, self._history)
        if any(isinstance(e.body, RunFinished) for e in batch):
            touched.update({n: touched.get(n, []) for n, t in self._history.trials.items() if not t.ended})
        for number, points in touched.items():
            if self._abandoned.is_set():
                raise TimeoutError("closed before everything was written")
            try:
                self._write_child(client, number, points)
            except Exception as error:
                if not mlflow_client.refused(error):
                    raise
                log.warning("MLflow does not take trial %d: %s", number, _first_line(error))
        self._write_parent(client, batch)

    def _fold(self, length: int) -> None:
        for event in self._events[self._history.length : length]:
            self._history.apply(event)
            if isinstance(event.body, TrialProposed):
                self._born[event.body.trial] = event.utc

    def _create_parent(self, client: MlflowClient) -> str:
        first = self._events[0]
        tags = {**self._settings.tags, RUN_ID: first.run_id, KIND: "run"}
        if isinstance(first.body, RunStarted):
            tags |= {"ziggurat.name": first.body.name, "ziggurat.spec_sha256": first.body.spec_sha256}
        start = mlflow_words.ms(first.utc)
        run = client.create_run(self._experiment, start_time=start, tags=tags, run_name=first.run_id)
        return str(run.info.run_id)

    def _write_child(self, client: MlflowClient, number: int, points: Sequence[Point]) -> None:
        trial = self._history.trials[number]
        fresh = number not in self._children
        if fresh:
            tags = {
                **self._settings.tags,
                **mlflow_words.identity(trial, self._history.run_id, self._parent or ""),
            }
            start = mlflow_words.ms(self._born[number])
            name = f"{trial.stage}-{number:05d}"
            run = client.create_run(self._experiment, start_time=start, tags=tags, run_name=name)
            self._children[number] = str(run.info.run_id)
        run_id = self._children[number]
        last = max((p.utc_ms for p in points), default=mlflow_words.ms(self._history.last_utc)) / 1000
        # a child that a crash left behind may lack its parameters; writing them again changes nothing
        params = mlflow_words.params(trial) if number not in self._states else {}
        _log(client, run_id, [*points, *mlflow_words.cost(trial, last)], params, mlflow_words.state(trial))
        state = mlflow_words.child_status(trial, over=self._history.status is not RunStatus.RUNNING)
        if self._states.get(number, "RUNNING" if fresh else "") != state:
            _set_state(client, run_id, state, last)
        self._states[number] = state

    def _write_parent(self, client: MlflowClient, batch: Sequence[Event]) -> None:
        parent = self._parent or ""
        tags = {"ziggurat.status": self._history.status.value}
        _log(client, parent, mlflow_words.summary(self._history, self._objectives), {}, tags)
        if any(isinstance(e.body, (RunStarted, RunFinished)) for e in batch):
            _set_state(client, parent, mlflow_words.parent_status(self._history), self._history.last_utc)


def _log(
    client: MlflowClient, run_id: str, points: Sequence[Point], params: dict[str, str], tags: dict[str, str]
) -> None:
    """Write to a run within MLflow's limits: 1,000 metrics and 100 parameters a request."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(p.name, p.value, p.utc_ms, p.step) for p in points]
    pairs = [Param(key, value) for key, value in params.items()]
    labels = [RunTag(key, value) for key, value in tags.items()]
    for start in range(0, max(len(metrics), 1), 800):
        client.log_batch(run_id, metrics[start : start + 800], pairs[:100] if start == 0 else [], labels)
    for start in range(100, len(pairs), 100):
        client.log_batch(run_id, params=pairs[start : start + 100])


def _set_state(client: MlflowClient, run_id: str, state: str, utc: float) -> None:
    if state == "RUNNING":
        client.update_run(run_id, status=state)
    else:
        client.set_terminated(run_id, state, mlflow_words.ms(utc))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:300]
