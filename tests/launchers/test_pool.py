"""The pool of real workers: what they do, how they die, and what the pool makes of it."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.real import begun, done, ended, pool_in, train, until, use_models
from ziggurat.domain import FailureKind, JobKind
from ziggurat.errors import ZigguratError
from ziggurat.launchers.pool import Pool
from ziggurat.launchers.results import result_path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Two workers that look for modules in their own directory."""
    home = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patch:
        use_models(home, patch)
        made = pool_in(home / "run", 2, memory_limit_mb=1000)
        yield made
        made.close()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_job_reports_while_it_runs_and_leaves_result_and_checkpoint(pool):
    begun(pool, train("00000", "slow", epochs=3))
    steps: list[int] = []
    until(
        lambda: steps.extend(s for s, _ in pool.poll("00000-train-0-0").rows) or steps, lambda: pool.wait(0.1)
    )
    assert steps[0] == 1
    progress, rows = ended(pool, "00000-train-0-0")
    assert steps + [step for step, _ in rows] == [1, 2, 3]
    assert progress.failure is None
    assert progress.seconds > 0
    names = {m.metric for m in progress.measurements}
    assert {"val_accuracy", "val_loss", "train_loss", "parameters", "flops"} <= names
    assert (pool.folder / progress.checkpoint).is_file()


def test_a_worker_stays_for_the_next_job(pool):
    until(lambda: pool.free(JobKind.TRAIN) == 2, lambda: pool.wait(0.1))
    first = {begun(pool, train(f"0001{i}")) for i in range(2)}
    for i in range(2):
        assert ended(pool, f"0001{i}-train-0-0")[0].failure is None
    assert {begun(pool, train(f"0002{i}")) for i in range(2)} == first
    for i in range(2):
        assert ended(pool, f"0002{i}-train-0-0")[0].failure is None


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("raise", FailureKind.USER_ERROR, "the user's own words"),
        ("unbuildable", FailureKind.USER_ERROR, "13 units bring bad luck"),
        ("sysexit", FailureKind.USER_ERROR, "SystemExit: 3"),
        ("memory", FailureKind.OUT_OF_MEMORY, "no room for a tensor"),
    ],
)
def test_what_user_code_raises_is_kept_and_the_worker_lives(pool, mode, kind, words):
    job = train("00030", mode, key=f"00030-train-{mode}-0")
    pid = begun(pool, job)
    progress, _ = ended(pool, job.key)
    assert progress.failure.kind is kind
    assert words in progress.failure.text
    assert "\n" not in progress.failure.text
    assert not progress.retry
    assert alive(pid)


def test_a_worker_that_dies_is_lost_and_replaced(pool):
    for mode, words in [("exit", "exit code 7"), ("segv", "SIGSEGV")]:
        job = train("00040", mode, key=f"00040-train-{mode}-0")
        pid = begun(pool, job)
        progress, _ = ended(pool, job.key)
        assert (progress.failure.kind, progress.retry) == (FailureKind.LOST, False)
        assert words in progress.failure.text
        assert not alive(pid)
    until(lambda: pool.free(JobKind.TRAIN) == 2, lambda: pool.wait(0.1))
    assert done(pool, train("00041")).failure is None


def test_a_worker_beyond_its_memory_is_ended(pool):
    progress = done(pool, train("00050", "grow"))
    assert progress.failure.kind is FailureKind.OUT_OF_MEMORY
    assert "the limit is 1000 MB" in progress.failure.text


def test_a_job_beyond_its_time_is_ended_and_its_worker_replaced(pool):
    pid = begun(pool, train("00060", "endless", time_limit_s=0.5))
    progress, _ = ended(pool, "00060-train-0-0")
    assert progress.failure.kind is FailureKind.TIMEOUT
    assert 0.5 <= progress.seconds < 3
    assert not alive(pid)


def test_a_worker_without_a_sign_of_life_is_lost(pool, monkeypatch):
    monkeypatch.setattr(pool, "settings", pool.settings.model_copy(update={"lease_s": 2.0}))
    pid = begun(pool, train("00070", "endless"))
    os.kill(pid, signal.SIGSTOP)
    progress, _ = ended(pool, "00070-train-0-0")
    assert progress.failure.kind is FailureKind.LOST
    assert "no sign of life for 2 s" in progress.failure.text
    assert not alive(pid)


def test_a_cancelled_job_keeps_the_last_epoch_and_is_continued_from_it(pool):
    begun(pool, train("00080", "slow", epochs=4))
    rows: list[int] = []
    until(
        lambda: rows.extend(s for s, _ in pool.poll("00080-train-0-0").rows) or rows, lambda: pool.wait(0.1)
    )
    pool.cancel("00080-train-0-0", 20.0)
    pool.cancel("00080-train-0-0", 0.0)  # a second request changes nothing
    progress, more = ended(pool, "00080-train-0-0")
    assert (progress.failure.kind, progress.retry) == (FailureKind.PREEMPTED, True)
    assert progress.checkpoint is not None
    last = [*rows, *(s for s, _ in more)][-1]
    assert last < 4
    again = train("00080", "good", epochs=4, key="00080-train-0-1", attempt=1, checkpoint=progress.checkpoint)
    begun(pool, again)
    progress, rest = ended(pool, again.key)
    assert progress.failure is None
    assert [step for step, _ in rest] == list(range(last + 1, 5))


def test_a_worker_is_not_ended_for_a_request_that_it_has_met(pool):
    until(lambda: pool.free(JobKind.TRAIN) == 2, lambda: pool.wait(0.1))
    pid = begun(pool, train("00081", "slow", epochs=30))
    pool.cancel("00081-train-0-0", 2.0)
    ended(pool, "00081-train-0-0")
    worker = next(w for w in pool.workers if w.pid == pid)
    assert worker.stop_by is None


def test_a_cancelled_job_that_reaches_no_epoch_is_ended_after_its_grace(pool):
    begun(pool, train("00090", "endless"))
    pool.cancel("00090-train-0-0", 0.3)
    progress, _ = ended(pool, "00090-train-0-0")
    assert (progress.failure.kind, progress.retry) == (FailureKind.PREEMPTED, True)
    assert progress.checkpoint is None
    assert progress.seconds < 3


def test_an_exclusive_job_stops_all_others_and_their_time(pool):
    until(lambda: pool.free(JobKind.TRAIN) == 2 and pool.free(JobKind.PROFILE), lambda: pool.wait(0.1))
    pids = [begun(pool, train(f"0010{i}", "slow", epochs=4)) for i in range(2)]
    begun(
        pool,
        train("00102", kind=JobKind.PROFILE, device="local", exclusive=True, key="00102-profile-local-0"),
    )
    assert until(lambda: {psutil.Process(p).status() for p in pids} == {psutil.STATUS_STOPPED})
    assert (pool.free(JobKind.TRAIN), pool.free(JobKind.PROFILE)) == (0, 0)
    before = [pool.elapsed(f"0010{i}-train-0-0") for i in range(2)]
    progress, _ = ended(pool, "00102-profile-local-0")
    assert "latency_p50_ms" in {m.metric for m in progress.measurements}
    assert not any(w.paused for w in pool.workers)
    assert [pool.elapsed(f"0010{i}-train-0-0") for i in range(2)] == pytest.approx(before, abs=0.2)
    for i in range(2):
        assert ended(pool, f"0010{i}-train-0-0")[0].failure is None


def test_ten_megabytes_of_prints_disturb_nobody(pool):
    progress = done(pool, train("00110", "chatter"))
    assert progress.failure is None
    assert sum(p.stat().st_size for p in (pool.folder / "logs").iterdir()) > 10_000_000


def test_children_of_user_code_die_with_their_worker(pool):
    Path("child.pid").unlink(missing_ok=True)
    pid = begun(pool, train("00120", "brood", epochs=1000))
    child = int(until(lambda: Path("child.pid").exists() and Path("child.pid").read_text()).split()[1])
    assert alive(child)
    os.kill(pid, signal.SIGKILL)
    failure = ended(pool, "00120-train-0-0")[0].failure
    assert (failure.kind, "SIGKILL" in failure.text) == (FailureKind.LOST, True)
    until(lambda: not alive(child))


def test_children_that_are_stopped_die_with_their_worker(pool):
    Path("child.pid").unlink(missing_ok=True)
    pid = begun(pool, train("00122", "brood", epochs=1000))
    child = int(until(lambda: Path("child.pid").exists() and Path("child.pid").read_text()).split()[1])
    next(w for w in pool.workers if w.pid == pid).pause()
    assert psutil.Process(child).status() == psutil.STATUS_STOPPED
    os.kill(pid, signal.SIGKILL)
    assert ended(pool, "00122-train-0-0")[0].failure.kind is FailureKind.LOST
    until(lambda: not alive(child))


def test_children_of_user_code_stop_and_go_on_with_their_worker(pool):
    Path("child.pid").unlink(missing_ok=True)
    pid = begun(pool, train("00121", "brood", epochs=1000))
    child = int(until(lambda: Path("child.pid").exists() and Path("child.pid").read_text()).split()[1])
    worker = next(w for w in pool.workers if w.pid == pid)
    worker.pause()
    until(lambda: {psutil.Process(p).status() for p in (pid, child)} == {psutil.STATUS_STOPPED})
    worker.proceed()
    until(lambda: psutil.STATUS_STOPPED not in {psutil.Process(p).status() for p in (pid, child)})
    pool.cancel("00121-train-0-0", 5.0)
    ended(pool, "00121-train-0-0")


def test_a_worker_that_closes_its_line_is_lost(pool):
    assert done(pool, train("00130", "deaf")).failure.kind is FailureKind.LOST


def test_a_trial_directory_that_vanishes_costs_no_worker(pool):
    pid = begun(pool, train("00140", "slow", epochs=2))
    until(lambda: pool.poll("00140-train-0-0").rows, lambda: pool.wait(0.1))
    for path in (pool.folder / "trials" / "00140").iterdir():
        path.unlink()
    (pool.folder / "trials" / "00140").rmdir()
    progress, _ = ended(pool, "00140-train-0-0")
    assert progress.failure is None
    assert (pool.folder / progress.checkpoint).is_file()
    assert alive(pid)


def test_a_result_of_an_earlier_controller_is_found_for_its_own_job_only(pool):
    job = train("00150")
    assert pool.find(job) is None
    progress = done(pool, job)
    found = pool.find(job)
    assert (found.done, found.measurements, found.checkpoint) == (
        True,
        progress.measurements,
        progress.checkpoint,
    )
    assert pool.find(train("00150", seed=1)) is None
    begun(pool, train("00150", "exit"))  # the same key for another job: the old result is not its own
    assert ended(pool, job.key)[0].failure.kind is FailureKind.LOST
    assert not result_path(pool.folder, job.key).exists()


def test_the_plan_of_a_job_is_its_request_as_text(pool):
    text = pool.plan(train("00160"))
    assert "-m ziggurat.worker" in text
    assert json.loads(text.partition(" < ")[2])["key"] == "00160-train-0-0"


def test_nothing_is_left_after_closing(tmp_path):
    pool = pool_in(tmp_path / "run", 1)
    pids = [w.pid for w in (pool.service, *pool.workers)]
    pool.close()
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_that_cannot_start_end_in_one_clear_line(tmp_path, monkeypatch, start):
    broken = tmp_path / "broken" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('this torch is broken')")
    monkeypatch.setenv("PYTHONPATH", f"{broken.parent}{os.pathsep}{Path(__file__).parents[2]}")
    pool = pool_in(tmp_path / "run", 1, start=start)
    try:
        with pytest.raises(
            ZigguratError, match=r"workers do not start \(3 tries in a row\).*this torch is broken"
        ):
            until(lambda: False, lambda: pool.wait(0.1))
    finally:
        pool.close()


def test_a_memory_limit_that_no_worker_can_keep_is_named(tmp_path, monkeypatch):
    large = tmp_path / "large" / "torch"
    large.mkdir(parents=True)
    (large / "__init__.py").write_text("import time; held = b'x' * 400_000_000; time.sleep(30)")
    monkeypatch.setenv("PYTHONPATH", f"{large.parent}{os.pathsep}{Path(__file__).parents[2]}")
    pool = pool_in(tmp_path / "run", 1, memory_limit_mb=256, start="spawn")
    try:
        with pytest.raises(ZigguratError, match=r"do not start.*MB of memory, the limit is 256 MB"):
            until(lambda: False, lambda: pool.wait(0.1))
    finally:
        pool.close()
