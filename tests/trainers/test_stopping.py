"""A training that is asked to stop keeps its state at the end of an epoch and goes on from there exactly."""

import numpy as np
import pytest
import torch

from ziggurat.domain import Candidate, Fidelity, Job, JobKind
from ziggurat.protocols import Data, Signature
from ziggurat.trainers import Lightning, StopTraining


def data():
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(160, 5)), dtype=torch.float32)
    y = (x[:, 0] > 0).long()
    return Data(x[:120], y[:120], x[120:], y[120:], Signature((5,), 2))


def model():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2)
    )


def job():
    return Job("k", JobKind.TRAIN, "search", 0, Candidate({}), (Fidelity(6),), -1, 0, seed=5)


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_stop_at_the_end_of_an_epoch_keeps_the_state_and_goes_on_exactly(tmp_path):
    def stop_after_two(measurements):
        if measurements and measurements[0].step == 2:
            raise StopTraining

    trainer = Lightning(ema_decay=0.9)
    with pytest.raises(StopTraining) as stopped:
        trainer.train(model(), job(), data(), stop_after_two, tmp_path / "a", None)
    assert stopped.value.checkpoint is not None
    steps = []
    resume = tmp_path / "a" / "partial.ckpt"
    ended = trainer.train(
        model(), job(), data(), lambda ms: steps.extend(m.step for m in ms[:1]), tmp_path / "a", resume
    )
    quiet = trainer.train(model(), job(), data(), lambda _: None, tmp_path / "b", None)
    assert steps == [3, 4, 5, 6]
    assert ended.measurements == quiet.measurements
    ours, theirs = weights(ended.checkpoint), weights(quiet.checkpoint)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_stop_with_the_last_epoch_ends_the_segment_as_usual(tmp_path):
    def stop_at_the_end(measurements):
        if measurements and measurements[0].step == 6:
            raise StopTraining

    done = Lightning().train(model(), job(), data(), stop_at_the_end, tmp_path, None)
    assert done.checkpoint.name == "rung-0.ckpt"


class Killed(BaseException):
    """What a lost machine looks like from inside: nothing more is done."""


@pytest.mark.parametrize(("every_s", "kept"), [(1e-9, True), (3600, False), (None, False)])
def test_a_long_segment_that_is_lost_goes_on_exactly_from_an_epoch_inside_it(tmp_path, every_s, kept):
    setting = Lightning(batch_size=8, checkpoint_s=every_s, ema_decay=0.9)
    whole = setting.train(model(), job(), data(), lambda _: None, tmp_path / "a", None)

    def report(measurements):
        if measurements and measurements[0].step == 3:
            raise Killed

    with pytest.raises(Killed):
        setting.train(model(), job(), data(), report, tmp_path / "b", None)
    partial = tmp_path / "b" / "partial.ckpt"
    assert partial.exists() is kept
    if kept:
        steps = []
        again = setting.train(
            model(), job(), data(), lambda ms: steps.extend(m.step for m in ms[:1]), tmp_path / "b", partial
        )
        assert steps[0] == 3  # the first two epochs were kept
        assert again.measurements == whole.measurements
        assert weights(again.checkpoint).keys() == weights(whole.checkpoint).keys()
        for name, tensor in weights(whole.checkpoint).items():
            assert torch.equal(tensor, weights(again.checkpoint)[name]), name
