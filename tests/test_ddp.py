"""A segment trained by two processes: what it learns, how it stops, is continued and fails."""

import sys

import psutil
import pytest
import torch
import yaml

from tests.real import plain, python_space, train, use_models
from ziggurat import ddp
from ziggurat.domain import FailureKind, Fidelity
from ziggurat.jobs import Desk
from ziggurat.performing import Stop
from ziggurat.trainers import StopTraining, TrainingFailed

LADDER = (Fidelity(2), Fidelity(4))


def job(to_rung=1, **changes):
    return train("00001", **{"ladder": LADDER, "to_rung": to_rung, "seed": 7, **changes})


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """Makes a desk at a run whose trials are trained by so many processes."""
    use_models(tmp_path, monkeypatch)

    def make(count):
        folder = tmp_path / f"by-{count}"
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        settings = plain(
            space=python_space(mode=["good"]), launcher={"kind": "local", "resources": {"processes": count}}
        )
        (folder / "spec.yaml").write_text(yaml.safe_dump(settings))
        return Desk(folder, "worker-0")

    return make


def weights(desk, checkpoint):
    return torch.load(desk.folder / checkpoint, weights_only=True)["state_dict"]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)


def hand_over(source, target, checkpoint):
    """Copy a checkpoint from one run to another."""
    (target.folder / checkpoint).parent.mkdir(parents=True, exist_ok=True)
    (target.folder / checkpoint).write_bytes((source.folder / checkpoint).read_bytes())
    return checkpoint


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_take_turns_with_it(desk):
    alone, both = desk(1), desk(2)
    rows = {1: [], 2: []}
    half = alone.do(job(0), lambda step, _: rows[1].append(step), Stop())
    rest = {"key": "00001-train-0-1", "from_rung": 0}
    checkpoint = hand_over(alone, both, half.checkpoint)
    whole = alone.do(job(checkpoint=checkpoint, **rest), lambda step, found: rows[1].append(step), Stop())
    seen = []

    def row(step, found):
        rows[2].append(step)
        seen.extend(p.environ()["RANK"] for p in psutil.Process().children(recursive=True) if _is_rank(p))

    shared = both.do(job(checkpoint=checkpoint, **rest), row, Stop())
    assert (rows[1], rows[2], sorted(set(seen))) == ([1, 2, 3, 4], [3, 4], ["0", "1"])
    assert_equal(weights(alone, whole.checkpoint), weights(both, shared.checkpoint))
    one, two = ({m.metric: m.value for m in outcome.measurements} for outcome in (whole, shared))
    assert two == pytest.approx(one, rel=1e-4)
    assert not any(_is_rank(p) for p in psutil.Process().children(recursive=True))


def _is_rank(process):
    return "ziggurat.rank" in process.cmdline() and "RANK" in process.environ()


@pytest.mark.slow
@pytest.mark.soak
def test_all_stop_together_on_request_and_one_process_goes_on_from_there(desk):
    alone, both = desk(1), desk(2)
    stop = Stop()

    def row(step, found):
        if step == 1:
            stop.ask(60.0)

    with pytest.raises(StopTraining) as stopped:
        both.do(job(), row, stop)
    checkpoint = hand_over(both, alone, stopped.value.checkpoint)
    rest = []
    second = job(key="00001-train-0-1", attempt=1, checkpoint=checkpoint)
    continued = alone.do(second, lambda step, _: rest.append(step), Stop())
    assert rest == [2, 3, 4]
    quiet = alone.do(job(key="00001-train-0-2"), lambda *_: None, Stop())
    assert_equal(weights(alone, quiet.checkpoint), weights(alone, continued.checkpoint))


FAKE = """
import json, os, signal, socket, sys, time
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1] + "/line")
def say(**message):
    line.sendall(json.dumps(message).encode() + b"\\n")
"""


@pytest.fixture
def launcher(monkeypatch, tmp_path):
    """Puts a few lines in the place of torch's launcher and its processes."""

    def put(code):
        monkeypatch.setattr(
            ddp, "command", lambda folder, count: [sys.executable, "-c", FAKE + code, str(folder)]
        )
        order = ddp.Order(tmp_path, job(), tmp_path, None)
        return lambda report=lambda _: None: ddp.train(order, 2, report)

    return put


def test_a_failure_in_any_process_is_the_segments(launcher):
    begin = launcher('say(**{"is": "failed", "kind": "diverged", "text": "loss is nan"}); time.sleep(60)')
    with pytest.raises(TrainingFailed, match="loss is nan") as failed:
        begin()
    assert failed.value.kind is FailureKind.DIVERGED


def test_processes_that_die_without_a_word_are_lost(launcher):
    with pytest.raises(TrainingFailed, match="ended without a result") as failed:
        launcher("os.kill(os.getpid(), signal.SIGKILL)")()
    assert failed.value.kind is FailureKind.LOST


@pytest.mark.parametrize("kind", [StopTraining, KeyError])
def test_what_a_report_raises_between_epochs_ends_the_processes_at_once(launcher, kind):
    seen = []

    def report(measurements):
        seen.extend(p for p in psutil.Process().children() if "time.sleep(60)" in " ".join(p.cmdline()))
        raise kind

    begin = launcher("time.sleep(60)")
    with pytest.raises(kind):
        begin(report)
    assert seen
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in seen)


def test_an_order_is_read_as_it_was_written(tmp_path):
    order = ddp.Order(tmp_path, job(), tmp_path / "trials", tmp_path / "x.ckpt", lenient=True)
    order.write(tmp_path)
    assert ddp.Order.read(tmp_path) == order


def test_the_launcher_is_torchs_own_with_an_argument_list(tmp_path):
    words = ddp.command(tmp_path, 3)
    assert words[1:3] == ["-m", "torch.distributed.run"]
    assert words[words.index("--nproc-per-node") + 1] == "3"
    assert words[-3:] == ["-m", "ziggurat.rank", str(tmp_path)]
