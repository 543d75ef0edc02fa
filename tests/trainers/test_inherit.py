"""A training that goes on from another's checkpoint with other hyperparameters."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ziggurat.domain import Candidate, Fidelity, Job, JobKind
from ziggurat.protocols import Data, Signature
from ziggurat.trainers import Lightning
from ziggurat.trainers.optimizers import CONSTANT

LADDER = (Fidelity(2), Fidelity(4))


def data() -> Data:
    rng = torch.Generator().manual_seed(1)
    y = torch.arange(60) % 3
    x = torch.randn((60, 5), generator=rng) + y[:, None]
    return Data(x[:40], y[:40], x[40:], y[40:], Signature((5,), 3))


def train(trainer: Lightning, folder: Path, resume: Path | None = None, **choices):
    """One segment: to rung 0 from nothing, or to rung 1 from a checkpoint; the model and what it wrote."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(5)
    model = nn.Linear(5, 3)
    job = Job("k", JobKind.TRAIN, "search", candidate=Candidate(choices), ladder=LADDER, to_rung=0, seed=3)
    if resume is not None:
        job = replace(job, from_rung=0, to_rung=1, seed=4)
    trained = trainer.train(model, job, data(), lambda _: None, folder, resume)
    return torch.load(trained.checkpoint, weights_only=True), trained


def learning_rate(trained) -> float:
    return next(m.value for m in trained.measurements if m.metric == "learning_rate")


def group(checkpoint):
    return checkpoint["optimizer_states"][0]["param_groups"][0]


def parent(trainer: Lightning, tmp_path: Path, **choices) -> Path:
    return train(trainer, tmp_path / "parent", **choices)[1].checkpoint


def test_weights_and_moments_are_those_of_the_parent(tmp_path: Path) -> None:
    trainer = Lightning(schedule={"name": CONSTANT})
    path = parent(trainer, tmp_path, learning_rate=1e-2)
    before = torch.load(path, weights_only=True)
    after, _ = train(trainer, tmp_path / "child", path, learning_rate=1e-12)
    assert torch.allclose(
        before["state_dict"]["model.weight"], after["state_dict"]["model.weight"], atol=1e-9
    )
    steps = [c["optimizer_states"][0]["state"][0]["step"] for c in (before, after)]
    assert steps[1] == 2 * steps[0]


def test_a_constant_rate_and_the_decay_are_those_of_the_child(tmp_path: Path) -> None:
    trainer = Lightning(schedule={"name": CONSTANT}, optimizer={"name": "SGD"})
    path = parent(trainer, tmp_path, learning_rate=1e-2, weight_decay=0.1, momentum=0.5)
    after, trained = train(
        trainer, tmp_path / "child", path, learning_rate=3e-2, weight_decay=0.2, momentum=0.25
    )
    assert learning_rate(trained) == pytest.approx(3e-2)
    assert (group(after)["weight_decay"], group(after)["momentum"]) == (0.2, 0.25)


@pytest.mark.parametrize("batch_size", [8, 20])
def test_a_cosine_goes_on_at_the_same_part_of_its_way_from_the_childs_peak(
    tmp_path: Path, batch_size: int
) -> None:
    trainer = Lightning()
    path = parent(trainer, tmp_path, learning_rate=1e-2, batch_size=10)
    _, trained = train(trainer, tmp_path / "child", path, learning_rate=4e-2, batch_size=batch_size)
    steps = 4 * 40 // batch_size
    # the last step of four epochs, of which the parent has done two
    assert learning_rate(trained) == pytest.approx(2e-2 * (1 + math.cos(math.pi * (steps - 1) / steps)))


def test_a_one_cycle_schedule_does_not_overrun_its_end(tmp_path: Path) -> None:
    trainer = Lightning(schedule={"name": "OneCycleLR"})
    path = parent(trainer, tmp_path, learning_rate=1e-2, batch_size=10)
    _, trained = train(trainer, tmp_path / "child", path, learning_rate=2e-2, batch_size=8)
    assert learning_rate(trained) < 1e-3


def test_a_plateau_keeps_its_reductions(tmp_path: Path) -> None:
    plateau = {"name": "ReduceLROnPlateau", "arguments": {"patience": 0, "factor": 0.5, "threshold": 10.0}}
    trainer = Lightning(schedule=plateau)
    path = parent(trainer, tmp_path, learning_rate=1e-2)
    # with this threshold no epoch is good enough, so each of the parent's two and the child's two halves it
    assert torch.load(path, weights_only=True)["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-2 / 4
    after, _ = train(trainer, tmp_path / "child", path, learning_rate=4e-2)
    assert group(after)["lr"] == pytest.approx(4e-2 / 16)


def test_averaged_weights_go_on_with_another_decay(tmp_path: Path) -> None:
    path = parent(Lightning(), tmp_path, ema_decay=0.5)
    after, _ = train(Lightning(), tmp_path / "child", path, ema_decay=0.9)
    assert int(after["state_dict"]["ema.n_averaged"]) == 2 * 2 * 1


def test_the_same_hyperparameters_are_an_ordinary_resume(tmp_path: Path) -> None:
    path = parent(Lightning(), tmp_path, learning_rate=1e-2)
    first, _ = train(Lightning(), tmp_path / "one", path, learning_rate=1e-2)
    kept = torch.load(path, weights_only=True)
    del kept["ziggurat"]["recipe"]
    torch.save(kept, tmp_path / "old.ckpt")
    second, _ = train(Lightning(), tmp_path / "two", tmp_path / "old.ckpt", learning_rate=1e-2)
    assert torch.equal(first["state_dict"]["model.weight"], second["state_dict"]["model.weight"])


def test_the_horizon_is_that_of_the_childs_batches(tmp_path: Path) -> None:
    trainer = Lightning()
    path = parent(trainer, tmp_path, learning_rate=1e-2)
    child, _ = train(trainer, tmp_path / "child", path, learning_rate=3e-2, batch_size=10)
    assert child["ziggurat"]["steps"] == 4 * 4
    assert child["ziggurat"]["done"] == 4 * 4
