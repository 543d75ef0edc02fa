"""Marked processes: found, ended, and gone with the controller however it goes."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.real import ROOT, until
from ziggurat import processes

CONTROLLER = """
import subprocess, sys, time
from pathlib import Path
from ziggurat import processes

value = processes.mark(Path(sys.argv[1]))
reaper = processes.Reaper(value)
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def sleeper(monkeypatch):
    """Starts a process that bears a mark; all are ended with the test."""
    started = []

    def start(value):
        monkeypatch.setenv(processes.MARK, value)
        started.append(subprocess.Popen(["sleep", "600"]))
        monkeypatch.delenv(processes.MARK)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def found(prefix, but=None):
    return {p.pid for p in processes.marked(prefix, but)}


def test_marked_processes_are_found_by_prefix_and_one_mark_can_be_left_out(sleeper, tmp_path):
    one, two = sleeper(f"{tmp_path}::a"), sleeper(f"{tmp_path}::b")
    sleeper(f"{tmp_path}-other::a")
    until(lambda: found(f"{tmp_path}::") == {one.pid, two.pid})
    assert found(f"{tmp_path}::", but=f"{tmp_path}::a") == {two.pid}


def test_a_controller_does_not_find_itself(monkeypatch, tmp_path):
    value = processes.mark(tmp_path)
    try:
        assert os.environ[processes.MARK] == value
        assert os.getpid() not in found(str(tmp_path))
    finally:
        processes.unmark()
    assert processes.MARK not in os.environ


def test_stopped_processes_are_ended_as_well(sleeper, tmp_path):
    process = sleeper(f"{tmp_path}::a")
    process.send_signal(signal.SIGSTOP)
    until(lambda: found(f"{tmp_path}::") == {process.pid})
    assert processes.end_leftovers(tmp_path) == 1
    assert process.wait(5) is not None
    assert found(f"{tmp_path}::") == set()


def test_leftovers_of_one_directory_are_no_concern_of_another(sleeper, tmp_path):
    process = sleeper(f"{tmp_path}/run-10::a")
    until(lambda: found(f"{tmp_path}/run-10::") == {process.pid})
    assert processes.end_leftovers(tmp_path / "run-1") == 0
    assert process.poll() is None


def test_what_a_killed_controller_has_started_is_gone_within_seconds(tmp_path):
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(controller.stdout.readline())
    assert psutil.pid_exists(child)
    until(lambda: child in found(f"{tmp_path}::"))
    controller.kill()
    controller.wait()
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    until(lambda: not found(f"{tmp_path}::"))
    controller.stdout.close()
