"""Trainers: how a candidate learns. Settings only; torch and Lightning are imported when one is used."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from ziggurat.setting import kind_if_missing
from ziggurat.trainers.failures import Diverged, StopTraining, TrainingFailed
from ziggurat.trainers.lightning import (
    HYPERPARAMETERS,
    Augmentation,
    Lightning,
    OptimizerSetting,
    ScheduleSetting,
)
from ziggurat.trainers.replay import Replayed, TableTrainer
from ziggurat.trainers.script import Script

AnyTrainer = Annotated[
    Annotated[Lightning | Script | TableTrainer, Field(discriminator="kind")],
    BeforeValidator(kind_if_missing("lightning")),
]
"""One trainer, told apart by `kind`; `lightning` where none is given."""

__all__ = [
    "HYPERPARAMETERS",
    "AnyTrainer",
    "Augmentation",
    "Diverged",
    "Lightning",
    "OptimizerSetting",
    "Replayed",
    "ScheduleSetting",
    "Script",
    "StopTraining",
    "TableTrainer",
    "TrainingFailed",
]
