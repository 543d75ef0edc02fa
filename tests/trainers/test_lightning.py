"""The settings themselves: what they import, and what they refuse."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from ziggurat.trainers import Lightning


def test_settings_import_no_heavy_library() -> None:
    code = (
        "import sys, ziggurat.trainers, ziggurat.profilers;"
        "ziggurat.trainers.Lightning(); ziggurat.profilers.TorchDevice().check();"
        "print([m for m in ('torch', 'pytorch_lightning', 'scipy', 'sklearn') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0},
        {"batch_size": 0},
        {"label_smoothing": 1.0},
        {"ema_decay": 1.0},
        {"precision": "8-true"},
        {"augmentation": {"shear": 1}},
        {"optimizer": "AdamW"},
        {"epochs": 3},
    ],
)
def test_settings_out_of_bounds_or_unknown_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Lightning.model_validate(wrong)


def test_settings_round_trip_through_plain_values() -> None:
    setting = Lightning(
        optimizer={"name": "SGD", "arguments": {"momentum": 0.9, "nesterov": True}},
        schedule={"name": "OneCycleLR", "arguments": {"pct_start": 0.2}},
        ema_decay=0.99,
    )
    assert Lightning.model_validate(setting.model_dump(mode="json")) == setting
    assert setting.model_dump()["optimizer"]["arguments"]["nesterov"] is True
