"""What a job uses of its machine."""

import subprocess
import sys
import time

import pytest

from ziggurat import usage
from ziggurat.usage import Meter, Sample


class Machine:
    """A machine whose clock and samples are made up."""

    def __init__(self):
        self.now = 0.0
        self.sample = Sample(0.0, 100.0)

    def meter(self):
        return Meter(lambda: self.sample, lambda: self.now)

    def go(self, meter, seconds, sample):
        self.now += seconds
        self.sample = sample
        meter.take()


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    return Machine()


def test_use_of_the_processor_is_a_share_of_the_threads_a_job_was_given(machine):
    meter = machine.meter()
    machine.go(meter, 2.0, Sample(3.0, 250.0))
    machine.go(meter, 2.0, Sample(4.0, 150.0))
    assert meter.told() == {"memory_mb": 250.0, "cpu_utilisation": 0.5}


def test_time_in_which_the_process_was_stopped_counts_for_nothing(machine):
    meter = machine.meter()
    machine.go(meter, 2.0, Sample(4.0, 100.0))
    machine.go(meter, 60.0, Sample(4.0, 100.0))
    assert meter.told()["cpu_utilisation"] == 1.0


def test_a_gpu_is_told_of_where_it_can_be_read(machine):
    meter = machine.meter()
    machine.go(meter, 1.0, Sample(0.0, 1.0, 0.2, 500.0))
    machine.go(meter, 3.0, Sample(0.0, 1.0, 0.6, 400.0))
    machine.go(meter, 2.0, Sample(0.0, 1.0))  # the driver did not answer
    assert meter.told()["gpu_utilisation"] == pytest.approx(0.5)
    assert meter.told()["gpu_memory_mb"] == 500.0


def test_nothing_is_told_of_gpus_that_a_job_does_not_work_with(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert (usage.look().gpu, usage.look().gpu_memory_mb) == (None, None)


def test_a_child_process_counts_while_it_runs_and_after_it_has_ended(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = "import time\nend = time.process_time() + .3\nwhile time.process_time() < end: pass"
    before = usage.look().cpu_s
    child = subprocess.Popen([sys.executable, "-c", code + "\ninput()"], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while usage.look().cpu_s - before < 0.3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert usage.look().cpu_s - before >= 0.3
    child.communicate(b"\n")
    assert usage.look().cpu_s - before >= 0.3


def test_a_meter_follows_a_job_while_it_runs():
    assert usage.current() == {}
    with usage.metered() as meter:
        sum(range(10**6))
        meter.take()
        assert usage.current()["memory_mb"] > 1
    assert 0 <= meter.told()["cpu_utilisation"] <= 1
    assert usage.current() == {}


@pytest.mark.parametrize("plain", [None, [1], {"a": "x", "b": -1, "c": float("inf"), "d": float("nan")}])
def test_what_makes_no_sense_is_not_believed(plain):
    assert usage.from_plain(plain) == {}
