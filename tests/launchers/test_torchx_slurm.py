"""TorchX on a real Slurm of one node."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.slurm import SlurmServer
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.launchers import TorchX
from ziggurat.launchers.scheduler import OVER, Condition, Request, Resources, Scheduler, State
from ziggurat.processes import MARK

pytestmark = [pytest.mark.server, pytest.mark.slurm]
PATIENCE_S = 90.0
COUNT = itertools.count()
PATIENT = """
import signal, sys, time
def stop(number, frame):
    print("told to stop", flush=True)
    if "deaf" not in sys.argv:
        sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    time.sleep(0.05)
"""


class Desk:
    """A scheduler, and what tests do with it."""

    def __init__(self, folder: Path, **changes: object) -> None:
        settings = {"partition": "low"} | dict(changes.pop("settings", {}))  # type: ignore[call-overload]
        self.setting = TorchX.model_validate(
            {"kind": "torchx", "scheduler": "slurm", "grace_s": 20, "settings": settings, **changes}
        )
        self.folder = folder
        self.scheduler: Scheduler = self.setting.scheduler(folder)

    def request(self, *command: str, name: str = "", **changes: object) -> Request:
        fields = {
            "name": name or f"zig-test-{next(COUNT)}",
            "command": command,
            "resources": self.setting.resources,
            "time_limit_s": 600.0,
            "grace_s": self.setting.grace_s,
            "folder": self.folder / "logs",
        }
        return Request(**fields | changes)  # type: ignore[arg-type]

    def submit(self, *command: str, **changes: object) -> str:
        return self.scheduler.submit(self.request(*command, **changes))

    def patient(self, *arguments: str, **changes: object) -> str:
        return self.submit(sys.executable, "-S", "-c", PATIENT, *arguments, **changes)

    def condition(self, handle: str) -> Condition:
        return self.scheduler.conditions([handle])[handle]

    def until(self, handle: str, wanted: Callable[[Condition], object]) -> Condition:
        deadline = time.monotonic() + PATIENCE_S
        while not wanted(found := self.condition(handle)):
            assert time.monotonic() < deadline, f"still {found}"
            time.sleep(0.1)
        return found

    def over(self, handle: str) -> Condition:
        return self.until(handle, lambda c: c.state in OVER)

    def said(self, handle: str) -> str:
        path = self.folder / "logs" / f"slurm-{handle.removeprefix('slurm:')}.out"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def says(self, handle: str, words: str) -> None:
        self.until(handle, lambda c: words in self.said(handle) or c.state in OVER)
        assert words in self.said(handle)


@pytest.fixture(scope="module")
def desk(slurm_server: SlurmServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    # a folder as awkward as users have them
    desk = Desk(tmp_path_factory.mktemp("run of 100% 'a'"))
    yield desk
    desk.scheduler.close()
    slurm_server.run("scancel", "--user=root")


@pytest.fixture(scope="module")
def late(desk: Desk, slurm_server: SlurmServer) -> str:
    """A job beyond its time, which Slurm notices within half a minute."""
    handle = desk.patient("deaf", time_limit_s=1.0)
    desk.says(handle, "up")
    slurm_server.run("scontrol", "update", f"JobId={handle.removeprefix('slurm:')}", "EndTime=now+1")
    return handle


def test_a_job_waits_or_runs_and_succeeds(desk: Desk) -> None:
    handle = desk.submit("echo", "a b", "$HOME", "${app_id}", "it's", '"q"', "*")
    assert desk.condition(handle).state in {State.PENDING, State.RUNNING, State.SUCCEEDED}
    assert desk.over(handle).state is State.SUCCEEDED
    assert desk.scheduler.last_words(handle) == 'a b $HOME ${app_id} it\'s "q" *'


def test_a_failure_has_its_exit_code_and_its_last_words(desk: Desk) -> None:
    handle = desk.submit("sh", "-c", "echo this is why >&2; exit 3")
    condition = desk.over(handle)
    assert condition.state is State.FAILED
    assert "exit code 3" in condition.text
    assert desk.scheduler.last_words(handle) == "this is why"


def test_a_program_that_is_not_there_fails_and_slurm_says_why(desk: Desk) -> None:
    handle = desk.submit("/nowhere/python")
    assert desk.over(handle).state is State.FAILED
    assert "/nowhere/python" in desk.said(handle)
    assert desk.scheduler.last_words(handle) != ""


def test_variables_arrive_whole_and_the_mark_of_the_controller_does_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, "of the controller")
    monkeypatch.setenv("PREFECT_API_KEY", "of the controller")
    monkeypatch.setenv("SLURM_JOB_PARTITION", "of an allocation")
    value = "with, comma $HOME 'quote' and\nline"
    names = ("A_TOKEN", MARK, "PREFECT_API_KEY", "SLURM_JOB_PARTITION")
    program = f"import os; print([os.environ.get(name) for name in {names}])"
    handle = desk.submit(sys.executable, "-S", "-c", program, environment={"A_TOKEN": value})
    assert desk.over(handle).state is State.SUCCEEDED
    assert desk.scheduler.last_words(handle) == str([value, None, None, "low"])
    assert value not in desk.scheduler.plan(desk.request("true", environment={"A_TOKEN": value}))


def test_a_cancelled_job_gets_the_signal_and_ends_in_its_own_way(desk: Desk) -> None:
    handle = desk.patient()
    desk.says(handle, "up")
    desk.scheduler.cancel(handle)
    assert desk.over(handle).state is State.SUCCEEDED
    assert desk.scheduler.last_words(handle) == "told to stop"
    desk.scheduler.cancel(handle)  # of an ended job nothing happens
    assert desk.condition(handle).state is State.SUCCEEDED


@pytest.mark.soak
def test_a_deaf_job_is_ended_after_its_grace(desk: Desk) -> None:
    hasty = Desk(desk.folder, grace_s=1)
    handle = hasty.patient("deaf")
    hasty.says(handle, "up")
    hasty.scheduler.cancel(handle)
    hasty.says(handle, "told to stop")
    assert hasty.over(handle).state is State.CANCELLED


def test_a_job_that_waits_leaves_the_queue_at_once(desk: Desk) -> None:
    greedy = Desk(desk.folder, settings={"comment": "waits"})
    first = greedy.patient(resources=Resources(cpus=2))
    second = greedy.patient(resources=Resources(cpus=2))
    greedy.scheduler.cancel(second)
    condition = greedy.over(second)
    assert condition.state is State.CANCELLED
    assert greedy.said(second) == ""
    greedy.scheduler.cancel(first)
    greedy.over(first)


def test_memory_beyond_the_limit_is_told_as_such(desk: Desk) -> None:
    grow = "import time; held = b'x' * 300_000_000; time.sleep(60)"
    handle = desk.submit(sys.executable, "-S", "-c", grow, resources=Resources(memory_mb=100))
    condition = desk.over(handle)
    assert condition.state is State.OUT_OF_MEMORY
    assert "xceeded" in condition.text


def test_another_controller_finds_jobs_by_name_and_by_handle(desk: Desk) -> None:
    name = "zig-a-name-as-long-as-they-may-be-0123456789-0123456789-abcdefgh"[:63]
    ended = desk.submit("true", name=name)
    desk.over(ended)
    other = Desk(desk.folder)
    assert other.scheduler.look_up(name) == ended
    running = desk.patient(name=name)
    assert other.scheduler.look_up(name) == running
    assert other.scheduler.look_up("zig-nobody") is None
    other.says(running, "up")
    other.scheduler.cancel(running)
    assert other.over(running).state is State.SUCCEEDED
    assert other.scheduler.look_up(name) == running


def test_a_controller_that_closes_leaves_jobs_alone_if_the_run_goes_on(desk: Desk) -> None:
    first = Desk(desk.folder)
    handle = first.patient()
    first.says(handle, "up")
    first.scheduler.close(leave=True)
    assert desk.condition(handle).state is State.RUNNING
    desk.scheduler.cancel(handle)
    desk.over(handle)


def test_a_job_that_slurm_does_not_know_is_gone(desk: Desk) -> None:
    found = desk.scheduler.conditions(["slurm:99999999", "local_cwd:x", "slurm:1; rm -rf /"])
    assert {c.state for c in found.values()} == {State.GONE}
    desk.scheduler.cancel("slurm:99999999")
    assert desk.scheduler.last_words("slurm:99999999") == ""


@pytest.mark.soak
def test_a_job_beyond_its_time_is_told_as_such(desk: Desk, late: str) -> None:
    condition = desk.over(late)
    assert condition.state is State.TIMEOUT
    assert "told to stop" in desk.said(late)


def test_a_preempted_job_is_told_in_time_and_may_end_by_itself(desk: Desk) -> None:
    handle = desk.patient(resources=Resources(cpus=2))
    desk.says(handle, "up")
    urgent = Desk(desk.folder, settings={"partition": "urgent"})
    other = urgent.submit("sleep", "0.2", resources=Resources(cpus=2))
    assert desk.over(handle).state is State.SUCCEEDED
    assert desk.scheduler.last_words(handle) == "told to stop"
    assert urgent.over(other).state is State.SUCCEEDED


@pytest.mark.soak
def test_a_deaf_preempted_job_waits_again_and_is_run_again(desk: Desk) -> None:
    again = (
        'test -z "$SLURM_RESTART_COUNT" || exit 0; '
        "trap 'echo told to stop' TERM; while :; do sleep 0.1; done"
    )
    handle = desk.submit("bash", "-c", again, resources=Resources(cpus=2))
    desk.until(handle, lambda c: c.state is State.RUNNING)
    urgent = Desk(desk.folder, settings={"partition": "urgent"})
    other = urgent.submit("true", resources=Resources(cpus=2))
    waiting = desk.until(handle, lambda c: c.state is State.PENDING)
    assert "queued again 1 time" in waiting.text
    assert "told to stop" in desk.said(handle)
    assert urgent.over(other).state is State.SUCCEEDED
    condition = desk.over(handle)
    assert condition.state is State.SUCCEEDED
    assert "queued again 1 time" in condition.text


@pytest.mark.soak
def test_a_lost_node_is_told_as_such(desk: Desk, slurm_server: SlurmServer) -> None:
    handle = desk.patient()
    number = handle.removeprefix("slurm:")
    slurm_server.run("scontrol", "update", f"JobId={number}", "Requeue=0")
    desk.says(handle, "up")
    slurm_server.run("scontrol", "update", "NodeName=localhost", "State=DOWN", "Reason=test")
    try:
        assert desk.over(handle).state is State.NODE_LOST
    finally:
        slurm_server.resume()
    assert desk.over(desk.submit("true")).state is State.SUCCEEDED


def test_what_slurm_would_refuse_is_found_before_the_run(desk: Desk) -> None:
    desk.scheduler.check()
    with pytest.raises(
        SpecError, match="partition is 'lw', which the cluster does not have; did you mean low"
    ):
        Desk(desk.folder, settings={"partition": "lw"}).scheduler.check()
    with pytest.raises(SpecError, match=r"ask for less under launcher\.resources"):
        Desk(desk.folder, resources={"cpus": 64}).scheduler.check()


def test_a_refused_job_is_one_line_with_the_cure(desk: Desk) -> None:
    with pytest.raises(ZigguratError, match=r"launcher\.resources") as caught:
        desk.submit("true", resources=Resources(memory_mb=100_000_000))
    assert "\n" not in str(caught.value)


def test_a_slurm_that_does_not_answer_is_told_and_asked_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Path(os.environ["SLURM_CONF"])
    bad = desk.folder / "elsewhere.conf"
    lines = good.read_text(encoding="utf-8").splitlines()
    bad.write_text("\n".join("SlurmctldPort=1" if x.startswith("SlurmctldPort") else x for x in lines))
    monkeypatch.setenv("SLURM_CONF", str(bad))
    monkeypatch.setattr("ziggurat.launchers.slurm.ANSWER_S", 1.0)
    with pytest.raises(ZigguratError, match="squeue"):
        desk.scheduler.conditions(["slurm:1"])
    with pytest.raises(SpecError, match="sinfo"):
        desk.scheduler.check()
