"""The LightningModule: one candidate's loss, optimiser, schedule, averaged weights and metrics.

At the start of every epoch torch is seeded from the job's seed and the epoch, so that batches, augmentation
and dropout are functions of the epoch and a resumed training equals an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ziggurat.domain import Measurement
from ziggurat.protocols import Data
from ziggurat.trainers.augmentation import augment
from ziggurat.trainers.failures import Diverged
from ziggurat.trainers.lightning import Lightning
from ziggurat.trainers.optimizers import (
    advance,
    build_optimizer,
    build_schedule,
    catch_up,
    recipe,
    take_over,
)
from ziggurat.trainers.team import Team

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

_PULSE_S = 0.2
_HALF = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
_WORSE = 10.0
"""A training loss this many times the first epoch's, or chance's, is divergence."""
_OWN = "ziggurat"
"""Key of what is kept in a checkpoint beside Lightning's own state."""


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of everything random in one epoch of a training, below 2**63."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1)


class StoppableReport(Protocol):
    """A report that remembers whether it was asked to end the training with this epoch."""

    def __call__(self, measurements: Sequence[Measurement]) -> None:
        """Pass measurements on."""

    def stopping(self) -> bool:
        """Whether the training is to end with this epoch."""


class Learner(pl.LightningModule):
    """Trains a model; holds what must survive a resume beside weights and optimiser."""

    def __init__(
        self,
        setting: Lightning,
        model: nn.Module,
        data: Data,
        report: StoppableReport,
        *,
        seed: int,
        steps: int,
    ) -> None:
        """Wrap an initialised model.

        Args:
            setting: With the candidate's hyperparameters in place.
            model: Moved to the device of training and trained in place.
            data: On the device of training.
            report: Called after every epoch with metrics, and every 0.2 s with nothing; says whether to stop.
            seed: Seed of the job.
            steps: Optimiser steps until the end of the top rung.
        """
        super().__init__()
        _set_drop_path(model, setting.drop_path)
        self.automatic_optimization = False  # Lightning's own closures double the time of a small step
        self.model = model
        self.ema: AveragedModel | None = None
        if setting.ema_decay is not None:
            self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(setting.ema_decay))
        self.setting, self.report, self.seed = setting, report, seed
        self.keep: Callable[[], None] = lambda: None
        self.team = Team.here()
        self.batches = self.team.batches(data.train_x, data.train_y, setting.batch_size)
        self._spread = [self.team.spread(model)]  # in a list, it is no part of the state
        self.validation = (data.validation_x, data.validation_y)
        self.chance = math.log(max(2, data.signature.classes))
        self.steps = steps
        self.schedule: LRScheduler | None = None
        self.measurements: tuple[Measurement, ...] = ()
        self._first_loss: float | None = None
        self._restored: dict[str, Any] | None = None
        self._inherits = False
        self._half = _HALF.get(setting.precision)
        self._scaler = torch.amp.GradScaler(enabled=self._half is torch.float16)
        self._optimizer: Optimizer
        self._rate: float | Tensor = 0.0
        self._loss = torch.zeros(())
        self._done = 0
        self._pulse = 0.0

    def configure_optimizers(self) -> Optimizer:
        """The optimiser; the schedule is kept here and stepped after every batch."""
        optimizer = build_optimizer(self.setting, [p for p in self.model.parameters() if p.requires_grad])
        warmup = round(self.setting.schedule.warmup_epochs * len(self.batches))
        self.schedule = build_schedule(self.setting, optimizer, self.steps, warmup)
        self._optimizer = optimizer
        return optimizer

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        """Set an attribute; the name of the current hook, set 40 times a batch, without torch's checks."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def on_train_start(self) -> None:
        """Restore the schedule, after Lightning has restored the optimiser."""
        if self._restored is not None:
            if self._inherits:
                self._take_over(self._restored)
            elif self.schedule is not None and self._restored["schedule"] is not None:
                self.schedule.load_state_dict(self._restored["schedule"])
            self._scaler.load_state_dict(self._restored["scaler"])
        self._pulse = time.monotonic()

    def on_train_epoch_start(self) -> None:
        """Let the state be kept, then make all that is random in this epoch depend on seed and epoch only."""
        if self.measurements:
            self.keep()
        seed = epoch_seed(self.seed, self.current_epoch)
        torch.manual_seed(epoch_seed(seed, self.team.rank) if self.team.rank else seed)
        self.batches.seed = seed
        self.model.train()
        self._loss = torch.zeros((), device=self.device)

    def training_step(self, dataloader_iter: Iterator[tuple[tuple[Any, ...], int, int]]) -> None:
        """One step on the next batch; taking it from the iterator spares moving data that is in place."""
        (x, y, *share), _, _ = next(dataloader_iter)
        weights, count = share or (None, len(y))
        if self.setting.augmentation.active:
            x = augment(x, self.setting.augmentation)
        self._loss += self._descended(x, y, weights) * (count / self.team.size)
        self._done += 1
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self._rate = self._optimizer.param_groups[0]["lr"]
        if self._done < self.steps:
            advance(self.schedule)
        self._beat()

    def _descended(self, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """Mean cross-entropy of a batch in nats, label smoothing included, before the step it leads to."""
        optimizer, scaler = self._optimizer, self._scaler
        clip, model = self.setting.gradient_clip, self._spread[0]

        def closure() -> Tensor:
            optimizer.zero_grad()
            with torch.autocast(x.device.type, self._half) if self._half else nullcontext():
                loss = _cost(model(x), y, self.setting.label_smoothing, weights)
            scaler.scale(loss).backward()
            if clip is not None:
                if scaler.is_enabled():
                    scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(self.model.parameters(), clip)
            return loss.detach()

        if not scaler.is_enabled():
            return optimizer.step(closure)  # type: ignore[arg-type, return-value]
        loss = closure()
        scaler.step(optimizer)
        scaler.update()
        return loss

    def on_train_epoch_end(self) -> None:
        """Evaluate, judge and report."""
        epoch = self.current_epoch + 1
        seen = min(len(self.batches.y), len(self.batches) * self.setting.batch_size)
        train_loss = self._judged(float(self.team.total(self._loss)) / seen, epoch)
        val_loss, accuracy = self.team.score(self.ema or self.model, *self.validation, between=self._beat)
        if len(self.validation[1]) and not math.isfinite(val_loss):
            raise Diverged(f"validation loss is {val_loss} after epoch {epoch}")
        advance(self.schedule, val_loss)
        values = {
            "train_loss": train_loss,
            "val_loss": val_loss,
            "val_accuracy": accuracy,
            "learning_rate": float(self._rate),
        }
        self.measurements = tuple(Measurement(metric, v, step=epoch) for metric, v in values.items())
        self.report(self.measurements)
        self.trainer.should_stop = self.team.agreed(self.report.stopping(), self.device)
        self._pulse = time.monotonic()

    def _take_over(self, kept: Mapping[str, Any]) -> None:
        """Go on from a training of other hyperparameters: its weights and moments, these settings."""
        fresh = build_optimizer(self.setting, [p for p in self.model.parameters() if p.requires_grad])
        take_over(self._optimizer, fresh)
        warmup = round(self.setting.schedule.warmup_epochs * len(self.batches))
        self.schedule = build_schedule(self.setting, self._optimizer, self.steps, warmup)
        catch_up(self.schedule, self._done, kept)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the recipe, the schedule, the horizon and the first epoch's loss."""
        for progress in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
            progress["ready"] = progress["completed"]  # an epoch that is about to begin has not begun
        schedule = None if self.schedule is None else self.schedule.state_dict()
        checkpoint[_OWN] = {
            "schedule": schedule,
            "scaler": self._scaler.state_dict(),
            "steps": self.steps,
            "done": self._done,
            "first_loss": self._first_loss,
            "recipe": recipe(self.setting),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the horizon that the first segment set; by another recipe, as far along this one's."""
        kept: dict[str, Any] = checkpoint[_OWN]
        self._restored, self._first_loss = kept, kept["first_loss"]
        self._inherits = kept.get("recipe", recipe(self.setting)) != recipe(self.setting)
        if self._inherits:
            self._done = round(kept["done"] / kept["steps"] * self.steps)
        else:
            self.steps, self._done = kept["steps"], kept["done"]

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._pulse >= _PULSE_S:
            self._pulse = now
            if not math.isfinite(float(self._loss)):
                raise Diverged(f"training loss is {float(self._loss)} in epoch {self.current_epoch + 1}")
            self.report(())

    def _judged(self, loss: float, epoch: int) -> float:
        """The training loss of an epoch, unless it has diverged."""
        if not math.isfinite(loss):
            raise Diverged(f"training loss is {loss} in epoch {epoch}")
        if self._first_loss is None:
            self._first_loss = loss
        bound = _WORSE * max(self._first_loss, self.chance)
        if loss > bound:
            raise Diverged(
                f"training loss {loss:.4g} of epoch {epoch} is above {bound:.4g}, 10 times where it began"
            )
        return loss


def _cost(logits: Tensor, y: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
    """Mean cross-entropy in nats of (n, classes) logits, or the weighted sum."""
    if weights is None:
        return functional.cross_entropy(logits, y, label_smoothing=smoothing)
    losses = functional.cross_entropy(logits, y, label_smoothing=smoothing, reduction="none")
    return (losses * weights).sum()


def _set_drop_path(model: nn.Module, rate: float | None) -> None:
    """Set `rate` of the DropPath modules in order, growing linearly to the last.

    Source: Huang et al. 2016, arXiv 1603.09382, equation 4.
    """
    if rate is None:
        return
    found = [m for m in model.modules() if type(m).__name__ == "DropPath"]
    for place, module in enumerate(found, start=1):
        module.rate = rate * place / len(found)  # type: ignore[assignment]
