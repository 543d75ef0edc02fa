"""One segment of training: a lean Lightning fit from one rung to the next, and the checkpoint at its end.

A fit leaves torch's generators, the log levels of Lightning and the handlers of signals as they were.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import nn

from ziggurat.domain import Job, Measurement
from ziggurat.errors import SpecError
from ziggurat.protocols import Data, Report, Trained
from ziggurat.trainers.failures import StopTraining
from ziggurat.trainers.learner import Learner
from ziggurat.trainers.lightning import Lightning
from ziggurat.trainers.optimizers import horizon
from ziggurat.trainers.weights import device

PARTIAL = "partial.ckpt"
"""Checkpoint inside a segment, at the end of an epoch: of one that was asked to stop, or takes long."""

_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""Set by Lightning for deterministic training."""


class _Relay:
    """Passes reports on and keeps what they raise, which Lightning may turn into something else.

    A request to stop that comes at the end of an epoch does not break the fit off: the learner ends it
    there, so that its state can be kept.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.error: BaseException | None = None
        self.stop: StopTraining | None = None

    def __call__(self, measurements: Sequence[Measurement]) -> None:
        try:
            self.report(measurements)
        except BaseException as error:
            if measurements and isinstance(error, StopTraining):
                self.stop = error
                return
            self.error = error
            raise RuntimeError("the report ended the training") from error

    def stopping(self) -> bool:
        """Whether the fit is to end with this epoch."""
        return self.stop is not None


class _Keeping:
    """Writes the state of a fit, between two epochs, once some time has passed since the last time."""

    def __init__(self, trainer: pl.Trainer, path: Path, every_s: float) -> None:
        self.trainer, self.path, self.every_s = trainer, path, every_s
        self.last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.last >= self.every_s:
            _write(self.trainer, self.path)
            self.last = time.monotonic()


def fit(  # noqa: PLR0913, PLR0917 - the protocol of a trainer, and its setting
    setting: Lightning,
    model: nn.Module,
    job: Job,
    data: Data,
    report: Report,
    folder: Path,
    resume: Path | None,
) -> Trained:
    """Train a model to `job.to_rung` and write `rung-<to_rung>.ckpt`; see `Lightning.train`."""
    if not len(data.train_y):
        raise SpecError("the training part is empty; raise its fraction or the data_fraction of the rung")
    place = device()
    if setting.precision == "16-mixed" and place.type != "cuda":
        raise SpecError("trainer.precision is '16-mixed', which needs a CUDA GPU; use bf16-mixed or 32-true")
    model.to(place)
    data = replace(
        data,
        train_x=data.train_x.to(place),
        train_y=data.train_y.to(place),
        validation_x=data.validation_x.to(place),
        validation_y=data.validation_y.to(place),
    )
    steps = horizon(job, len(data.train_y), setting.batch_size)
    relay = _Relay(report)
    path = folder / f"rung-{job.to_rung}.ckpt"
    with _undisturbed(place):
        learner = Learner(setting, model, data, relay, seed=job.seed, steps=steps)
        trainer = _trainer(setting, job.ladder[job.to_rung].epochs, place)
        first = learner.team.rank == 0
        if setting.checkpoint_s is not None and first:
            learner.keep = _Keeping(trainer, folder / PARTIAL, setting.checkpoint_s)
        _run(trainer, learner, relay, resume)
        if not learner.measurements:
            raise SpecError(
                f"checkpoint {resume} has {trainer.current_epoch} epochs already, rung {job.to_rung} ends at "
                f"{job.ladder[job.to_rung].epochs}; continue it to a higher rung"
            )
        if relay.stop is not None and trainer.current_epoch < job.ladder[job.to_rung].epochs:
            path = folder / PARTIAL
            _write(trainer, path)
            relay.stop.checkpoint = str(path)
            raise relay.stop
        if first:
            _write(trainer, path)
    size = sum(p.numel() for p in model.parameters())
    return Trained((*learner.measurements, Measurement("parameters", float(size))), path)


def _trainer(setting: Lightning, epochs: int, place: torch.device) -> pl.Trainer:
    return pl.Trainer(
        accelerator="gpu" if place.type == "cuda" else "cpu",
        devices=[place.index] if place.type == "cuda" else 1,
        max_epochs=epochs,
        deterministic=setting.deterministic or None,
        barebones=True,
        plugins=[
            LightningEnvironment()
        ],  # on Slurm, its own would requeue the job behind the launcher's back
    )


def _run(trainer: pl.Trainer, learner: Learner, relay: _Relay, resume: Path | None) -> None:
    """Fit, and let what a report raised, or an interrupt from the keyboard, through unchanged."""
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(learner, learner.batches, ckpt_path=resume, weights_only=True)
    except BaseException as error:
        if relay.error is not None:
            raise relay.error from None
        if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, interrupt)  # Lightning has set it to be ignored
            raise error.__context__ from None
        raise


def _write(trainer: pl.Trainer, path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        trainer.save_checkpoint(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _undisturbed(place: torch.device) -> Iterator[None]:
    """Keep generators, determinism and log levels from changing for others; keep Lightning's hints quiet."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(_CUBLAS)
    devices = [place.index] if place.type == "cuda" else []
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        if workspace is None:
            os.environ.pop(_CUBLAS, None)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
