"""What a worker does for each kind of job, with what it keeps warm between jobs.

The sealed test part is loaded for an evaluation only and not kept.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat import spec as specs
from ziggurat.bench import Bench
from ziggurat.contexts import make_context, seed_for
from ziggurat.domain import (
    Candidate,
    Decision,
    Failure,
    Fidelity,
    Job,
    JobKind,
    Measurement,
    Promotion,
    Proposal,
    Recipe,
    Retirement,
)
from ziggurat.errors import SpecError
from ziggurat.events import Decided, Event, TrialProposed, to_plain
from ziggurat.history import History
from ziggurat.journal import read_events
from ziggurat.searchers import RandomSearch
from ziggurat.spaces import TableSpace
from ziggurat.trainers import TableTrainer

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.protocols import Data, Signature
    from ziggurat.trainers import Lightning

BASELINE = "baseline"
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
        self.history = history if history is not None else History()
        self._follows = history is None
        self._offset = 0
        self._blind = (
            False  # whether candidates are proposed unseen, since building one has ended this process
        )

    @cached_property
    def spec(self) -> specs.Spec:
        """The run's spec; its variables come from this process's environment."""
        return specs.read(self.folder / "spec.yaml")[0]

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
        return Bench(self.spec, self.signature)

    def build(self, candidate: Candidate, seed: int) -> nn.Module:
        """An untrained model, initialised from a seed."""
        return self.bench.build(candidate, seed)

    def warm(self, *, fit: bool = True) -> None:
        """Import and load what every job needs; errors wait for the job they belong to.

        Args:
            fit: Train a sampled candidate for a moment; not to be repeated where it has ended the process.
        """
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        warnings.filterwarnings(
            "ignore", module=r"pytorch_lightning|lightning|torch|ax|botorch|linear_operator"
        )
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        if self.service or not fit:
            return
        try:
            self.spec.space.check(self.signature)
            self._dummy_fit()
        except Exception as error:  # noqa: BLE001 - it is raised again by the first job
            print(f"warm-up: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log

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
        if isinstance(trainer, TableTrainer):
            raise SpecError("trainer.kind 'table' trains no model; it is for launcher.kind 'simulated' only")
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
        from ziggurat.datasets import subset
        from ziggurat.trainers import StopTraining

        candidate = _candidate(job)

        def report(measurements: Sequence[Measurement]) -> None:
            if measurements:
                row(measurements[0].step or 0, measurements)
            if stopped(bool(measurements)):
                raise StopTraining

        home = self.folder / "trials" / f"{job.trial:05d}"
        home.mkdir(parents=True, exist_ok=True)
        data = subset(self.data, job.ladder[job.to_rung].data_fraction)
        resume = self.folder / job.checkpoint if job.checkpoint else None
        model = self.build(candidate, job.seed)
        began = time.monotonic()
        try:
            trained = self._trainer(job).train(model, job, data, report, home, resume)
        except StopTraining as error:
            if error.checkpoint is not None:
                error.checkpoint = str(Path(error.checkpoint).relative_to(self.folder))
            raise
        payload = {"train_s": time.monotonic() - began}
        checkpoint = str(trained.checkpoint.relative_to(self.folder))
        return Outcome(self._with_static(candidate, trained.measurements), checkpoint, payload)

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
        x, y = self.spec.data.load_test()
        path = self.folder / (job.checkpoint or "")
        model = self.build(_candidate(job), job.seed)
        return Outcome(self._trainer(job).evaluate(model, path, x, y))

    def profile(self, job: Job) -> Outcome:
        """Measure a model on one of the spec's devices, with its weights if it has been trained."""
        model, began = self._model(job), time.monotonic()
        self.bench.check(job.device or "")
        found = self.bench.profile(model, _candidate(job), job.device or "")
        return Outcome(
            self._with_static(_candidate(job), found), payload={"profile_s": time.monotonic() - began}
        )

    def export(self, job: Job) -> Outcome:
        """Write a trained model as files that need none of our code."""
        from ziggurat.exports import export

        int8 = any(getattr(d, "precision", "") == "int8" for d in self.spec.devices)
        found, decided = export(self._model(job), self.data, self.folder, job.trial, int8=int8)
        return Outcome(found, payload=to_plain(decided))

    def _model(self, job: Job) -> nn.Module:
        """A job's model, with the weights of its checkpoint if it has one."""
        model = self.build(_candidate(job), job.seed)
        if job.checkpoint:
            self._trainer(job).load_weights(model, self.folder / job.checkpoint)
        return model

    def static(self, candidate: Candidate) -> tuple[Measurement, ...]:
        """What is known of a candidate without training; nothing if it cannot be built."""
        return () if self._blind else self.bench.static(candidate)

    def propose(self, job: Job) -> list[dict[str, Any]]:
        """Ask the searcher for candidates, on the journal as it is now."""
        self._catch_up()
        self._blind = job.attempt > 0
        history = self.history.copy()
        seen = history.length
        searcher = RandomSearch() if job.stage == BASELINE else self.spec.search.proposer

        def static(candidates: Sequence[Candidate]) -> list[Mapping[str, float]]:
            return [{m.metric: m.value for m in self.static(c)} for c in candidates]

        found: list[dict[str, Any]] = []
        while len(found) < job.count:
            context = make_context(self.spec, history, job.stage, static=static)
            proposals = searcher.propose_batch(context, job.count - len(found))
            if not proposals:
                break
            for proposal in proposals:
                body = (
                    self._trial(proposal, history, job.stage, seen)
                    if isinstance(proposal, Proposal)
                    else _verdict(proposal, history, seen)
                )
                history.apply(Event(history.length, history.last_utc, history.run_id, body))
                found.append(to_plain(body))
        return found

    def _trial(self, proposal: Proposal, history: History, stage: str, seen: int) -> TrialProposed:
        index = len(history.of_stage(stage))
        return TrialProposed(
            trial=max(history.trials, default=-1) + 1,
            index=index,
            stage=stage,
            candidate=proposal.candidate,
            seed=seed_for(self.spec, stage, index),
            ladder=self.spec.ladder(),
            static=proposal.static or self.static(proposal.candidate),
            parent=proposal.parent,
            origin=proposal.origin,
            seen=seen,
        )

    def _catch_up(self) -> None:
        if not self._follows:
            return
        for event, end in read_events(self.folder / "journal.jsonl", self._offset, self.history.length):
            self.history.apply(event)
            self._offset = end

    def publish(self, job: Job) -> Outcome:
        """Log and register the best model with the tracking server."""
        from ziggurat.listeners.mlflow_client import place_of
        from ziggurat.listeners.mlflow_models import ModelEntry, log_best_model

        model, settings = self._model(job), self.spec.tracking
        entry = ModelEntry(
            place=place_of(settings, self.folder.parent, self.spec.name),
            run_id=self.folder.name,
            trial=job.trial,
            registered_name=(settings.model_name or self.spec.name) if settings.register_model else None,
            alias=settings.alias,
        )
        logged = log_best_model(model, self.data.validation_x[:2], entry)
        return Outcome(payload=to_plain(logged))


def _verdict(about: Promotion | Retirement, history: History, seen: int) -> Decided:
    verdict = Decision.CONTINUE if isinstance(about, Promotion) else Decision.STOP
    rung = history.trials[about.trial].rung
    return Decided("stopper", verdict.value, about.trial, rung, seen, about.reason)


def _candidate(job: Job) -> Candidate:
    if job.candidate is None:
        raise SpecError(f"job {job.key} has no candidate")
    return job.candidate
