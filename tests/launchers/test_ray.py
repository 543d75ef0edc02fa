"""The workers of the Ray launcher, without Ray; and, in a network namespace, with it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from tests.real import until
from tests.servers import ray as server
from ziggurat.errors import SpecError
from ziggurat.launchers import ray_cluster
from ziggurat.launchers.ray_launcher import Ray
from ziggurat.launchers.ray_place import Assignment, Place, Told
from ziggurat.launchers.ray_process import Chair
from ziggurat.launchers.scheduler import OVER, Request, Resources, State

HERE = Path(__file__).parent


@pytest.mark.ray
@pytest.mark.server
@pytest.mark.soak
def test_jobs_on_a_real_ray() -> None:
    if reason := server.why_not():
        pytest.skip(reason)
    ended = server.in_namespace(HERE / "ray_inside.py")
    assert ended.returncode == 0, f"inside the namespace:\n{ended.stdout[-6000:]}\n{ended.stderr[-2000:]}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy_once.py").write_text(server.TOY)
    return folder


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.close()


def chair(run: Path, **changes: str) -> Chair:
    variables = {"PYTHONPATH": f"{run}{os.pathsep}{server.ROOT}", **changes}
    return Chair(None, ("toy_once", str(run)), tuple(variables.items()), None)


def work(run: Path, key: str, **changes: Any) -> Assignment:
    plain: dict[str, Any] = {
        "name": f"zig-{key}",
        "chair": chair(run),
        "key": key,
        "command": (),
        "limit_s": 60.0,
        "grace_s": 5.0,
        "start_s": 60.0,
    }
    return Assignment(**{**plain, **changes})


def reached(place: Place, name: str, *states: State) -> Told:
    def told() -> Told | None:
        place.tend()
        return place.about(name) if place.about(name).state in states else None

    found: Told = until(told)
    return found


def ended(place: Place, assignment: Assignment) -> Told:
    place.take(assignment)
    return reached(place, assignment.name, *OVER)


def noted(run: Path, key: str) -> list[str]:
    return (run / key).read_text().split()


def test_jobs_of_a_run_share_one_warm_process(run: Path, place: Place) -> None:
    assert ended(place, work(run, "good-1")) == Told(State.SUCCEEDED, words="doing good-1")
    assert ended(place, work(run, "good-2")).state is State.SUCCEEDED
    (first, one, _), (second, two, _) = noted(run, "good-1"), noted(run, "good-2")
    assert first == second
    assert int(two) == int(one) + 1
    assert place.idle


def test_a_job_that_is_given_twice_is_done_once(run: Path, place: Place) -> None:
    ended(place, work(run, "good-3"))
    before = noted(run, "good-3")
    assert place.take(work(run, "good-3")).state is State.SUCCEEDED
    place.tend()
    assert noted(run, "good-3") == before


def test_a_failure_and_an_exception_end_the_job_and_not_the_process(run: Path, place: Place) -> None:
    assert ended(place, work(run, "bad-1")).state is State.FAILED
    odd = ended(place, work(run, "odd-1"))
    assert (odd.state, odd.text) == (State.FAILED, "ValueError: an odd key")
    assert odd.words == "ValueError: an odd key"
    ended(place, work(run, "good-4"))
    assert noted(run, "bad-1")[0] == noted(run, "good-4")[0]


def test_a_crash_is_told_with_its_signal_and_last_words_and_the_next_job_gets_a_new_process(
    run: Path, place: Place
) -> None:
    crash = ended(place, work(run, "crash-1"))
    assert (crash.state, crash.text) == (State.FAILED, "its process ended with signal SIGSEGV")
    assert crash.words == "the last thing it said"
    ended(place, work(run, "good-5"))
    assert noted(run, "crash-1")[0] != noted(run, "good-5")[0]


def test_a_flood_of_output_ends_and_the_last_line_is_kept(
    run: Path, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    flood = ended(place, work(run, "flood-1"))
    assert (flood.state, flood.words) == (State.SUCCEEDED, "after the flood")
    assert len(capsys.readouterr().out) < 2_500_000


def test_a_stop_reaches_a_training_job_with_reason_and_grace(run: Path, place: Place) -> None:
    place.take(work(run, "train-1"))
    reached(place, "zig-train-1", State.RUNNING)
    until((run / "train-1").exists)
    place.stop("zig-train-1", "because")
    assert reached(place, "zig-train-1", *OVER) == Told(State.CANCELLED, "because", "doing train-1")
    assert (run / "train-1.stopped").read_text() == "because; 5.0"
    ended(place, work(run, "good-6"))
    assert noted(run, "train-1")[0] == noted(run, "good-6")[0], "the process stays warm"


def test_a_job_that_does_not_stop_is_ended_with_its_children_after_its_grace(run: Path, place: Place) -> None:
    place.take(work(run, "deaf-1", grace_s=0.2))
    until(lambda: place.tend() or ((run / "child").exists() and noted(run, "child")))
    child = psutil.Process(int(noted(run, "child")[0]))
    place.stop("zig-deaf-1", "because")
    told = reached(place, "zig-deaf-1", *OVER)
    assert (told.state, told.text) == (State.CANCELLED, "because; ended by force")
    _, alive = psutil.wait_procs([child], timeout=20)
    assert not alive


def test_a_job_beyond_its_limit_is_asked_to_stop_first(run: Path, place: Place) -> None:
    told = ended(place, work(run, "train-2", limit_s=0.1))
    assert (told.state, told.text) == (State.TIMEOUT, "longer than its limit of 0.1 s")
    assert (run / "train-2.stopped").exists()


def test_waiting_jobs_begin_in_order_and_can_be_cancelled_before(run: Path, place: Place) -> None:
    place.take(work(run, "train-3"))
    place.take(work(run, "good-7"))
    place.take(work(run, "good-8"))
    reached(place, "zig-train-3", State.RUNNING)
    assert place.about("zig-good-7").state is State.PENDING
    place.stop("zig-good-7", "not wanted")
    assert place.about("zig-good-7") == Told(State.CANCELLED, "not wanted")
    place.stop("zig-train-3", "over")
    assert reached(place, "zig-good-8", *OVER).state is State.SUCCEEDED
    assert not (run / "good-7").exists()


def test_a_stop_that_overtakes_its_job_is_not_forgotten(run: Path, place: Place) -> None:
    place.stop("zig-good-9", "not wanted")
    assert place.take(work(run, "good-9")) == Told(State.CANCELLED, "not wanted")
    assert not (run / "good-9").exists()


def test_other_variables_need_another_process(run: Path, place: Place) -> None:
    ended(place, work(run, "good-10"))
    ended(place, work(run, "good-11", chair=chair(run, COLOUR="red")))
    (one, _, without), (two, _, colour) = noted(run, "good-10"), noted(run, "good-11")
    assert (without, colour) == ("None", "red")
    assert one != two


def test_a_process_that_cannot_begin_is_told_with_its_last_words(run: Path, place: Place) -> None:
    lost = Chair(None, ("toy_once", str(run / "nothing")), chair(run).environment, None)
    told = ended(place, work(run, "good-12", chair=lost))
    assert told.state is State.FAILED
    assert told.text == "the process for it, before it was ready ended with exit code 1"
    assert told.words == f"FileNotFoundError: {run / 'nothing'} holds no run"
    missing = Chair("/nowhere/python", (), (), None)
    told = ended(place, work(run, "x", chair=missing, command=("true",)))
    assert (told.state, "No such file" in told.text) == (State.FAILED, True)


def test_a_process_that_does_not_become_ready_is_given_up(run: Path, place: Place) -> None:
    told = ended(place, work(run, "good-13", chair=chair(run, COLOUR="slow"), start_s=0.0))
    assert told == Told(State.FAILED, "the process for it was not ready within 0 s")


def test_commands_are_run_as_they_are_and_stop_at_sigterm(tmp_path: Path, run: Path, place: Place) -> None:
    plain = Chair(None, (), (("PYTHONPATH", str(server.ROOT)), ("COLOUR", "blue")), str(tmp_path))
    echo = ("sh", "-c", 'echo "$COLOUR $1" > out.txt', "sh", "a b; c")
    assert ended(place, work(run, "c1", chair=plain, command=echo)).state is State.SUCCEEDED
    assert (tmp_path / "out.txt").read_text() == "blue a b; c\n"
    failed = ended(place, work(run, "c2", chair=plain, command=("sh", "-c", "echo no; exit 7")))
    assert (failed.state, failed.text, failed.words) == (State.FAILED, "exit code 7", "no")
    trap = ("sh", "-c", 'trap "echo saved > saved; exit 1" TERM; touch on; while :; do sleep 0.02; done')
    place.take(work(run, "c3", chair=plain, command=trap))
    until(lambda: place.tend() or (tmp_path / "on").exists())
    place.stop("zig-c3", "because")
    assert reached(place, "zig-c3", *OVER).state is State.CANCELLED
    assert (tmp_path / "saved").exists()
    nothing = ended(place, work(run, "c4", chair=plain, command=("no-such-program",)))
    assert (nothing.state, "No such file" in nothing.text) == (State.FAILED, True)


def test_a_worker_that_leaves_has_its_jobs_stop_in_the_time_that_is_left(run: Path) -> None:
    place = Place()
    place.take(work(run, "train-4"))
    place.take(work(run, "good-14"))
    reached(place, "zig-train-4", State.RUNNING)
    until((run / "train-4").exists)
    place.leave("its node goes", within_s=2.0)
    assert reached(place, "zig-train-4", *OVER) == Told(
        State.PREEMPTED, "its node goes", "doing train-4", True
    )
    assert (run / "train-4.stopped").read_text() == "its node goes; 2.0"
    assert place.about("zig-good-14").state is State.PREEMPTED
    assert place.take(work(run, "good-15")) == Told(State.PREEMPTED, "its node goes", leaving=True)
    place.close()


def test_a_notice_of_the_cloud_makes_the_worker_leave(run: Path) -> None:
    place = Place()
    told = ended(place, work(run, "notified-1"))
    assert told == Told(State.PREEMPTED, "the cloud takes the machine", "doing notified-1", leaving=True)
    assert place.take(work(run, "good-16")).state is State.PREEMPTED
    place.close()


def test_a_signal_to_the_process_reaches_its_job(run: Path, place: Place) -> None:
    place.take(work(run, "train-5"))
    until(lambda: place.tend() or ((run / "train-5").exists() and noted(run, "train-5")))
    os.kill(int(noted(run, "train-5")[0]), signal.SIGTERM)
    assert reached(place, "zig-train-5", *OVER).state is State.FAILED
    assert (run / "train-5.stopped").read_text() == "the machine asked for an end (SIGTERM); None"


def test_a_worker_started_anew_does_not_know_earlier_jobs() -> None:
    assert Place().about("zig-1").state is State.GONE


# -- settings and what can be said without a cluster


@pytest.mark.parametrize(
    "address", ["auto", "10.0.0.1:6379", "head.local:6379", "ray://head:10001", "[::1]:6379"]
)
def test_addresses_that_ray_has(address: str) -> None:
    assert Ray(address=address).address == address


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"address": "head"}, "'head' is none of auto, HOST:PORT, ray://HOST:PORT"),
        ({"address": "http://head:8265"}, "none of auto"),
        ({"custom_resources": {"GPU": 1}}, "'GPU' is set by resources"),
        ({"custom_resources": {"spot": 0}}, "'spot' is 0"),
        ({"namespace": "a b"}, "pattern"),
        ({"wait": True}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused_with_their_cure(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Ray(**settings)


def test_a_closed_port_is_told_at_once(free_port: int) -> None:
    pytest.importorskip("ray")
    with pytest.raises(SpecError, match=rf"launcher.address is 127.0.0.1:{free_port}, but nothing answers"):
        Ray(address=f"127.0.0.1:{free_port}").check()


def test_a_missing_ray_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"needs Ray, not installed here; .*\[ray\]"):
        Ray().check()


NODES = [{"CPU": 4.0, "memory": 8e9}, {"CPU": 1.0, "GPU": 2.0, "spot": 1.0, "memory": 2e9}]


@pytest.mark.parametrize(
    ("resources", "custom", "told"),
    [
        (Resources(cpus=4), {}, None),
        (Resources(cpus=1, gpus=2), {"spot": 1.0}, None),
        (Resources(cpus=5), {}, r"needs 5 cpus \(the most is 4 cpus\) of the 2 nodes of Ray; lower"),
        (Resources(cpus=2, gpus=1), {}, "needs 2 cpus, 1 gpus, but none of the 2 nodes of Ray has all of it"),
        (Resources(), {"tpu": 1.0}, r"needs 1 tpu \(the most is 0 tpu\)"),
        (Resources(memory_mb=9000), {}, r"needs 9000 MB of memory \(the most is 7629"),
    ],
)
def test_a_worker_must_fit_on_a_node(
    resources: Resources, custom: dict[str, float], told: str | None
) -> None:
    setting = Ray(resources=resources, custom_resources=custom)
    if told is None:
        ray_cluster.fits(setting, NODES)
    else:
        with pytest.raises(SpecError, match=told):
            ray_cluster.fits(setting, NODES)


def test_a_ray_of_this_machine_has_no_gpus_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(ray_cluster, "OTHER_GPUS", ())
    Ray(resources=Resources(gpus=1)).check()
    with pytest.raises(SpecError, match=r"needs 2 gpus \(the most is 1 gpus\)"):
        Ray(resources=Resources(gpus=2)).check()
    monkeypatch.setattr(ray_cluster, "OTHER_GPUS", ("/",))
    Ray(resources=Resources(gpus=2)).check()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9\n"),
            "the same Ray and Python",
        ),
        (RuntimeError("Unauthenticated: bad token"), "wants a token: Unauthenticated: bad token"),
        (ConnectionError("Could not find any running Ray instance."), "belongs to no Ray cluster"),
    ],
)
def test_what_ray_says_becomes_one_line_with_a_cure(error: Exception, told: str) -> None:
    text = ray_cluster.explain("auto", error)
    assert told in text
    assert "\n" not in text


def test_the_plan_shows_actor_and_job_and_no_values_of_variables(tmp_path: Path) -> None:
    setting = Ray(address="auto", resources=Resources(cpus=2, memory_mb=512), custom_resources={"spot": 1})
    command = (sys.executable, "-m", "ziggurat.once", str(tmp_path), "00001-train-0")
    request = Request("zig-1", command, setting.resources, 60, 5, {"TOKEN": "hush"})
    lines = dict(line.split(": ", 1) for line in setting.scheduler(tmp_path).plan(request).splitlines())
    assert json.loads(lines["ray.init"]) == {"address": "auto", "namespace": "ziggurat"}
    options = json.loads(lines["Worker.options"])
    assert options["num_cpus"] == 2
    assert options["memory"] == 512 * 2**20
    assert options["resources"] == {"spot": 1}
    assert (options["max_restarts"], options["max_task_retries"]) == (0, 0)
    assert options["name"].startswith(f"{tmp_path.name}--")
    job = json.loads(lines["Worker.do"])
    assert job["done_by"] == "ziggurat.once, in a warm process"
    assert job["environment"] == ["TOKEN"]
    assert "hush" not in str(lines)
    other = Request("zig-2", ("true",), setting.resources, 60, 5)
    assert "a process of its own" in setting.scheduler(tmp_path).plan(other)
