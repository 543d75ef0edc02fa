"""TorchX's processes of this machine, for real."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ziggurat.errors import SpecError, ZigguratError
from ziggurat.launchers import TorchX
from ziggurat.launchers.scheduler import OVER, Condition, Request, Resources, State
from ziggurat.launchers.torchx_local import LocalScheduler, visible_gpus

PATIENCE_S = 40.0
PATIENT = """
import signal, subprocess, sys, time
def stop(number, frame):
    print("told to stop", flush=True)
    if "deaf" not in sys.argv:
        sys.exit(0)
signal.signal(signal.SIGTERM, stop)
child = subprocess.Popen(["sleep", "60"]) if "brood" in sys.argv else None
print("up", child.pid if child else "", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    time.sleep(0.02)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run of 100% 'a'"


@pytest.fixture
def local(folder: Path) -> Iterator[LocalScheduler]:
    scheduler = LocalScheduler(TorchX(scheduler="local_cwd", grace_s=20), folder)
    yield scheduler
    scheduler.close()


def request(folder: Path, *command: str, name: str = "zig-a", **changes: object) -> Request:
    fields = {"resources": Resources(), "time_limit_s": 60.0, "grace_s": 20.0, "folder": folder / "logs"}
    return Request(name, command, **fields | changes)  # type: ignore[arg-type]


def patient(folder: Path, *arguments: str) -> Request:
    return request(folder, sys.executable, "-S", "-c", PATIENT, *arguments)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def over(scheduler: LocalScheduler, handle: str) -> Condition:
    until(lambda: scheduler.conditions([handle])[handle].state in OVER)
    return scheduler.conditions([handle])[handle]


def test_a_job_succeeds_and_every_word_arrives_as_it_is(local: LocalScheduler, folder: Path) -> None:
    handle = local.submit(request(folder, "echo", "a b", "$HOME", "${app_id}", "it's"))
    assert over(local, handle).state is State.SUCCEEDED
    assert local.last_words(handle) == "a b $HOME ${app_id} it's"


def test_a_failure_has_its_exit_code_and_its_last_words(local: LocalScheduler, folder: Path) -> None:
    handle = local.submit(request(folder, "sh", "-c", "echo this is why >&2; exit 3"))
    assert over(local, handle) == Condition(State.FAILED, "exit code 3")
    assert local.last_words(handle) == "this is why"


def test_a_job_that_is_killed_is_told_as_such(local: LocalScheduler, folder: Path) -> None:
    handle = local.submit(request(folder, "sh", "-c", "kill -9 $$"))
    assert over(local, handle) == Condition(State.FAILED, "ended by SIGKILL")


def test_variables_arrive_whole_and_the_working_directory_is_not_before_the_path(
    local: LocalScheduler, folder: Path
) -> None:
    program = "import os; print([os.environ['A'], os.environ['PATH']])"
    value = "with, comma $HOME 'quote' and\nline"
    handle = local.submit(request(folder, sys.executable, "-S", "-c", program, environment={"A": value}))
    assert over(local, handle).state is State.SUCCEEDED
    assert local.last_words(handle) == str([value, os.environ["PATH"]])


def test_a_cancelled_job_gets_the_signal_and_ends_in_its_own_way(local: LocalScheduler, folder: Path) -> None:
    handle = local.submit(patient(folder))
    until(lambda: local.last_words(handle) == "up")
    assert local.conditions([handle])[handle].state is State.RUNNING
    local.cancel(handle)
    assert over(local, handle).state is State.SUCCEEDED
    assert local.last_words(handle) == "told to stop"
    local.cancel(handle)  # of an ended job nothing happens


def test_a_deaf_job_is_ended_after_its_grace_with_all_that_it_started(folder: Path) -> None:
    hasty = LocalScheduler(TorchX(scheduler="local_cwd", grace_s=0.2), folder)
    handle = hasty.submit(patient(folder, "deaf", "brood"))
    until(lambda: hasty.last_words(handle).startswith("up"))
    child = int(hasty.last_words(handle).split()[1])
    hasty.cancel(handle)
    begun = time.monotonic()
    assert over(hasty, handle) == Condition(State.CANCELLED, "ended by SIGKILL")
    assert time.monotonic() - begun < PATIENCE_S / 2
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    hasty.close()


def test_what_an_ended_job_left_behind_is_ended(local: LocalScheduler, folder: Path) -> None:
    handle = local.submit(request(folder, "sh", "-c", "trap '' TERM; sleep 60 & echo $!"))
    assert over(local, handle).state is State.SUCCEEDED
    child = int(local.last_words(handle))
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_closing_ends_jobs_and_waits_for_them(folder: Path) -> None:
    scheduler = LocalScheduler(TorchX(scheduler="local_cwd", grace_s=20), folder)
    handle = scheduler.submit(patient(folder))
    until(lambda: scheduler.last_words(handle) == "up")
    scheduler.close()
    assert scheduler.last_words(handle) == "told to stop"
    assert scheduler.conditions([handle])[handle].state is State.SUCCEEDED


def test_the_signal_handlers_of_the_controller_stay(folder: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    LocalScheduler(TorchX(scheduler="local_cwd"), folder)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_jobs_of_another_controller_are_gone(local: LocalScheduler, folder: Path) -> None:
    handle = local.submit(request(folder, "true"))
    assert local.look_up("zig-a") == handle
    other = LocalScheduler(TorchX(scheduler="local_cwd"), folder)
    assert other.look_up("zig-a") is None
    assert other.conditions([handle])[handle].state is State.GONE
    assert other.last_words(handle) == ""
    other.cancel(handle)
    assert over(local, handle).state is State.SUCCEEDED


def test_the_same_name_may_be_given_again(local: LocalScheduler, folder: Path) -> None:
    first, second = (local.submit(request(folder, "echo", word)) for word in ("one", "two"))
    assert {over(local, h).state for h in (first, second)} == {State.SUCCEEDED}
    assert (local.last_words(first), local.last_words(second)) == ("one", "two")
    assert local.look_up("zig-a") == second


def test_a_program_that_is_not_there_is_one_line(local: LocalScheduler, folder: Path) -> None:
    with pytest.raises(ZigguratError, match=r"/nowhere/python cannot be started: .*; see launcher.python"):
        local.submit(request(folder, "/nowhere/python"))


def test_each_job_sees_gpus_of_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    needs = Resources(gpus=1)
    scheduler = LocalScheduler(TorchX(scheduler="local_cwd", grace_s=0, resources=needs), folder)
    scheduler.check()
    with contextlib.closing(scheduler):
        show = ("sh", "-c", "echo $CUDA_VISIBLE_DEVICES; sleep 60")
        handles = [scheduler.submit(request(folder, *show, resources=needs)) for _ in range(3)]
        for handle in handles:
            until(lambda h=handle: scheduler.last_words(h))  # type: ignore[misc]
        assert [scheduler.last_words(h) for h in handles] == ["4", "5", "7"]
        with pytest.raises(ZigguratError, match="0 of this machine's 3 GPUs are free, a job needs 1; lower"):
            scheduler.submit(request(folder, *show, resources=needs))
        scheduler.cancel(handles[1])
        over(scheduler, handles[1])
        again = scheduler.submit(request(folder, *show, resources=needs))
        until(lambda: scheduler.last_words(again))
        assert scheduler.last_words(again) == "5"


def test_what_this_machine_has_not_is_found_before_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    setting = TorchX(scheduler="local_cwd", resources=Resources(gpus=2))
    with pytest.raises(SpecError, match=r"launcher.resources.gpus is 2, but this machine has 1"):
        LocalScheduler(setting, folder).check()
    for changes, told in (
        ({"resources": Resources(memory_mb=10**9)}, "launcher.resources.memory_mb is 1000000000, but this"),
        ({"resources": Resources(cpus=1024)}, "launcher.resources.cpus is 1024, but this machine has"),
        ({"python": "/no/python"}, "launcher.python is '/no/python', which is no program here"),
    ):
        with pytest.raises(SpecError, match=told):
            LocalScheduler(TorchX(scheduler="local_cwd", **changes), folder).check()
    LocalScheduler(TorchX(scheduler="local_cwd", python=sys.executable), folder).check()
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == ()
