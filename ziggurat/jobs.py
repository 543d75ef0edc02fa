"""What a worker does for each kind of job, with what it keeps warm between jobs.

The sealed test part is loaded for an evaluation only and not kept.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat import ddp, prices
from ziggurat import spec as specs
from ziggurat.bench import NO_MODELS, Bench
from ziggurat.combinations import builds
from ziggurat.domain import (
    Candidate,
    Failure,
    Fidelity,
    Job,
    JobKind,
    Measurement,
    Recipe,
)
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.events import to_plain
from ziggurat.history import History, fold
from ziggurat.journal import read_events
from ziggurat.launchers.results import home
from ziggurat.proposing import Proposals
from ziggurat.scripted import named_for, script_of
from ziggurat.spaces import TableSpace
from ziggurat.trainers import Lightning, TableTrainer

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.protocols import Data, Report, Signature, Trained
    from ziggurat.stores import Store

Row = Callable[[int, Sequence[Measurement]], None]
Stopped = Callable[[bool], bool]
"""Whether to stop now, asked at the end of an epoch (True) and between batches (False)."""


@dataclass(frozen=True)
class Outcome:
    """What a job leaves that was done; `seconds` and `failure` are those of a replayed training."""

    measurements: tuple[Measurement, ...] = ()
    checkpoint: str | None = None
    payload: Any = None
    seconds: float = 0.0
    failure: Failure | None = None


class Desk:
    """A worker's desk: the spec, the data, and caches that can be rebuilt at any time."""

    def __init__(self, folder: Path, name: str, history: History | None = None) -> None:
        """Sit down at a run directory; a history that somebody else keeps up to date is not read again."""
        self.folder = folder
        self.service = name.endswith("service")
        self._proposals = Proposals(folder, history)
        self.lenient = False
        self._blind = (
            False  # whether candidates are proposed unseen, since building one has ended this process
        )

    @cached_property
    def spec(self) -> specs.Spec:
        """The run's spec; its variables come from this process's environment."""
        return specs.read(self.folder / "spec.yaml", lenient=self.lenient)[0]

    @cached_property
    def data(self) -> Data:
        """Training and validation part."""
        return self.spec.data.load()

    @cached_property
    def signature(self) -> Signature:
        """Shape of the dataset."""
        return self.spec.data.signature()

    @cached_property
    def bench(self) -> Bench:
        """Where candidates are looked at and measured without training."""
        return Bench(self.spec, self.signature if builds(self.spec.space) else NO_MODELS)

    @cached_property
    def store(self) -> Store | None:
        """Where the run's artifacts are kept beside its directory, if anywhere."""
        return self.spec.open_store(self.folder.name)

    def build(self, candidate: Candidate, seed: int) -> nn.Module:
        """An untrained model, initialised from a seed."""
        return self.bench.build(candidate, seed)

    def warm(self, *, fit: bool = True) -> None:
        """Import and load what every job needs; errors wait for the job they belong to.

        Args:
            fit: Train a sampled candidate for a moment; not to be repeated where it has ended the process.
        """
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        if self._only_starts_scripts():
            return
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        warnings.filterwarnings(
            "ignore", module=r"pytorch_lightning|lightning|torch|ax|botorch|linear_operator"
        )
        if self.service or not fit or prices.processes_of(self.spec) > 1:
            return
        try:
            self.spec.space.check(self.signature)
            self._dummy_fit()
        except Exception as error:  # noqa: BLE001 - it is raised again by the first job
            print(f"warm-up: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log

    def _only_starts_scripts(self) -> bool:
        """Whether nothing is trained in this process, so that torch would be imported for nothing."""
        try:
            return script_of(self.spec) is not None
        except ZigguratError:
            return False  # the first job says what is wrong

    def _dummy_fit(self) -> None:
        """One short training on a few examples, so that the first real one starts warm."""
        import tempfile

        from ziggurat.choices import sample
        from ziggurat.contexts import rng_for

        candidate = sample(self.spec.space.choices(), rng_for(self.spec, "warm", 0))
        few = self.data.train_x[:64], self.data.train_y[:64]
        data = replace(self.data, train_x=few[0], train_y=few[1])
        ladder = (Fidelity(1),)
        job = Job("warm", JobKind.TRAIN, "warm", candidate=candidate, ladder=ladder, to_rung=0)
        with tempfile.TemporaryDirectory() as folder:
            self._trainer(job).train(self.build(candidate, 0), job, data, lambda _: None, Path(folder), None)

    def warm_searcher(self) -> None:
        """Import what the searcher will need, while there is nothing else to do."""
        warm: Callable[[], None] | None = getattr(self.spec.search.proposer, "warm", None)
        if warm is not None:
            warm()

    def _trainer(self, job: Job) -> Lightning:
        full = self.spec.retrain.trainer
        trainer = full if job.recipe is Recipe.RETRAIN and full is not None else self.spec.search.trainer
        if not isinstance(trainer, Lightning):
            raise SpecError(f"trainer.kind '{trainer.kind}' trains no model that is built here")
        return trainer

    def do(self, job: Job, row: Row, stopped: Stopped) -> Outcome:
        """Do a job."""
        match job.kind:
            case JobKind.TRAIN:
                return self.train(job, row, stopped)
            case JobKind.PROPOSE:
                return Outcome(payload=self.propose(job))
            case JobKind.INSPECT:
                from ziggurat.inspection import inspect

                return Outcome(payload=inspect(self, job.count))
        deeds = {
            JobKind.EVALUATE: self.evaluate,
            JobKind.PROFILE: self.profile,
            JobKind.EXPORT: self.export,
            JobKind.PUBLISH: self.publish,
        }
        return deeds[job.kind](job)

    def train(self, job: Job, row: Row, stopped: Stopped) -> Outcome:
        """Train from one rung to the next."""
        if isinstance(self.spec.search.trainer, TableTrainer):
            return self._replay(self.spec.search.trainer, job)
        from ziggurat.trainers import StopTraining

        candidate = _candidate(job)

        def report(measurements: Sequence[Measurement]) -> None:
            if measurements:
                row(measurements[0].step or 0, measurements)
            if stopped(bool(measurements)):
                raise StopTraining

        learn = self._training(job, report, stopped)
        began = time.monotonic()
        try:
            trained = learn()
        except StopTraining as error:
            if error.checkpoint is not None:
                error.checkpoint = str(Path(error.checkpoint).relative_to(self.folder))
            raise
        payload: dict[str, Any] = {"train_s": time.monotonic() - began}
        if trained.said:
            payload["said"] = trained.said
        checkpoint = str(trained.checkpoint.relative_to(self.folder))
        return Outcome(self._with_static(candidate, trained.measurements), checkpoint, payload)

    def _training(self, job: Job, report: Report, stopped: Stopped) -> Callable[[], Trained]:
        """A training by the script, by the trainer here or by several processes, ready to begin."""
        place, resume, script = self._place(job), self._checkpoint(job), script_of(self.spec, job.recipe)
        if script is not None:
            return partial(script.train, job, report, stopped, place, resume, self.folder.name)
        processes = prices.processes_of(self.spec, job)
        if processes > 1:
            order = ddp.Order(self.folder, job, place, resume, lenient=self.lenient)
            return partial(ddp.train, order, processes, report)
        return self.training(job, report, place, resume)

    def training(self, job: Job, report: Report, place: Path, resume: Path | None) -> Callable[[], Trained]:
        """A training by the trainer in this process, ready to begin."""
        from ziggurat.datasets import shrunk, subset

        rung = job.ladder[job.to_rung]
        data = shrunk(subset(self.data, rung.data_fraction), rung.resolution)
        model = self.build(_candidate(job), job.seed)
        return partial(self._trainer(job).train, model, job, data, report, place, resume)

    def _place(self, job: Job) -> Path:
        place = self.folder / home(job.key)
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _checkpoint(self, job: Job) -> Path | None:
        return self.folder / job.checkpoint if job.checkpoint else None

    def _replay(self, trainer: TableTrainer, job: Job) -> Outcome:
        if not isinstance(self.spec.space, TableSpace):
            raise SpecError("search.trainer.kind 'table' replays a table; set space.kind to table")
        found = trainer.replay(self.spec.space.table, job)
        measurements = self._with_static(_candidate(job), found.measurements)
        return Outcome(measurements, seconds=found.seconds, failure=found.failure)

    def _with_static(self, candidate: Candidate, found: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
        # a prediction is known since the proposal, and what was measured since then must not give way to it
        names = {m.metric for m in found}
        return found + tuple(m for m in self.static(candidate) if m.metric not in names and not m.predicted)

    def evaluate(self, job: Job) -> Outcome:
        """Evaluate a trained model on the sealed test part."""
        script = script_of(self.spec, job.recipe)
        if script is not None:
            return Outcome(script.test(job, self._place(job), self._checkpoint(job), self.folder.name))
        x, y = self.spec.data.load_test()
        path = self.folder / (job.checkpoint or "")
        model = self.build(_candidate(job), job.seed)
        return Outcome(self._trainer(job).evaluate(model, path, x, y))

    def profile(self, job: Job) -> Outcome:
        """Measure a model on one of the spec's devices, with its weights if it has been trained."""
        candidate, device, script = _candidate(job), job.device or "", script_of(self.spec, job.recipe)
        if script is not None and script.profile_by is not None:
            began, run_id = time.monotonic(), self.folder.name
            told = script.profile(job, self._place(job), self._checkpoint(job), run_id, device)
            found = named_for(self.spec, device, told)
            self.bench.suffice(device, {m.metric for m in found})
        else:
            model, began = self._model(job), time.monotonic()
            self.bench.check(device)
            found = self.bench.profile(model, candidate, device)
        return Outcome(self._with_static(candidate, found), payload={"profile_s": time.monotonic() - began})

    def export(self, job: Job) -> Outcome:
        """Write a trained model as files that need none of our code."""
        from ziggurat.exports import export

        int8 = any(getattr(d, "precision", "") == "int8" for d in self.spec.devices)
        found, decided = export(self._model(job), self.data, self.folder, job.trial, int8=int8)
        return Outcome(found, payload=to_plain(decided))

    def _model(self, job: Job) -> nn.Module:
        """A job's model, with the weights of its checkpoint if it has one that is not a script's."""
        model = self.build(_candidate(job), job.seed)
        if job.checkpoint and script_of(self.spec, job.recipe) is None:
            self._trainer(job).load_weights(model, self.folder / job.checkpoint)
        return model

    def static(self, candidate: Candidate) -> tuple[Measurement, ...]:
        """What is known of a candidate without training; nothing if it cannot be built."""
        return () if self._blind else self.bench.static(candidate)

    def propose(self, job: Job) -> list[dict[str, Any]]:
        """Ask the searcher for candidates, on the journal as it is now."""
        self._blind = job.attempt > 0
        return self._proposals.answer(self.spec, job, self.static)

    def publish(self, job: Job) -> Outcome:
        """Log and register a finished model with the tracking server."""
        from ziggurat.listeners import mlflow_versions
        from ziggurat.listeners.mlflow_about import About, finalists
        from ziggurat.listeners.mlflow_client import place_of
        from ziggurat.listeners.mlflow_models import ModelEntry, log_model

        spec, settings, goals = self.spec, self.spec.tracking, self.spec.goals()
        history = fold(event for event, _ in read_events(self.folder / "journal.jsonl"))
        trial, best = history.trials[job.trial], finalists(history, About(goals, spec.judged()))
        names = [d.name for d in spec.devices]
        facts = mlflow_versions.of(history, trial, goals, spec.judged(), names)
        entry = ModelEntry(
            place=place_of(settings, self.folder.parent, spec.name),
            run_id=self.folder.name,
            trial=job.trial,
            registered_name=(settings.model_name or spec.name) if settings.register_model else None,
            alias=settings.alias if best and best[0].number == job.trial else None,
            tags=mlflow_versions.tags(facts, trial, history, [o.metric for o in goals]),
            description=mlflow_versions.description(facts, trial, history),
            metrics=tuple(facts.metrics.values()),
        )
        return Outcome(payload=to_plain(log_model(self._model(job), self.data.validation_x[:64], entry)))


def resumed(job: Job, checkpoint: str | None) -> Job:
    """A job as it goes on from a checkpoint that an earlier start of it has left."""
    return job if checkpoint is None else replace(job, checkpoint=checkpoint)


def _candidate(job: Job) -> Candidate:
    if job.candidate is None:
        raise SpecError(f"job {job.key} has no candidate")
    return job.candidate
