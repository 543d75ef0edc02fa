"""What one segment reports, writes, raises and leaves behind."""

import logging
import math
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ziggurat.domain import Candidate, Fidelity, Job, JobKind, Measurement
from ziggurat.errors import SpecError
from ziggurat.protocols import Data, Signature
from ziggurat.trainers import Diverged, Lightning
from ziggurat.trainers.fitting import _LOGGERS

JOB = Job("k", JobKind.TRAIN, "search", ladder=(Fidelity(2), Fidelity(3)), to_rung=0, seed=3)


def data(n: int = 33) -> Data:
    y = torch.arange(n + 12) % 3
    x = torch.nn.functional.one_hot(y, 5).float()
    return Data(x[:n], y[:n], x[n:], y[n:], Signature((5,), 3))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3))


def quiet(measurements: Sequence[Measurement]) -> None:
    del measurements


class Collect:
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Measurement]] = []

    def __call__(self, measurements: Sequence[Measurement]) -> None:
        if measurements:
            self.rows.append({m.metric: m for m in measurements})


def test_every_epoch_reports_its_metrics_and_the_last_ones_are_handed_back(tmp_path: Path) -> None:
    seen = Collect()
    trained = Lightning(batch_size=8, learning_rate=0.1).train(model(), JOB, data(), seen, tmp_path, None)
    assert [row["val_loss"].step for row in seen.rows] == [1, 2]
    assert set(seen.rows[0]) == {"train_loss", "val_loss", "val_accuracy", "learning_rate"}
    assert trained.measurements[:-1] == tuple(seen.rows[-1].values())
    assert trained.measurements[-1] == Measurement("parameters", 18.0)
    assert seen.rows[1]["val_accuracy"].value == 1.0


def test_first_loss_of_a_model_that_knows_nothing_is_that_of_chance(tmp_path: Path) -> None:
    blank = model()
    for parameter in blank.parameters():
        nn.init.zeros_(parameter)
    seen = Collect()
    Lightning(learning_rate=1e-12).train(blank, JOB, data(), seen, tmp_path, None)
    assert seen.rows[0]["train_loss"].value == pytest.approx(math.log(3), rel=1e-5)
    assert seen.rows[0]["val_loss"].value == pytest.approx(math.log(3), rel=1e-5)


def test_checkpoint_is_written_whole_and_alone(tmp_path: Path) -> None:
    trained = Lightning().train(model(), JOB, data(), quiet, tmp_path / "new", None)
    assert trained.checkpoint == tmp_path / "new" / "rung-0.ckpt"
    assert [p.name for p in trained.checkpoint.parent.iterdir()] == ["rung-0.ckpt"]
    assert torch.load(trained.checkpoint, weights_only=True)["epoch"] == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(7), KeyError("x")])
def test_what_a_report_raises_reaches_the_caller_unchanged(tmp_path: Path, error: BaseException) -> None:
    handler = signal.getsignal(signal.SIGINT)

    def report(measurements: Sequence[Measurement]) -> None:
        del measurements
        raise error

    with pytest.raises(type(error)) as raised:
        Lightning().train(model(), JOB, data(), report, tmp_path, None)
    assert raised.value is error
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) is handler


class _Interrupted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt


class _Watch(nn.Module):
    """Keeps the batches that it sees in training."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(x)
        return x


def test_every_epoch_has_its_own_order(tmp_path: Path) -> None:
    watch = _Watch()
    Lightning(batch_size=40).train(nn.Sequential(watch, model()), JOB, data(), quiet, tmp_path, None)
    first, second = watch.seen
    assert not torch.equal(first, second)
    assert torch.equal(first.sum(0), second.sum(0))


def test_an_interrupt_from_the_keyboard_stays_one(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Lightning().train(nn.Sequential(model(), _Interrupted()), JOB, data(), quiet, tmp_path, None)
    assert signal.getsignal(signal.SIGINT) is handler


def test_long_epochs_give_signs_of_life_between_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ziggurat.trainers.learner._PULSE_S", 0.0)
    seen: list[int] = []
    Lightning(batch_size=8).train(model(), JOB, data(32), lambda m: seen.append(len(m)), tmp_path, None)
    assert seen == [0, 0, 0, 0, 0, 4] * 2  # four batches, one batch of validation, the metrics


class _Poison(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_divergence(tmp_path: Path, value: float) -> None:
    with pytest.raises(Diverged, match="training loss is nan in epoch 1"):
        Lightning().train(nn.Sequential(model(), _Poison(value)), JOB, data(), quiet, tmp_path, None)


def test_a_loss_ten_times_above_its_beginning_is_divergence(tmp_path: Path) -> None:
    net = nn.Sequential(model(), _Poison(1.0))

    def report(measurements: Sequence[Measurement]) -> None:
        if measurements:
            net[1].value = -1000.0

    with pytest.raises(Diverged, match=r"of epoch 2 is above \d+\.\d+, 10 times where it began"):
        Lightning(learning_rate=0.1).train(net, JOB, data(), report, tmp_path, None)


def test_divergence_is_judged_against_the_first_epoch_of_an_earlier_segment(tmp_path: Path) -> None:
    first = Lightning().train(nn.Sequential(model(), _Poison(1.0)), JOB, data(), quiet, tmp_path, None)
    then = replace(JOB, from_rung=0, to_rung=1)
    poisoned = nn.Sequential(model(), _Poison(-1000.0))
    with pytest.raises(Diverged, match="of epoch 3"):
        Lightning().train(poisoned, then, data(), quiet, tmp_path, first.checkpoint)


def test_a_fit_leaves_generators_log_levels_and_environment_alone(tmp_path: Path) -> None:
    environment = dict(os.environ)
    levels = [logging.getLogger(n).level for n in _LOGGERS]
    torch.manual_seed(4)
    expected = torch.rand(3)
    net = model()
    torch.manual_seed(4)
    Lightning(deterministic=True).train(net, JOB, data(), quiet, tmp_path, None)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    assert dict(os.environ) == environment
    assert [logging.getLogger(n).level for n in _LOGGERS] == levels


def test_a_fit_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Lightning().train(model(), JOB, data(), quiet, tmp_path, None)
    assert capfd.readouterr() == ("", "")


def test_evaluated_weights_are_the_averaged_ones(tmp_path: Path) -> None:
    net, bare = model(), model()
    setting = Lightning(ema_decay=0.5, learning_rate=0.1, batch_size=40, schedule={"name": "constant"})
    seen = Collect()
    job = replace(JOB, ladder=(Fidelity(1), Fidelity(2)), to_rung=1)
    first = setting.train(net, replace(job, to_rung=0), data(), quiet, tmp_path, None)
    setting.load_weights(bare, first.checkpoint)
    after_one = [p.clone() for p in net.parameters()]
    assert all(torch.equal(p, q) for p, q in zip(bare.parameters(), after_one, strict=True))
    second = setting.train(
        net, replace(job, from_rung=0), data(), seen, tmp_path, first.checkpoint
    )  # one step an epoch: the average is the mean of the weights after each of the two
    setting.load_weights(bare, second.checkpoint)
    for mean, one, two in zip(bare.parameters(), after_one, net.parameters(), strict=True):
        assert torch.allclose(mean, (one + two) / 2)
    x, y = data().validation_x, data().validation_y
    result = {m.metric: m for m in setting.evaluate(model(), second.checkpoint, x, y)}
    assert result["test_loss"].value == pytest.approx(seen.rows[-1]["val_loss"].value)
    assert result["test_accuracy"].value == seen.rows[-1]["val_accuracy"].value
    assert result["test_accuracy"].samples == 12


def test_hyperparameters_of_a_candidate_take_the_place_of_the_settings(tmp_path: Path) -> None:
    candidate = Candidate({"learning_rate": 0.25, "batch_size": 16, "momentum": 0.5, "width": 3})
    setting = Lightning(optimizer={"name": "SGD"}).given(candidate)
    assert (setting.learning_rate, setting.batch_size) == (0.25, 16)
    assert setting.optimizer.arguments == {"momentum": 0.5}
    assert Lightning().given(candidate).optimizer.arguments == {}  # AdamW takes no momentum
    seen = Collect()
    plain = Lightning(schedule={"name": "constant"})
    plain.train(model(), replace(JOB, candidate=candidate), data(), seen, tmp_path, None)
    assert seen.rows[0]["learning_rate"].value == 0.25


def test_a_choice_out_of_bounds_is_named_in_one_line() -> None:
    message = r"choice 'batch_size' of candidate \w{12} is 0: .*greater than or equal to 1"
    with pytest.raises(SpecError, match=message):
        Lightning().given(Candidate({"batch_size": 0}))


class DropPath(nn.Module):
    rate = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(("drop_path", "rates"), [(0.3, [0.1, 0.2, 0.3]), (None, [0.0, 0.0, 0.0])])
def test_drop_path_grows_linearly_to_the_last_module(
    tmp_path: Path, drop_path: float | None, rates: list[float]
) -> None:
    paths = [DropPath() for _ in range(3)]
    Lightning(drop_path=drop_path).train(nn.Sequential(model(), *paths), JOB, data(), quiet, tmp_path, None)
    assert [p.rate for p in paths] == pytest.approx(rates)


def test_bfloat16_training_learns_and_keeps_float32_weights(tmp_path: Path) -> None:
    net, seen = model(), Collect()
    Lightning(precision="bf16-mixed", learning_rate=0.1).train(net, JOB, data(), seen, tmp_path, None)
    assert seen.rows[-1]["train_loss"].value < seen.rows[0]["train_loss"].value
    assert {p.dtype for p in net.parameters()} == {torch.float32}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_float16_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="'16-mixed', which needs a CUDA GPU"):
        Lightning(precision="16-mixed").train(model(), JOB, data(), quiet, tmp_path, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_training_runs_on_a_gpu_and_its_checkpoint_loads_on_the_cpu(tmp_path: Path, precision: str) -> None:
    setting = Lightning.model_validate(
        {"precision": precision, "learning_rate": 0.1, "gradient_clip": 1.0, "ema_decay": 0.5}
    )
    seen = Collect()
    first = setting.train(model(), JOB, data(), seen, tmp_path, None)
    then = replace(JOB, from_rung=0, to_rung=1)
    setting.train(model(), then, data(), seen, tmp_path, first.checkpoint)
    assert [row["val_loss"].step for row in seen.rows] == [1, 2, 3]
    assert seen.rows[-1]["train_loss"].value < seen.rows[0]["train_loss"].value
    bare = model()
    setting.load_weights(bare, tmp_path / "rung-1.ckpt")
    assert {p.device.type for p in bare.parameters()} == {"cpu"}


def test_continuing_past_the_rung_is_refused(tmp_path: Path) -> None:
    trained = Lightning().train(model(), JOB, data(), quiet, tmp_path, None)
    with pytest.raises(SpecError, match="has 2 epochs already"):
        Lightning().train(model(), replace(JOB, from_rung=0), data(), quiet, tmp_path, trained.checkpoint)


def test_an_empty_training_part_is_refused(tmp_path: Path) -> None:
    part = data()
    empty = replace(part, train_x=part.train_x[:0], train_y=part.train_y[:0])
    with pytest.raises(SpecError, match="is empty"):
        Lightning().train(model(), JOB, empty, quiet, tmp_path, None)
