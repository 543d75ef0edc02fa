"""Jobs as processes of their own: what comes back, who finds them again, and what the end of each means."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import real
from tests.launchers import byhand
from tests.servers.plain import Plain, PlainSetting
from ziggurat.domain import FailureKind, Job, JobKind
from ziggurat.launchers import dispatcher
from ziggurat.launchers.dispatcher import Dispatcher
from ziggurat.launchers.remote import job_name
from ziggurat.launchers.results import beat_key, result_path
from ziggurat.launchers.scheduler import State
from ziggurat.protocols import Progress, Site


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run directory whose trainings are a script that needs no torch."""
    return byhand.run_folder(tmp_path)


class Desk:
    """A launcher of one role that only trains, on the scheduler of processes."""

    def __init__(self, folder: Path, **settings) -> None:
        self.folder = folder
        self.settings = PlainSetting(**{"poll_s": 0.1, "grace_s": 10, **settings})
        self.opened: list[Dispatcher] = []

    def open(self) -> tuple[Dispatcher, Plain]:
        """A launcher as a new controller starts it."""
        launcher = self.settings.launch(Site(self.folder, 2, "retrain"))
        self.opened.append(launcher)
        scheduler = launcher.scheduler
        assert isinstance(scheduler, Plain)
        return launcher, scheduler


@pytest.fixture
def desk(folder, monkeypatch) -> Iterator[Desk]:
    monkeypatch.setattr(dispatcher, "AFTERMATH_S", 0.2)
    made = Desk(folder)
    yield made
    for launcher in made.opened:
        launcher.scheduler.sweep()


def ended(launcher: Dispatcher, key: str) -> tuple[Progress, list]:
    return real.ended(launcher, key)


def training(launcher: Dispatcher, job: Job) -> None:
    """Wait until some epoch of a job is over."""
    real.until(lambda: launcher._errands[job.key].beat.get("rows"), lambda: launcher.wait(0.05))


def test_a_job_gives_numbers_a_result_and_a_checkpoint(desk):
    launcher, _ = desk.open()
    job = byhand.train(1, epochs=2)
    assert launcher.free(JobKind.TRAIN) == 2
    handle = launcher.start(job)
    assert handle == job_name("run-1", job.key)
    assert launcher.free(JobKind.TRAIN) == 1
    progress, rows = ended(launcher, job.key)
    assert progress.failure is None
    assert [step for step, _ in rows] == [1, 2]
    assert {m.metric for m in progress.measurements} == {"val_accuracy"}
    assert (desk.folder / progress.checkpoint).is_file()
    assert progress.seconds > 0
    assert launcher.free(JobKind.TRAIN) == 2


def test_another_controller_goes_on_with_a_running_job_and_gets_what_the_first_would_have_got(desk):
    first, plain = desk.open()
    job = byhand.train(1, epochs=300)
    handle = first.start(job)
    training(first, job)
    second, _ = desk.open()
    found = second.find(job, handle)
    assert found is not None
    assert not found.done
    assert second.free(JobKind.TRAIN) == 1
    progress, rows = ended(second, job.key)
    assert progress.failure is None
    assert [step for step, _ in rows] == list(range(1, 301))
    assert len(plain.children) == 1


def test_a_job_whose_handle_was_lost_is_found_by_its_name(desk):
    first, _ = desk.open()
    job = byhand.train(1, epochs=1)
    first.start(job)
    second, _ = desk.open()
    found = second.find(job)
    assert found is not None
    progress = found if found.done else ended(second, job.key)[0]
    assert progress.failure is None


def test_what_was_never_ordered_is_not_looked_for(desk):
    launcher, plain = desk.open()
    assert launcher.find(byhand.train(1)) is None
    job = byhand.train(1)
    launcher.start(job)
    ended(launcher, job.key)
    assert launcher.find(replace(job, seed=5)) is None
    assert plain.asked > 0


def test_a_cancelled_job_writes_its_checkpoint_and_can_go_on_from_there(desk):
    launcher, _ = desk.open()
    job = byhand.train(1, epochs=5000)
    launcher.start(job)
    training(launcher, job)
    launcher.cancel(job.key, 10)
    progress, rows = ended(launcher, job.key)
    assert progress.failure.kind is FailureKind.PREEMPTED
    assert progress.retry
    assert (desk.folder / progress.checkpoint).is_file()
    last = max(step for step, _ in rows)
    again = byhand.train(1, key="00001-train-0-1", attempt=1, epochs=last + 2, checkpoint=progress.checkpoint)
    launcher.start(again)
    progress, rows = ended(launcher, again.key)
    assert progress.failure is None
    assert min(step for step, _ in rows) > 1
    assert max(step for step, _ in rows) == last + 2


def test_a_job_that_its_scheduler_starts_again_charges_both_starts(desk):
    launcher, plain = desk.open()
    job = byhand.train(1, epochs=100)
    handle = launcher.start(job)
    training(launcher, job)
    before = json.loads((desk.folder / beat_key(job.key)).read_text())["seconds"]
    plain.kill(handle, State.PENDING)
    launcher.wait(0.3)
    plain.requeue(handle)
    progress, _ = ended(launcher, job.key)
    assert progress.failure is None
    result = json.loads(result_path(desk.folder, job.key).read_text())
    assert result["starts"] == 2
    assert progress.seconds == result["seconds"] > before


def test_a_start_after_the_result_does_nothing(desk):
    launcher, plain = desk.open()
    job = byhand.train(1)
    handle = launcher.start(job)
    ended(launcher, job.key)
    written = result_path(desk.folder, job.key).stat().st_mtime_ns
    plain.requeue(handle)
    plain.children[handle].wait(60)
    assert result_path(desk.folder, job.key).stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("state", "kind", "retry"),
    [
        (State.PREEMPTED, FailureKind.PREEMPTED, True),
        (State.NODE_LOST, FailureKind.PREEMPTED, True),
        (State.TIMEOUT, FailureKind.TIMEOUT, False),
        (State.OUT_OF_MEMORY, FailureKind.OUT_OF_MEMORY, False),
        (State.FAILED, FailureKind.LOST, False),
        (State.GONE, FailureKind.LOST, False),
    ],
)
def test_the_scheduler_says_why_there_is_no_result(desk, state, kind, retry):
    launcher, plain = desk.open()
    job = byhand.train(1, epochs=5000)
    handle = launcher.start(job)
    plain.kill(handle, state)
    progress, _ = ended(launcher, job.key)
    assert (progress.failure.kind, progress.retry) == (kind, retry)
    assert state.value in progress.failure.text


def test_a_job_that_cannot_even_begin_says_why_in_its_last_words(desk):
    desk.settings = PlainSetting(poll_s=0.1, environment={"PYTHONPATH": "/nowhere"}, python="/bin/false")
    launcher, plain = desk.open()
    job = byhand.train(1)
    plain.last_words = lambda _: "no such interpreter"
    launcher.start(job)
    progress, _ = ended(launcher, job.key)
    assert progress.failure.kind is FailureKind.LOST
    assert "exit code 1; no such interpreter" in progress.failure.text


def test_a_refused_job_fails_its_trial_only(desk):
    launcher, plain = desk.open()
    plain.refuses = "queue 'gold' does not exist; name one of silver, bronze"
    job = byhand.train(1)
    assert launcher.start(job) == "refused"
    progress, _ = ended(launcher, job.key)
    assert progress.failure.kind is FailureKind.LOST
    assert "queue 'gold' does not exist" in progress.failure.text
    plain.refuses = ""
    other = byhand.train(2)
    launcher.start(other)
    assert ended(launcher, other.key)[0].failure is None


def test_jobs_go_on_while_their_scheduler_is_out_of_reach(desk):
    launcher, plain = desk.open()
    job = byhand.train(1)
    launcher.start(job)
    plain.away = True
    progress, _ = ended(launcher, job.key)
    assert progress.failure is None


def test_a_silent_job_is_lost_when_its_lease_is_over(desk):
    desk.settings = PlainSetting(poll_s=0.1, lease_s=5, grace_s=0)
    launcher, plain = desk.open()
    job = byhand.train(1, epochs=5000)
    handle = launcher.start(job)
    training(launcher, job)
    os.kill(plain.pid(handle), signal.SIGSTOP)
    progress, _ = ended(launcher, job.key)
    assert progress.failure.kind is FailureKind.LOST
    assert "no sign of life for 5 s" in progress.failure.text


def test_a_job_beyond_its_limit_times_out_and_keeps_its_checkpoint(desk):
    desk.settings = PlainSetting(poll_s=0.1, time_limit_s=6)
    launcher, _ = desk.open()
    job = byhand.train(1, epochs=100_000)
    launcher.start(job)
    progress, rows = ended(launcher, job.key)
    assert progress.failure.kind is FailureKind.TIMEOUT
    assert not rows or progress.checkpoint


def test_closing_ends_jobs_unless_they_are_left_to_another(desk):
    launcher, plain = desk.open()
    job = byhand.train(1, epochs=5000)
    handle = launcher.start(job)
    training(launcher, job)
    launcher.close(leave=True)
    assert plain.children[handle].poll() is None
    second, _ = desk.open()
    assert second.find(job, handle) is not None
    second.close()
    assert plain.children[handle].wait(60) == 1


def test_names_of_jobs_are_short_plain_and_different():
    names = {
        job_name(run, key)
        for run in ("Run_A.1", "run-a-1", "x" * 200)
        for key in ("00001-train-0-0", "00001-profile-My Device-0", "k" * 150)
    }
    assert len(names) == 9
    for name in names:
        assert len(name) <= 63
        assert name.startswith("zig-")
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
