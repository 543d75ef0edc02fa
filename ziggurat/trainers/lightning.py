"""Settings of the PyTorch Lightning trainer: the recipe a candidate is trained by, on data held in memory.

The fields are the YAML; what they do is in sibling modules, which import torch and are imported when used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ziggurat.errors import SpecError
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ziggurat.domain import Candidate, Job, Measurement
    from ziggurat.protocols import Data, Report, Trained

Argument = bool | int | float | str | list[bool | int | float | str] | None
"""What a keyword argument of an optimiser or a schedule can be in YAML."""

HYPERPARAMETERS = (
    "learning_rate",
    "batch_size",
    "weight_decay",
    "momentum",
    "label_smoothing",
    "drop_path",
    "ema_decay",
)
"""Choices of a candidate with these names take the place of the trainer's own values."""

_NO_WARMUP = {"OneCycleLR", "CyclicLR", "ReduceLROnPlateau"}


class OptimizerSetting(Setting):
    """An optimiser of `torch.optim`."""

    name: str = Field(default="AdamW", description="Any class of torch.optim that works on dense gradients.")
    arguments: dict[str, Argument] = Field(
        default_factory=dict,
        description="Further keyword arguments; the learning rate is a field of the trainer.",
    )


class ScheduleSetting(Setting):
    """A learning-rate schedule of `torch.optim.lr_scheduler`; it spans the top rung, stepped per batch."""

    name: str = Field(
        default="CosineAnnealingLR", description="Any class of torch.optim.lr_scheduler, or 'constant'."
    )
    arguments: dict[str, Argument] = Field(
        default_factory=dict,
        description="Further keyword arguments, in steps; T_max, total_steps and total_iters are filled in.",
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, le=1000, description="Epochs of linear warm-up before the schedule begins."
    )

    @model_validator(mode="after")
    def _warms_up(self) -> Self:
        if self.warmup_epochs and self.name in _NO_WARMUP:
            raise ValueError(
                f"{self.name} cannot follow a warm-up; set warmup_epochs to 0 or take another schedule"
            )
        return self


class Augmentation(Setting):
    """Random changes to training examples; all but noise apply to (channels, height, width) data only."""

    shift: int = Field(
        default=0, ge=0, le=64, description="Largest shift in pixels, in both directions, zero-padded."
    )
    flip: bool = Field(default=False, description="Mirror every second example horizontally, at random.")
    noise: float = Field(default=0.0, ge=0, le=10, description="Standard deviation of added Gaussian noise.")
    cutout: int = Field(
        default=0, ge=0, le=256, description="Side in pixels of a square that is set to zero."
    )

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return bool(self.shift or self.flip or self.noise or self.cutout)


class Lightning(Setting):
    """Train with PyTorch Lightning: any optimiser, schedule, EMA, label smoothing, DropPath, augmentation."""

    kind: Literal["lightning"] = "lightning"
    inherits: ClassVar[bool] = True
    """A training can go on from a checkpoint of other hyperparameters."""
    optimizer: OptimizerSetting = Field(
        default_factory=OptimizerSetting, description="How weights are updated."
    )
    learning_rate: float = Field(
        default=1e-3, gt=0, le=100, description="Learning rate; the peak of a schedule."
    )
    weight_decay: float = Field(default=0.01, ge=0, le=10, description="Passed to optimisers that take it.")
    batch_size: int = Field(default=64, ge=1, le=65_536, description="Examples in a training batch.")
    schedule: ScheduleSetting = Field(
        default_factory=ScheduleSetting, description="How the learning rate moves."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the target spread over all classes."
    )
    ema_decay: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Decay per step of averaged weights, which are then what is evaluated; null: off.",
    )
    drop_path: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Rate of the last DropPath module, growing linearly up to it; null: the model's own.",
    )
    augmentation: Augmentation = Field(
        default_factory=Augmentation, description="Changes to training examples."
    )
    gradient_clip: float | None = Field(
        default=None, gt=0, description="Largest norm of the gradient; null: off."
    )
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = Field(
        default="32-true", description="Precision of training; evaluation is in float32."
    )
    checkpoint_s: float | None = Field(
        default=300,
        gt=0,
        description="Seconds after which the end of an epoch is kept inside a segment; null: never.",
    )
    deterministic: bool = Field(
        default=False, description="Refuse operations whose result differs from run to run on a GPU."
    )

    def check(self) -> None:
        """Whether optimiser and schedule can be built and stepped; imports torch.

        Raises:
            SpecError: A name or an argument is unknown or not usable.
        """
        from ziggurat.trainers.optimizers import check

        check(self)

    def given(self, candidate: Candidate | None) -> Lightning:
        """These settings with the hyperparameters that a candidate chooses in their place.

        Raises:
            SpecError: A chosen value is out of bounds.
        """
        choices = candidate.choices if candidate else {}
        chosen = {name: choices[name] for name in HYPERPARAMETERS if name in choices}
        if not chosen:
            return self
        plain = self.model_dump()
        if "momentum" in chosen:
            from ziggurat.trainers.optimizers import takes_momentum

            momentum = chosen.pop("momentum")
            if takes_momentum(self.optimizer.name):
                plain["optimizer"]["arguments"]["momentum"] = momentum
        try:
            return Lightning.model_validate({**plain, **chosen})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(p) for p in first["loc"])
            raise SpecError(
                f"choice '{name}' of candidate {candidate.key if candidate else ''} is {first['input']!r}: "
                f"{first['msg']}; narrow the choice in the space"
            ) from None

    def train(
        self, model: nn.Module, job: Job, data: Data, report: Report, folder: Path, resume: Path | None
    ) -> Trained:
        """Train to `job.to_rung` from `resume` (None: from nothing), writing the checkpoint into `folder`.

        Args:
            model: Initialised by the caller.
            job: Ladder, rungs, seed and candidate. From nothing, training goes straight to `to_rung`.
            data: Its training part is already cut to the data fraction of `to_rung`.
            report: Called with metrics after every epoch, and with nothing about every 0.2 s. Whatever
                it raises ends the training and reaches the caller unchanged.
            folder: Where `rung-<to_rung>.ckpt` is written, whole or not at all.
            resume: Checkpoint of `job.from_rung`.

        Raises:
            Diverged: The loss is not finite or has grown far beyond its beginning.
        """
        from ziggurat.trainers.fitting import fit

        return fit(self.given(job.candidate), model, job, data, report, folder, resume)

    def evaluate(self, model: nn.Module, checkpoint: Path, x: Tensor, y: Tensor) -> tuple[Measurement, ...]:
        """test_accuracy and test_loss on (n, *shape) examples with the evaluated weights of a checkpoint."""
        from ziggurat.trainers.weights import evaluate

        return evaluate(model, checkpoint, x, y)

    def load_weights(self, model: nn.Module, checkpoint: Path) -> None:
        """Put the evaluated weights of a checkpoint (the averaged ones, if any) into a bare model."""
        from ziggurat.trainers.weights import load_weights

        load_weights(model, checkpoint)
