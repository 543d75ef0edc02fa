"""Trainers: how a candidate learns. Settings only; torch and Lightning are imported when one is used."""

from ziggurat.trainers.failures import Diverged, StopTraining
from ziggurat.trainers.lightning import (
    HYPERPARAMETERS,
    Augmentation,
    Lightning,
    OptimizerSetting,
    ScheduleSetting,
)

AnyTrainer = Lightning
"""Becomes a union discriminated by `kind` with the second trainer."""

__all__ = [
    "HYPERPARAMETERS",
    "AnyTrainer",
    "Augmentation",
    "Diverged",
    "Lightning",
    "OptimizerSetting",
    "ScheduleSetting",
    "StopTraining",
]
