"""Writes portions of a run to MLflow: the parent, its children, datasets and files.

It is told what has happened since it last wrote, asks MLflow as seldom as it can, and raises whatever goes
wrong; who calls it decides about another try. Writing a portion twice changes nothing.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from ziggurat.domain import RunStatus
from ziggurat.events import RunFinished, RunStarted, StageFinished
from ziggurat.listeners import mlflow_about, mlflow_client, mlflow_words
from ziggurat.listeners.mlflow_client import KIND, RUN_ID, Known, Place
from ziggurat.listeners.mlflow_fold import PARENT, Fold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

    from ziggurat.domain import Trial
    from ziggurat.events import Event
    from ziggurat.listeners.mlflow_about import About, Part
    from ziggurat.listeners.mlflow_words import Point
    from ziggurat.listeners.tracking import Tracking

log = logging.getLogger(__name__)

PORTION = 900
"""Points in a request; MLflow takes 1,000 points, parameters and tags together."""
DATA = "ziggurat.datasets"
SPEC_KEPT = "ziggurat.spec"


class Writer:
    """One run in one MLflow, as long as its answers can be trusted."""

    def __init__(self, settings: Tracking, place: Place, about: About, run_id: str) -> None:
        """Look for what there is of the run.

        Raises:
            Exception: MLflow cannot be reached, or does not let us.
        """
        self._settings, self._about = settings, about
        self._maker = {"mlflow.user": mlflow_client.user(), "mlflow.source.name": "ziggurat"}
        self._client: MlflowClient = mlflow_client.connect(place)
        self.experiment = mlflow_client.experiment_id(self._client, place)
        self.parent, self.children = mlflow_client.find(self._client, self.experiment, run_id)

    def write(
        self, events: Sequence[Event], fold: Fold, points: Mapping[int, list[Point]], over: Callable[[], bool]
    ) -> None:
        """Write what some events add.

        Args:
            events: The events, already folded.
            fold: The history up to the last of them.
            points: What they add, by trial.
            over: Whether to give up now.

        Raises:
            TimeoutError: Given up.
        """
        if self.parent is None:
            self.parent = self._create_parent(events[0], fold)
        ended = any(isinstance(e.body, RunFinished) for e in events)
        rows = {number: list(found) for number, found in points.items() if number != PARENT}
        for number in self._restless(fold, everyone=ended):
            rows.setdefault(number, [])
        for number, found in rows.items():
            if over():
                raise TimeoutError("closed before everything was written")
            self._forgiving(number, partial(self._write_child, number, found, fold))
        self._write_parent(events, fold, points.get(PARENT, []))

    def _restless(self, fold: Fold, *, everyone: bool) -> list[int]:
        """Trials to which nothing has happened, but whose runs are to be written anew."""
        front = fold.front.numbers
        known = self.children.items()
        moved = [n for n, k in known if (k.tags.get(mlflow_words.FRONT) == "yes") != (n in front)]
        left = [n for n, t in fold.history.trials.items() if everyone and not t.ended]
        return [n for n in (*moved, *left) if n in fold.history.trials]

    def _forgiving(self, number: int, write: Callable[[], None]) -> None:
        """Write to one child; one that MLflow will never take does not hold up the others."""
        try:
            write()
        except Exception as error:
            if not mlflow_client.refused(error):
                raise
            log.warning("MLflow does not take trial %d: %s", number, mlflow_client.first_line(error))

    def _create_parent(self, first: Event, fold: Fold) -> Known:
        tags = {**self._settings.tags, **self._maker, RUN_ID: fold.history.run_id, KIND: "run"}
        if isinstance(first.body, RunStarted):
            tags |= {"ziggurat.name": first.body.name, "ziggurat.spec_sha256": first.body.spec_sha256}
        start = mlflow_words.ms(fold.history.started_utc)
        run = self._client.create_run(self.experiment, start, tags, run_name=fold.history.run_id)
        return Known(str(run.info.run_id), "RUNNING", dict(tags))

    def _write_child(self, number: int, points: Sequence[Point], fold: Fold) -> None:
        trial = fold.history.trials[number]
        child = self.children.get(number) or self._create_child(trial, fold)
        tags = mlflow_words.state(trial, fold.front.numbers)
        if self.parent is not None:  # another one than before, if somebody has deleted it
            tags[mlflow_client.PARENT] = self.parent.run_id
        self._log(child, points, mlflow_words.params(trial), tags)
        over = fold.history.status is not RunStatus.RUNNING
        self._set_state(child, mlflow_words.child_status(trial, over=over), fold.history.last_utc)

    def _create_child(self, trial: Trial, fold: Fold) -> Known:
        assert self.parent is not None
        identity = mlflow_words.identity(trial, fold.history, self.parent.run_id)
        tags = {**self._settings.tags, **self._maker, **identity}
        tags |= mlflow_words.state(trial, fold.front.numbers)
        start, name = mlflow_words.ms(fold.born[trial.number]), mlflow_words.title(trial, fold.history)
        run = self._client.create_run(self.experiment, start, tags, run_name=name)
        self.children[trial.number] = Known(str(run.info.run_id), "RUNNING", dict(tags))
        return self.children[trial.number]

    def _write_parent(self, events: Sequence[Event], fold: Fold, points: Sequence[Point]) -> None:
        assert self.parent is not None
        tags = mlflow_about.tags(fold.history)
        if any(isinstance(e.body, (StageFinished, RunFinished)) for e in events):
            tags |= self._note(fold)
            self._log_inputs(fold)
        self._log(self.parent, points, mlflow_about.params(self._about.settings), tags)
        self._set_state(self.parent, mlflow_words.parent_status(fold.history), fold.history.last_utc)

    def _note(self, fold: Fold) -> dict[str, str]:
        """The description of the parent run, with links to what is worth a look."""
        best = mlflow_about.finalists(fold.history, self._about)
        runs = [self.children[t.number].run_id for t in best if t.number in self.children]
        page = mlflow_client.runs_page(self.experiment, runs) if runs else ""
        return {"mlflow.note.content": mlflow_about.note(fold.history, self._about, page)}

    def _log(
        self, known: Known, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Write what is new to a run, in one request if it is not too much for one."""
        from mlflow.entities import Metric, Param, RunTag

        # MLflow shows what came first first
        metrics = [Metric(p.name, p.value, p.utc_ms, p.step) for p in sorted(points, key=self._about.rank)]
        labels = [RunTag(k, v) for k, v in tags.items() if known.tags.get(k) != v]
        pairs = [] if known.described else [Param(k, v) for k, v in params.items()]
        while metrics or labels or pairs:
            self._client.log_batch(known.run_id, metrics[:PORTION], pairs[:50], labels[:50])
            metrics, pairs, labels = metrics[PORTION:], pairs[50:], labels[50:]
        known.described = known.described or bool(params)
        known.tags |= tags

    def _set_state(self, known: Known, state: str, utc: float) -> None:
        if known.state == state:
            return
        if state == "RUNNING":
            self._client.update_run(known.run_id, status=state)
        else:
            self._client.set_terminated(known.run_id, state, mlflow_words.ms(utc))
        known.state = state

    def _log_inputs(self, fold: Fold) -> None:
        """List the dataset with the parent and with every finalist; what is listed already stays."""
        found = mlflow_about.parts(self._about, fold.history)
        mark = ", ".join(part.context for part in found)
        best = [t.number for t in mlflow_about.finalists(fold.history, self._about)]
        runs = [self.parent, *(self.children.get(number) for number in best)]
        for known in (k for k in runs if k is not None and mark and k.tags.get(DATA) != mark):
            self._client.log_inputs(known.run_id, datasets=[_dataset(part) for part in found])
            self._log(known, [], {}, {DATA: mark})

    def write_usage(self, found: Mapping[int, list[Point]]) -> None:
        """Write what trainings use of their machines now, of those that are known."""
        for number, points in found.items():
            if number in self.children:
                self._forgiving(number, partial(self._log, self.children[number], points, {}, {}))

    def copy(self, trial: int | None, path: Path, folder: str | None) -> None:
        """Copy a folder or a file to the run of a trial, or to the parent."""
        known = self.parent if trial is None else self.children.get(trial)
        if known is None:
            log.warning("MLflow mirror: trial %s has no run, so %s is not copied", trial, path.name)
        elif path.is_dir():
            self._client.log_artifacts(known.run_id, str(path), artifact_path=folder or path.name)
        else:
            self._client.log_artifact(known.run_id, str(path), artifact_path=folder)

    def keep_spec(self) -> None:
        """Have the spec among the artifacts of the parent, so that the run can be repeated from there."""
        if self.parent is not None and self._about.spec and self.parent.tags.get(SPEC_KEPT) is None:
            self._client.log_text(self.parent.run_id, self._about.spec, mlflow_about.SPEC)
            self._log(self.parent, [], {}, {SPEC_KEPT: mlflow_about.SPEC})


def _dataset(part: Part) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        part.name, part.digest, part.source_type, part.source, part.schema or None, part.profile
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", part.context)])
