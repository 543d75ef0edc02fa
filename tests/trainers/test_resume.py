"""A training in two segments equals an uninterrupted one, whatever is switched on."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ziggurat.domain import Fidelity, Job, JobKind, Measurement
from ziggurat.protocols import Data, Signature
from ziggurat.trainers import Lightning
from ziggurat.trainers.optimizers import CONSTANT, schedules

CLASSES = 3
EVERYTHING = {
    "label_smoothing": 0.1,
    "ema_decay": 0.9,
    "augmentation": {"shift": 1, "flip": True, "noise": 0.1, "cutout": 2},
    "gradient_clip": 1.0,
}
ARGUMENTS = {
    "StepLR": {"step_size": 4},
    "MultiStepLR": {"milestones": [2, 7]},
    "ExponentialLR": {"gamma": 0.99},
    "CosineAnnealingWarmRestarts": {"T_0": 4},
    "CyclicLR": {"base_lr": 1e-4, "step_size_up": 2},
}


def data(n: int = 37, shape: tuple[int, ...] = (1, 6, 6)) -> Data:
    rng = torch.Generator().manual_seed(1)
    y = torch.arange(n + 20) % CLASSES
    x = torch.randn((n + 20, *shape), generator=rng) + y.view(-1, *(1,) * len(shape))
    return Data(x[:n], y[:n], x[n:], y[n:], Signature(shape, CLASSES))


def model() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64, CLASSES),
    )


def job(*epochs: int, from_rung: int = -1, to_rung: int = -1, fraction: float = 1.0) -> Job:
    ladder = tuple(Fidelity(e, 1.0 if i == len(epochs) - 1 else fraction) for i, e in enumerate(epochs))
    return Job("k", JobKind.TRAIN, "search", ladder=ladder, from_rung=from_rung, to_rung=to_rung, seed=11)


def quiet(measurements: Sequence[Measurement]) -> None:
    del measurements


def assert_equal(folder: Path, setting: Lightning, epochs: tuple[int, int] = (1, 3)) -> None:
    whole, resumed = model(), model()
    a = setting.train(whole, job(*epochs, to_rung=1), data(), quiet, folder / "a", None)
    first = setting.train(model(), job(*epochs, to_rung=0), data(), quiet, folder / "b", None)
    for parameter in resumed.parameters():
        nn.init.zeros_(parameter)
    second = job(*epochs, from_rung=0, to_rung=1)
    b = setting.train(resumed, second, data(), quiet, folder / "b", first.checkpoint)
    assert a.measurements == b.measurements
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    one, two = (torch.load(t.checkpoint, weights_only=True) for t in (a, b))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, two["state_dict"][name]), name
    assert one["epoch"] == two["epoch"] == epochs[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"name": "AdamW"}, "schedule": {"name": "CosineAnnealingLR", "warmup_epochs": 1}},
        {"optimizer": {"name": "AdamW"}, "schedule": {"name": "OneCycleLR"}},
        {"optimizer": {"name": "SGD", "arguments": {"momentum": 0.9}}, "schedule": {"name": "OneCycleLR"}},
    ],
)
def test_three_epochs_and_then_six_equal_nine(tmp_path: Path, changes: dict[str, object]) -> None:
    assert_equal(tmp_path, Lightning.model_validate({**EVERYTHING, "batch_size": 8, **changes}), (3, 9))


@pytest.mark.parametrize("name", [CONSTANT, *sorted(schedules())])
def test_every_schedule_survives_a_resume(tmp_path: Path, name: str) -> None:
    schedule = {"name": name, "arguments": ARGUMENTS.get(name, {})}
    optimizer = {"name": "SGD", "arguments": {"momentum": 0.9}}
    assert_equal(tmp_path, Lightning(batch_size=16, schedule=schedule, optimizer=optimizer))


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RMSprop", "Adagrad", "LBFGS"])
def test_other_optimizers_survive_a_resume(tmp_path: Path, name: str) -> None:
    assert_equal(tmp_path, Lightning(batch_size=16, learning_rate=0.01, optimizer={"name": name}))


def test_schedule_spans_the_top_rung_from_the_first_segment(tmp_path: Path) -> None:
    rates: list[float] = []

    def report(measurements: Sequence[Measurement]) -> None:
        rates.extend(m.value for m in measurements if m.metric == "learning_rate")

    setting = Lightning(batch_size=10, learning_rate=0.2)
    setting.train(model(), job(1, 2, to_rung=0), data(20), report, tmp_path, None)
    assert rates == pytest.approx([0.2 * (1 + math.cos(math.pi / 4)) / 2])


@pytest.mark.parametrize("schedule", ["OneCycleLR", "CosineAnnealingLR"])
def test_segments_on_growing_data_end_where_the_schedule_ends(tmp_path: Path, schedule: str) -> None:
    setting = Lightning(batch_size=8, schedule={"name": schedule})
    first = setting.train(model(), job(2, 4, to_rung=0, fraction=0.5), data(20), quiet, tmp_path, None)
    last = setting.train(
        model(), job(2, 4, from_rung=0, to_rung=1, fraction=0.5), data(40), quiet, tmp_path, first.checkpoint
    )
    rate = {m.metric: m.value for m in last.measurements}["learning_rate"]
    assert 0 < rate < 3e-5
    kept = torch.load(last.checkpoint, weights_only=True)["ziggurat"]
    assert kept["steps"] == kept["done"] == 2 * 3 + 2 * 5


def test_a_seed_changes_the_training(tmp_path: Path) -> None:
    setting = Lightning(batch_size=8)
    one = setting.train(model(), job(2, to_rung=0), data(), quiet, tmp_path, None)
    two = setting.train(model(), replace(job(2, to_rung=0), seed=12), data(), quiet, tmp_path, None)
    assert one.measurements != two.measurements
