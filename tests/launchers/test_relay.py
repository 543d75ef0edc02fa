"""A machine that has done a segment is kept for the next of its trial; no job is lost or done twice."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests import real
from tests.launchers import byhand
from tests.memory_store import MemoryStore, outage
from tests.servers.plain import Plain, PlainSetting
from ziggurat import once
from ziggurat.domain import Failure, FailureKind, Fidelity, Job, JobKind
from ziggurat.launchers import Ray, TorchX, dispatcher, relay
from ziggurat.launchers.dispatcher import Dispatcher
from ziggurat.launchers.errand import Errand
from ziggurat.launchers.relay import awaited, close, pass_on, passed, withdraw
from ziggurat.launchers.results import Shelf, beat_key, next_key, result_key
from ziggurat.launchers.scheduler import Condition, State
from ziggurat.protocols import Progress, Site
from ziggurat.stores import StoreError

LONG_S = 60.0
"""A machine that waits so long is kept as long as a test takes."""


def rungs(number: int, first: int = 2, second: int = 4, **changes: Any) -> tuple[Job, Job]:
    """Two segments of a trial; the second goes on from the checkpoint of the first."""
    ladder = (Fidelity(first), Fidelity(second))
    one = byhand.train(number, ladder=ladder, **changes)
    key = f"{number:05d}-train-1-0"
    return one, replace(one, key=key, from_rung=0, to_rung=1)


class Cluster:
    """Controllers of one run, and the processes that their jobs are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plain: list[Plain] = []

    def controller(self, **settings: Any) -> tuple[Dispatcher, Plain]:
        """A launcher as a new controller starts it."""
        setting = PlainSetting(**{"poll_s": 0.1, "grace_s": 10, "linger_s": LONG_S, **settings})
        launcher = setting.launch(Site(self.folder, 2, "retrain"))
        assert isinstance(launcher.scheduler, Plain)
        self.plain.append(launcher.scheduler)
        return launcher, launcher.scheduler

    def told(self, key: str) -> dict[str, Any]:
        """What a file of the run says."""
        return dict(json.loads((self.folder / key).read_text()))

    def pid(self, job: Job) -> int:
        """Who worked on a job last."""
        return int(self.told(beat_key(job.key))["pid"])

    def submitted(self) -> int:
        """How many jobs the scheduler was given, by whomever."""
        return len(list(self.plain[0].folder.glob("*.pid")))


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Iterator[Cluster]:
    monkeypatch.setattr(dispatcher, "AFTERMATH_S", 0.2)
    made = Cluster(byhand.run_folder(tmp_path))
    yield made
    for scheduler in made.plain:
        for name in scheduler.children:
            scheduler.kill(name, None)
    for scheduler in made.plain:
        scheduler.sweep()


def done(launcher: Dispatcher, job: Job) -> Progress:
    launcher.start(job)
    return real.ended(launcher, job.key)[0]


def training(launcher: Dispatcher, job: Job) -> None:
    """Wait until some epoch of a job is over."""
    real.until(lambda: launcher._errands[job.key].beat.get("rows"), lambda: launcher.wait(0.05))


def frozen(plain: Plain, handle: str) -> None:
    os.kill(plain.pid(handle), signal.SIGSTOP)


def test_the_next_segment_is_done_by_the_process_that_did_the_last(cluster):
    launcher, plain = cluster.controller()
    one, two = rungs(1)
    first = done(launcher, one)
    two = replace(two, checkpoint=first.checkpoint)
    handle = plain.look_up(launcher.start(two))
    progress, rows = real.ended(launcher, two.key)
    assert progress.failure is None
    assert [step for step, _ in rows] == [3, 4]
    assert cluster.pid(one) == cluster.pid(two) == plain.pid(handle)
    assert cluster.submitted() == 1
    assert launcher.free(JobKind.TRAIN) == 2
    # the top rung is reached, so that nothing can follow
    assert plain.children[handle].wait(real.PATIENCE_S) == 0
    assert not (cluster.folder / next_key(two.key)).exists()


def test_seconds_that_a_machine_waited_are_those_of_the_job_it_waited_for(cluster):
    launcher, _ = cluster.controller()
    one, two = rungs(1)
    done(launcher, one)
    done(launcher, byhand.train(2))  # on the other place, for about a second
    assert done(launcher, two).failure is None
    ends = [cluster.told(beat_key(job.key))["utc"] for job in (one, two)]
    told = cluster.told(result_key(two.key))
    assert told["payload"]["train_s"] < told["seconds"] / 2
    assert told["seconds"] == pytest.approx(ends[1] - ends[0], abs=0.3)


def test_a_machine_that_waited_long_enough_leaves_and_the_next_segment_is_submitted(cluster):
    launcher, plain = cluster.controller(linger_s=0.2)
    one, two = rungs(1)
    handle = launcher.start(one)
    real.ended(launcher, one.key)
    assert plain.children[handle].wait(real.PATIENCE_S) == 0
    # as if it left at the very moment when it was asked to stay
    launcher._relay.kept[1] = replace(launcher._relay.kept[1], until=float("inf"))
    assert launcher.start(two) != handle
    assert real.ended(launcher, two.key)[0].failure is None
    assert cluster.submitted() == 2


@pytest.mark.parametrize("linger_s", [0, LONG_S])
def test_nothing_waits_where_nothing_can_follow(cluster, linger_s):
    launcher, plain = cluster.controller(linger_s=linger_s)
    jobs = rungs(1) if linger_s == 0 else (byhand.train(1), rungs(2, mode="bad")[0])
    for job in jobs:
        handle = launcher.start(job)
        real.ended(launcher, job.key)
        assert plain.children[handle].wait(real.PATIENCE_S) in {0, 1}
    assert cluster.submitted() == 2


def test_only_machines_that_wait_are_remembered(tmp_path):
    found = relay.Relay(PlainSetting(linger_s=LONG_S), Shelf(tmp_path))
    one, two = rungs(1)
    failed = Progress(True, 1.0, failure=Failure(FailureKind.PREEMPTED, "asked to stop"))
    for job, end, state, stop_by in (
        (one, failed, State.RUNNING, None),
        (one, Progress(True, 1.0), State.RUNNING, 5.0),
        (one, Progress(True, 1.0), State.SUCCEEDED, None),
        (two, Progress(True, 1.0), State.RUNNING, None),
    ):
        errand = Errand(job, "handle", 60.0, stop_by=stop_by, end=end)
        errand.stand(Condition(State.RUNNING))
        errand.stand(Condition(state))
        found.keep(errand)
        assert found.kept == {}
    errand = Errand(one, "handle", 60.0, end=Progress(True, 1.0))
    errand.stand(Condition(State.RUNNING))
    found.keep(errand)
    assert found.take(replace(one, kind=JobKind.EVALUATE)) is None
    found.keep(errand)
    assert found.take(replace(two, trial=2)) is None
    kept = found.take(two)
    assert kept is not None
    assert (kept.handle, kept.job) == ("handle", one)
    assert found.take(two) is None


def test_a_machine_that_hangs_before_it_begins_a_job_is_lost(cluster):
    launcher, plain = cluster.controller(grace_s=0)
    one, two = rungs(1)
    handle = launcher.start(one)
    real.ended(launcher, one.key)
    frozen(plain, handle)
    launcher.start(two)
    launcher._errands[two.key].heard -= 10_000
    progress, _ = real.ended(launcher, two.key)
    assert progress.failure.kind is FailureKind.LOST
    assert "no sign of life" in progress.failure.text
    assert cluster.submitted() == 1


def test_a_machine_that_waits_makes_room_for_other_trials(cluster):
    launcher, plain = cluster.controller()
    one, two = rungs(1), rungs(2, 5000, 6000)
    handle = launcher.start(one[0])
    real.ended(launcher, one[0].key)
    launcher.start(two[0])
    assert passed(launcher._shelf, one[0].key) is None
    assert not (cluster.folder / next_key(one[0].key)).exists()  # two places, so one may wait
    launcher.start(rungs(3, 5000, 6000)[0])
    assert plain.children[handle].wait(real.PATIENCE_S) == 0


def test_a_run_that_ends_lets_its_machines_go(cluster):
    launcher, plain = cluster.controller()
    one, _ = rungs(1)
    handle = launcher.start(one)
    real.ended(launcher, one.key)
    launcher.close()
    assert plain.children[handle].wait(real.PATIENCE_S) == 0


def test_a_machine_that_waits_ends_at_once_on_sigterm(cluster):
    launcher, plain = cluster.controller()
    one, two = rungs(1)
    handle = launcher.start(one)
    real.ended(launcher, one.key)
    plain.cancel(handle)
    assert plain.children[handle].wait(20) == 0
    # the controller has not heard of it, so it passes the next segment on, in vain
    assert launcher.start(two) == handle
    assert real.ended(launcher, two.key)[0].failure is None
    assert cluster.submitted() == 2


def test_a_job_whose_machine_died_before_it_began_is_submitted_once(cluster):
    launcher, plain = cluster.controller()
    one, two = rungs(1)
    handle = launcher.start(one)
    real.ended(launcher, one.key)
    frozen(plain, handle)
    assert launcher.start(two) == handle
    launcher.wait(0.2)
    launcher.wait(0.2)
    assert cluster.submitted() == 1  # as long as the scheduler says that it runs
    plain.kill(handle, State.NODE_LOST)
    progress, _ = real.ended(launcher, two.key)
    assert progress.failure is None
    assert cluster.submitted() == 2
    assert cluster.told(result_key(two.key))["starts"] == 1
    # should the machine come back, it finds nothing to do
    written = (cluster.folder / result_key(two.key)).stat().st_mtime_ns
    plain.requeue(handle)
    assert plain.children[handle].wait(real.PATIENCE_S) == 0
    assert (cluster.folder / result_key(two.key)).stat().st_mtime_ns == written
    assert cluster.submitted() == 2


def test_a_machine_that_is_queued_again_goes_on_with_what_was_passed_on(cluster):
    launcher, plain = cluster.controller()
    one, two = rungs(1, 2, 100)
    handle = launcher.start(one)
    first, _ = real.ended(launcher, one.key)
    launcher.start(replace(two, checkpoint=first.checkpoint))
    training(launcher, two)
    written = (cluster.folder / result_key(one.key)).stat().st_mtime_ns
    plain.kill(handle, State.PENDING)
    launcher.wait(0.3)
    plain.requeue(handle)
    progress, _ = real.ended(launcher, two.key)
    assert progress.failure is None
    assert cluster.told(result_key(two.key))["starts"] == 2
    assert (cluster.folder / result_key(one.key)).stat().st_mtime_ns == written
    assert cluster.submitted() == 1


def test_a_job_that_was_passed_on_is_cancelled_with_its_checkpoint(cluster):
    launcher, _ = cluster.controller()
    one, two = rungs(1, 2, 5000)
    first = done(launcher, one)
    launcher.start(replace(two, checkpoint=first.checkpoint))
    training(launcher, two)
    launcher.cancel(two.key, 10)
    progress, rows = real.ended(launcher, two.key)
    assert (progress.failure.kind, progress.retry) == (FailureKind.PREEMPTED, True)
    assert (cluster.folder / progress.checkpoint).is_file()
    assert min(step for step, _ in rows) == 3
    assert launcher._relay.kept == {}


def test_a_job_that_is_cancelled_before_its_machine_begins_it_is_not_submitted(cluster):
    launcher, plain = cluster.controller()
    one, two = rungs(1)
    handle = launcher.start(one)
    real.ended(launcher, one.key)
    frozen(plain, handle)
    launcher.start(two)
    launcher.cancel(two.key, 10)
    plain.kill(handle, None)
    progress, _ = real.ended(launcher, two.key)
    assert (progress.failure.kind, progress.retry) == (FailureKind.PREEMPTED, True)
    assert cluster.submitted() == 1


@pytest.mark.parametrize(
    ("machine", "journaled"), [("goes on", False), ("died", True), ("died and another was found", True)]
)
def test_a_controller_that_comes_after_neither_loses_nor_repeats_a_job(cluster, journaled, machine):
    first, plain = cluster.controller()
    one, two = rungs(1, 2, 40)
    handle = first.start(one)
    checkpoint = real.ended(first, one.key)[0].checkpoint
    two = replace(two, checkpoint=checkpoint)
    if machine != "goes on":
        frozen(plain, handle)
    assert first.start(two) == handle
    if machine != "goes on":
        plain.kill(handle, State.NODE_LOST)
    if machine == "died and another was found":
        real.until(lambda: cluster.submitted() == 2, lambda: first.wait(0.05))
    # here the first controller is killed
    second, _ = cluster.controller()
    found = second.find(two, handle if journaled else "")
    assert found is not None
    progress = found if found.done else real.ended(second, two.key)[0]
    assert progress.failure is None
    assert cluster.told(result_key(two.key))["starts"] == 1
    assert cluster.submitted() == (1 if machine == "goes on" else 2)
    assert (cluster.pid(one) == cluster.pid(two)) == (machine == "goes on")


def test_a_controller_that_is_killed_before_it_passes_a_job_on_has_started_none(cluster, monkeypatch):
    first, _ = cluster.controller(linger_s=3)
    one, two = rungs(1)
    done(first, one)

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dispatcher, "pass_on", killed)
        with pytest.raises(KeyboardInterrupt):
            first.start(two)
    second, _ = cluster.controller()
    assert second.find(two) is None
    again = replace(two, key="00001-train-1-1", attempt=1)
    assert done(second, again).failure is None
    assert not (cluster.folder / result_key(two.key)).exists()
    assert cluster.submitted() == 2


def test_a_machine_with_a_notice_takes_no_further_job(tmp_path, monkeypatch):
    monkeypatch.setattr(once, "sources", list)
    one, two = rungs(1)
    seat = once.Seat(str(tmp_path))
    seat._last = once.Order(one, 5.0, 5.0, LONG_S)
    pass_on(seat.shelf, one, two.key)
    asked = threading.Event()
    assert seat.following(asked) == two.key
    seat.notice = "this machine will be taken"
    assert seat.following(asked) is None
    seat.notice = ""
    asked.set()
    assert seat.following(asked) is None
    seat.close()


def test_a_machine_whose_time_is_half_over_gets_no_further_segment(cluster):
    launcher, plain = cluster.controller(time_limit_s=1000)
    one, two = rungs(1)
    handle = launcher.start(one)
    real.ended(launcher, one.key)
    kept = launcher._relay.kept[1]
    launcher._relay.kept[1] = replace(kept, since=kept.since - 501)
    assert launcher.start(two) != handle
    assert real.ended(launcher, two.key)[0].failure is None
    assert plain.children[handle].wait(real.PATIENCE_S) == 0


def test_a_segment_that_outstays_its_machine_goes_on_in_a_job_of_its_own(cluster):
    launcher, _ = cluster.controller(time_limit_s=1000)
    one, two = rungs(1, 2, 5000)
    first = done(launcher, one)
    launcher.start(replace(two, checkpoint=first.checkpoint))
    training(launcher, two)
    launcher._errands[two.key].since -= 1000
    progress, _ = real.ended(launcher, two.key)
    assert (progress.failure.kind, progress.retry) == (FailureKind.PREEMPTED, True)
    assert (cluster.folder / progress.checkpoint).is_file()


@pytest.fixture(params=["run directory", "store"])
def shelf(request, tmp_path) -> Shelf:
    return Shelf(tmp_path, MemoryStore() if request.param == "store" else None)


def test_a_job_is_passed_on_or_its_machine_has_left_and_never_both(shelf):
    for number in range(40):
        job = byhand.train(number)
        start, ends = threading.Barrier(3), []

        def at_once(deed, start=start, ends=ends):
            start.wait()
            ends.append(deed())

        deeds = [
            lambda job=job: ("passed", pass_on(shelf, job, "next")),
            lambda job=job: ("left", close(shelf, job)),
            lambda job=job: ("left too", close(shelf, job)),
        ]
        threads = [threading.Thread(target=at_once, args=(deed,)) for deed in deeds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(won for _, won in ends) == 1
        assert (passed(shelf, job.key) == "next") == dict(ends)["passed"]


def test_who_leaves_last_still_hears_of_a_job(shelf, monkeypatch):
    monkeypatch.setattr(relay, "LOOK_S", 0.01)
    job = byhand.train(1)
    assert awaited(shelf, job, 0.0, lambda _: False) is None
    assert not pass_on(shelf, job, "next")
    other = byhand.train(2)
    assert awaited(shelf, other, 60.0, lambda _: not pass_on(shelf, other, "next")) == "next"
    assert not close(shelf, other)
    withdraw(shelf, other)
    assert passed(shelf, other.key) is None
    third = byhand.train(3)
    assert awaited(shelf, third, 60.0, lambda _: True) is None
    assert shelf.get(next_key(third.key)) is None


def test_what_follows_another_job_under_the_same_key_is_not_heeded(shelf):
    job = byhand.train(1)
    pass_on(shelf, job, "next")
    assert awaited(shelf, replace(job, seed=5), 60.0, lambda _: False) is None


def test_in_doubt_a_job_counts_as_passed_on(monkeypatch):
    store = MemoryStore()
    shelf, job = Shelf(Path(), store), byhand.train(1)
    monkeypatch.setattr(store, "before", outage)
    assert pass_on(shelf, job, "next")
    monkeypatch.undo()

    def lost(key: str) -> None:
        raise StoreError("the answer was lost")

    monkeypatch.setattr(store, "after", lost)
    assert pass_on(shelf, job, "next")
    monkeypatch.undo()
    assert passed(shelf, job.key) == "next"
    assert pass_on(shelf, job, "next")  # as a store may answer a repeated request
    assert not pass_on(shelf, job, "another")


def test_the_order_says_how_long_to_wait_and_the_scheduler_allows_it():
    one, two = rungs(1)
    setting = PlainSetting(linger_s=7, poll_s=3, time_limit_s=100, grace_s=10)
    assert (setting.waits_s(one), setting.waits_s(two)) == (10, 0)
    assert setting.waits_s(replace(one, kind=JobKind.EVALUATE)) == 0
    assert PlainSetting(linger_s=0, poll_s=3).waits_s(one) == 0
    site = Site(Path("/runs/run-1"), 2)
    assert [setting.request(site, job).time_limit_s for job in (one, two)] == [180, 170]


@pytest.mark.parametrize(
    ("time", "lasts_s"),
    [
        ("02:00:00", 7100),
        ("90:30", 5330),
        ("30", 1700),
        ("2-00:00:00", 86_400),
        ("0", 86_400),
        (None, 86_400),
    ],
)
def test_a_shorter_time_that_slurm_is_given_counts(time, lasts_s):
    settings = {} if time is None else {"time": time}
    setting = TorchX.model_validate(
        {"kind": "torchx", "scheduler": "slurm", "grace_s": 40, "settings": settings}
    )
    assert setting.lasts_s(rungs(1)[0]) == lasts_s


def test_a_process_of_this_machine_does_not_wait_with_a_gpu_in_its_hands():
    for gpus, waits_s in ((0, 7), (1, 0)):
        plain = {"kind": "torchx", "scheduler": "local_cwd", "resources": {"gpus": gpus}}
        assert TorchX.model_validate(plain).waits_s(rungs(1)[0]) == waits_s


def test_warm_workers_wait_for_nothing():
    assert Ray().waits_s(rungs(1)[0]) == 0
    with pytest.raises(ValidationError, match="linger_s"):
        Ray.model_validate({"kind": "ray", "linger_s": 5})


def kept_by(folder: Path, trial: int = 3) -> tuple[relay.Relay, Job, Job]:
    """Machines of which one has just done the first of two segments."""
    waits = relay.Relay(PlainSetting(poll_s=0.1, grace_s=10, linger_s=LONG_S), Shelf(folder))
    one, two = rungs(trial)
    errand = Errand(one, "handle", 60.0, end=Progress(True, 1.0))
    errand.stand(Condition(State.RUNNING))
    waits.keep(errand)
    return waits, one, two


def test_a_machine_that_waits_for_nothing_is_told_of_once(tmp_path):
    waits, one, _ = kept_by(byhand.run_folder(tmp_path))
    assert waits.told() == []
    waits.make_room(0)
    (vain,) = waits.told()
    assert (vain.reason, vain.job) == ("linger", one.key)
    assert 0.1 <= vain.seconds < 10.0
    assert waits.told() == []


def test_a_machine_that_nobody_came_for_has_waited_all_its_time(tmp_path):
    waits, one, two = kept_by(byhand.run_folder(tmp_path))
    waits.kept = {n: replace(k, began=k.began - 1000, until=k.began - 900) for n, k in waits.kept.items()}
    assert waits.take(two) is None
    assert [v.seconds for v in waits.told()] == [waits.settings.waits_s(one)]
    waits, one, _ = kept_by(tmp_path)
    waits.kept = {n: replace(k, began=k.began - 1000, until=k.began - 900) for n, k in waits.kept.items()}
    assert [v.seconds for v in waits.told()] == [waits.settings.waits_s(one)]


def test_a_machine_that_went_on_has_not_waited_in_vain(tmp_path):
    waits, _, two = kept_by(byhand.run_folder(tmp_path))
    assert waits.take(two) is not None
    assert waits.told() == []
