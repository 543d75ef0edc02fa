"""Trainers: how a candidate learns. Settings only; torch and Lightning are imported when one is used."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from ziggurat.setting import kind_if_missing
from ziggurat.trainers.failures import Diverged, StopTraining
from ziggurat.trainers.lightning import (
    HYPERPARAMETERS,
    Augmentation,
    Lightning,
    OptimizerSetting,
    ScheduleSetting,
)
from ziggurat.trainers.replay import Replayed, TableTrainer

AnyTrainer = Annotated[
    Annotated[Lightning | TableTrainer, Field(discriminator="kind")],
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
    "StopTraining",
    "TableTrainer",
]
