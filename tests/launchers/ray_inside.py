"""Jobs on a real Ray: run by test_ray.py inside a network namespace, where one cluster serves all tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.real import plain, python_space, train, until, use_models
from tests.servers import ray as server
from ziggurat.domain import FailureKind
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.launchers import ray_scheduler
from ziggurat.launchers.ray_launcher import Ray
from ziggurat.launchers.ray_scheduler import RayScheduler
from ziggurat.launchers.scheduler import OVER, Condition, Request, Resources, State
from ziggurat.protocols import Progress, Site

if not os.environ.get(server.INSIDE):
    pytest.skip("runs in a network namespace, started by test_ray.py", allow_module_level=True)

CONTROLLER = """
import os, signal, sys, time
from pathlib import Path
from ziggurat.launchers.ray_launcher import Ray
from ziggurat.launchers.scheduler import Request, Resources, State
from ziggurat.launchers import ray_scheduler

ray_scheduler.ENTRY = "toy_once"
address, run, path = sys.argv[1:]
here = Ray(address=address, custom_resources={"steady": 1}, grace_s=5).scheduler(Path(run))
command = (sys.executable, "-m", "toy_once", run, "train-1")
handle = here.submit(Request("zig-train-1", command, Resources(), 120, 5, {"PYTHONPATH": path}))
while here.conditions([handle])[handle].state is not State.RUNNING:
    time.sleep(0.02)
print(handle, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """A cluster with a head, and a node of two processors for most tests."""
    with server.cluster() as started:
        started.add_node(num_cpus=2, resources={"steady": 2})
        yield started


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "toy_once.py").write_text(server.TOY)
    return tmp_path


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_scheduler, "ENTRY", "toy_once")


@pytest.fixture
def scheduler(ray: Any, run: Path, toy: None) -> Iterator[RayScheduler]:
    here = start(ray, run)
    yield here
    here.close()


def start(ray: Any, run: Path, **changes: Any) -> RayScheduler:
    settings = {"address": ray.address, "custom_resources": {"steady": 1}, "grace_s": 5.0}
    return Ray(**{**settings, **changes}).scheduler(run)


def path(run: Path) -> str:
    return f"{run}{os.pathsep}{server.ROOT}"


def ask(run: Path, key: str, *command: str) -> Request:
    warm = (sys.executable, "-m", "toy_once", str(run), key)
    return Request(f"zig-{key}", command or warm, Resources(), 120.0, 5.0, {"PYTHONPATH": path(run)})


def reached(scheduler: RayScheduler, handle: str, *states: State) -> Condition:
    def condition() -> Condition | None:
        found = scheduler.conditions([handle])[handle]
        return found if found.state in states else None

    found: Condition = until(condition)
    return found


def ended(scheduler: RayScheduler, run: Path, key: str) -> Condition:
    return reached(scheduler, scheduler.submit(ask(run, key)), *OVER)


def running(scheduler: RayScheduler, run: Path, key: str) -> str:
    handle = scheduler.submit(ask(run, key))
    reached(scheduler, handle, State.RUNNING)
    until(lambda: (run / key).exists() and noted(run, key))
    return handle


def noted(run: Path, key: str) -> list[str]:
    return (run / key).read_text().split()


def actors(run: Path) -> list[str]:
    import ray

    return [
        n["name"] for n in ray.util.list_named_actors(all_namespaces=True) if n["name"].startswith(run.name)
    ]


def test_jobs_one_after_the_other_share_a_warm_process(scheduler: RayScheduler, run: Path) -> None:
    first, second = scheduler.submit(ask(run, "good-1")), ""
    assert reached(scheduler, first, *OVER) == Condition(State.SUCCEEDED)
    second = scheduler.submit(ask(run, "bad-1"))
    assert reached(scheduler, second, *OVER) == Condition(State.FAILED, "the job has left a failure")
    assert first.split("/")[0] == second.split("/")[0]
    assert noted(run, "good-1")[0] == noted(run, "bad-1")[0]
    assert scheduler.last_words(second) == "doing bad-1"
    assert scheduler.look_up("zig-good-1") == first
    assert scheduler.look_up("zig-other") is None


def test_jobs_at_the_same_time_have_an_actor_each_and_a_third_waits(
    scheduler: RayScheduler, run: Path
) -> None:
    handles = [running(scheduler, run, "train-1"), running(scheduler, run, "train-2")]
    third = scheduler.submit(ask(run, "good-3"))
    assert len({h.split("/")[0] for h in [*handles, third]}) == 3
    assert scheduler.conditions([third])[third].state is State.PENDING
    scheduler.cancel(third)
    assert scheduler.conditions([third])[third] == Condition(State.CANCELLED, "before it had a node")
    for handle in handles:
        scheduler.cancel(handle)
    for handle in handles:
        assert reached(scheduler, handle, *OVER).state is State.CANCELLED
    assert (run / "train-1.stopped").read_text() == "stopped on request; 5.0"
    assert ended(scheduler, run, "good-4").state is State.SUCCEEDED
    assert noted(run, "good-4")[0] in {noted(run, "train-1")[0], noted(run, "train-2")[0]}, "it is warm still"


def test_a_job_whose_actor_has_no_node_goes_to_an_actor_that_becomes_idle(
    ray: Any, run: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_scheduler, "PLACED_S", 0.2)
    monkeypatch.setattr(ray_scheduler, "SETTLE_S", 0.2)
    scheduler = start(ray, run, custom_resources={"steady": 2})
    training = running(scheduler, run, "train-1")
    waiting = scheduler.submit(ask(run, "train-2"))
    assert scheduler.conditions([waiting])[waiting].state is State.PENDING
    scheduler.cancel(training)
    reached(scheduler, waiting, State.RUNNING)
    until(lambda: (run / "train-2").exists() and noted(run, "train-2"))
    assert noted(run, "train-1")[0] == noted(run, "train-2")[0]
    scheduler.close(leave=True)
    other = start(ray, run, custom_resources={"steady": 2})
    assert other.conditions([waiting])[waiting].state is State.RUNNING, "it is found where it went"
    other.cancel(waiting)
    assert reached(other, waiting, *OVER).state is State.CANCELLED
    other.close()


def test_no_second_actor_is_started_for_a_job_that_follows_at_once(ray: Any, run: Path, toy: None) -> None:
    scheduler = start(ray, run)
    for number in range(12):
        scheduler.submit(ask(run, f"good-{number}"))
        until((run / f"good-{number}").exists)
    assert len(actors(run)) == 1
    scheduler.close()


def test_a_crash_of_user_code_is_a_failure_and_no_lost_node(scheduler: RayScheduler, run: Path) -> None:
    assert ended(scheduler, run, "crash-1") == Condition(
        State.FAILED, "its process ended with signal SIGSEGV"
    )


def test_a_command_is_run_cold(scheduler: RayScheduler, run: Path) -> None:
    handle = scheduler.submit(ask(run, "cold", "sh", "-c", "echo some words; exit 4"))
    assert reached(scheduler, handle, *OVER) == Condition(State.FAILED, "exit code 4")
    assert scheduler.last_words(handle) == "some words"


def test_a_killed_actor_is_a_lost_node_and_takes_its_process_along(
    scheduler: RayScheduler, run: Path
) -> None:
    handle = running(scheduler, run, "train-1")
    seat = psutil.Process(int(noted(run, "train-1")[0]))
    parent = seat.parent()
    assert parent is not None
    parent.kill()
    found = reached(scheduler, handle, *OVER)
    assert found.state is State.NODE_LOST
    assert found.text.startswith("The actor is dead because its worker process has died.")
    psutil.wait_procs([seat], timeout=20)
    assert not seat.is_running()
    assert ended(scheduler, run, "good-2").state is State.SUCCEEDED


def test_spot_nodes_join_and_leave(ray: Any, run: Path, toy: None) -> None:
    scheduler = start(ray, run, custom_resources={"spot": 1}, wait_for_nodes=True)
    waiting = scheduler.submit(ask(run, "train-1"))
    assert scheduler.conditions([waiting])[waiting].state is State.PENDING
    node = ray.add_node(num_cpus=1, resources={"spot": 1})
    reached(scheduler, waiting, State.RUNNING)
    until((run / "train-1").exists)
    ray.remove_node(node, allow_graceful=False)
    lost = reached(scheduler, waiting, *OVER)
    assert lost.state is State.NODE_LOST
    assert "node was terminated unexpectedly" in lost.text
    again = scheduler.submit(ask(run, "train-2"))
    assert scheduler.conditions([again])[again].state is State.PENDING
    node = ray.add_node(num_cpus=1, resources={"spot": 1})
    reached(scheduler, again, State.RUNNING)
    until((run / "train-2").exists)
    assert noted(run, "train-1")[0] != noted(run, "train-2")[0]
    announce_end(ray)
    preempted = reached(scheduler, again, *OVER)
    assert preempted == Condition(State.PREEMPTED, "its node is to leave the Ray cluster")
    assert (run / "train-2.stopped").read_text().startswith("its node is to leave")
    scheduler.close()
    ray.remove_node(node, allow_graceful=False)


def announce_end(cluster: Any) -> None:
    """What an autoscaler does when a spot machine has its notice."""
    import ray
    from ray._raylet import GcsClient

    node = next(n for n in ray.nodes() if n["Alive"] and "spot" in n["Resources"])
    reason, deadline = 2, int((time.time() + 4) * 1000)  # 2: pre-empted
    accepted, why = GcsClient(address=cluster.address).drain_node(node["NodeID"], reason, "spot", deadline)
    assert accepted, why


def test_another_controller_goes_on_with_the_jobs_of_one_that_was_killed(
    ray: Any, run: Path, toy: None
) -> None:
    variables = {**os.environ, "PYTHONPATH": path(run)}
    command = [sys.executable, "-c", CONTROLLER, ray.address, str(run), path(run)]
    killed = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=100)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    handle = killed.stdout.strip()
    scheduler = start(ray, run)
    assert scheduler.look_up("zig-train-1") == handle
    assert scheduler.conditions([handle])[handle].state is State.RUNNING
    assert ended(scheduler, run, "good-2").state is State.SUCCEEDED, "another actor: that one is busy"
    assert noted(run, "good-2")[0] != noted(run, "train-1")[0]
    scheduler.close(leave=True)
    third = start(ray, run)
    assert third.conditions([handle])[handle].state is State.RUNNING
    third.cancel(handle)
    assert reached(third, handle, *OVER).state is State.CANCELLED
    unknown = f"{handle.split('/')[0]}/zig-never"
    assert third.conditions([unknown, "nobody/zig-1"]) == {
        unknown: Condition(State.GONE, "the worker on Ray does not know it: it was started anew"),
        "nobody/zig-1": Condition(State.GONE, "Ray knows no actor nobody (any more)"),
    }
    third.close()


def test_nothing_is_left_of_a_run_that_is_over(ray: Any, run: Path, scheduler: RayScheduler) -> None:
    running(scheduler, run, "train-1")
    ended(scheduler, run, "good-2")
    assert len(actors(run)) == 2
    other = start(ray, run.parent / "other")  # keeps this process in the cluster
    other.look_up("nothing")
    scheduler.close()
    until((run / "train-1.stopped").exists)
    until(lambda: not actors(run))
    other.close()


def test_a_worker_without_a_job_ends_itself_in_time(ray: Any, run: Path, toy: None) -> None:
    scheduler = start(ray, run, keep_warm_s=1)
    assert ended(scheduler, run, "good-1").state is State.SUCCEEDED
    assert len(actors(run)) == 1
    until(lambda: not actors(run))
    scheduler.close()


def test_what_cannot_be_is_told_before_anything_runs(
    ray: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(ray, run).check()
    large = Resources(cpus=3)
    with pytest.raises(SpecError, match=r"needs 3 cpus \(the most is 2 cpus\) of the 2 nodes of Ray"):
        start(ray, run, resources=large).check()
    start(ray, run, resources=large, wait_for_nodes=True).check()
    scheduler = start(ray, run, runtime_env={"working_dir": str(run / "nothing")})
    with pytest.raises(ZigguratError, match=r"does not take job zig-good-1: .*nothing"):
        scheduler.submit(ask(run, "good-1"))
    scheduler.close()
    import ray as library

    monkeypatch.setattr(library, "__version__", "1.0.0")
    with pytest.raises(SpecError, match=r"where versions differ: .* use the same Ray and Python"):
        start(ray, run).check()


def test_a_runtime_environment_reaches_the_jobs(ray: Any, run: Path, toy: None) -> None:
    scheduler = start(ray, run, runtime_env={"env_vars": {"COLOUR": "green"}})
    assert ended(scheduler, run, "good-1").state is State.SUCCEEDED
    assert noted(run, "good-1")[2] == "green"
    scheduler.close()


def test_segments_are_trained_warm_and_stopped_with_a_checkpoint(
    ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_models(tmp_path, monkeypatch)
    folder = tmp_path / "run"
    (folder / "trials").mkdir(parents=True)
    text = yaml.safe_dump(plain(space=python_space(mode=["good", "slow", "segv"])))
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    settings = Ray(address=ray.address, custom_resources={"steady": 1}, poll_s=0.05)
    remote = settings.launch(Site(folder, 1, role="test"))

    def done(key: str) -> Progress:
        def over() -> Progress | None:
            remote.wait(0.05)
            progress = remote.poll(key)
            return progress if progress.done else None

        found: Progress = until(over)
        return found

    for number, mode in (("00001", "good"), ("00002", "good")):
        remote.start(train(number, mode))
        found = done(f"{number}-train-0-0")
        assert found.failure is None
        assert found.checkpoint is not None
        assert (folder / found.checkpoint).exists()
    remote.start(train("00003", "segv"))
    failure = done("00003-train-0-0").failure
    assert failure is not None
    assert (failure.kind, "SIGSEGV" in failure.text) == (FailureKind.LOST, True)
    remote.start(train("00004", "slow", epochs=50))
    until(lambda: remote.wait(0.05) or remote.poll("00004-train-0-0").rows)
    remote.cancel("00004-train-0-0", 20.0)
    stopped = done("00004-train-0-0")
    assert stopped.failure is not None
    assert (stopped.failure.kind, stopped.retry) == (FailureKind.PREEMPTED, True)
    assert stopped.checkpoint is not None
    assert (folder / stopped.checkpoint).exists()
    remote.close()
