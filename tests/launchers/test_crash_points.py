"""Controllers, workers and the store fail between any two steps: nothing is lost, nothing is paid twice."""

import shutil

import pytest

from tests.launchers.crashes import CANDIDATE, LADDER, Controllers, Fuse, Killed, World
from ziggurat.domain import Job, JobKind, TrialStatus
from ziggurat.errors import RunTakenError, ZigguratError
from ziggurat.launchers.dispatcher import Dispatcher
from ziggurat.launchers.scheduler import OVER, State
from ziggurat.protocols import Site
from ziggurat.runs import Interrupted
from ziggurat.stores import StoreError

ONCE = [(0, rung) for rung in range(len(LADDER))]


@pytest.fixture(params=[0.0, 5.0], ids=["each segment a job", "lingering"])
def made(tmp_path, monkeypatch, request):
    return lambda number: Controllers(tmp_path / str(number), monkeypatch, request.param)


def check(here, run) -> None:
    """What must be true of any run once it has ended, whoever was killed on the way."""
    trial = run.history.trials[0]
    assert trial.status is TrialStatus.COMPLETED
    assert [trial.value("val_accuracy", rung) for rung in range(len(LADDER))] == [0.5, 0.6]
    ends = [segment.end for segment in run.history.segments.values()]
    assert len([end for end in ends if end.failure is None]) == len(LADDER)
    assert len(run.history.curves[0]) == len(LADDER)


def charged(run) -> float:
    return sum(segment.end.seconds for segment in run.history.segments.values())


def test_a_controller_that_is_killed_anywhere_loses_nothing_and_repeats_nothing(made):
    at, over = 0, False
    while not over:
        at += 1
        here = made(at)
        try:
            here.finish(Fuse(at))
            over = True
        except Killed:
            (here.folder / "journal.jsonl").unlink(missing_ok=True)  # with the disk of its machine
        run = here.finish()
        check(here, run)
        assert here.ward.trained == ONCE, at
        assert charged(run) == pytest.approx(sum(here.ward.ran_s.values()), abs=1.0)
    assert at > 60


def test_a_worker_that_is_killed_anywhere_and_queued_again_comes_to_the_same_end(made):
    at, over = 0, False
    while not over:
        at += 1
        here = made(at)
        here.ward.worker = Fuse(at)
        run = here.finish()
        over = here.ward.worker.passed < at
        check(here, run)
        assert len(here.ward.submitted) <= len(LADDER)
        assert here.ward.trained[-1] == ONCE[-1]
        assert len(here.ward.trained) <= len(ONCE) + 1
    assert here.ward.trained == ONCE
    assert at > 10


class Outage(Fuse):
    """The store is away for some of its controller's requests."""

    def __init__(self, at: int, requests: int) -> None:
        super().__init__(at)
        self.requests = requests

    def __call__(self, verb: str = "", *_: object) -> None:
        if verb in {"get", "put", "list", "delete"}:
            self.passed += 1
            if self.at <= self.passed < self.at + self.requests:
                raise StoreError("memory: cannot be reached; try again")


@pytest.mark.parametrize("requests", [2, 1000])
def test_a_store_that_goes_away_anywhere_interrupts_a_run_at_most(made, requests):
    at, over, interrupted = 0, False, 0
    while not over:
        at += 1
        here = made(at)
        outage = Outage(at, requests)
        try:
            here.finish(outage)
            over = outage.passed < at
        except Interrupted:
            interrupted += 1
        run = here.finish()
        check(here, run)
        assert here.ward.trained == ONCE, at
    assert interrupted > 10


class Overtaken(Fuse):
    """Another controller takes the run from the store alone and finishes it, while this one stands still."""

    def __init__(self, at: int, here: Controllers) -> None:
        super().__init__(at)
        self.here, self.run = here, None

    def __call__(self, *_: object) -> None:
        self.passed += 1
        if self.passed == self.at:
            folder = self.here.folder
            self.here.folder = folder.parent / "other" / folder.name
            self.here.folder.mkdir(parents=True)
            shutil.copy(folder / "spec.yaml", self.here.folder)
            self.run = self.here.finish()
            self.here.ward.controller = self


def test_a_controller_that_is_overtaken_anywhere_leaves_nothing_behind_that_is_paid(made):
    at, over, noticed = 0, False, 0
    while not over:
        at += 1
        here = made(at)
        other = Overtaken(at, here)
        try:
            here.finish(other)
            over = other.passed < at
        except RunTakenError:
            noticed += 1
        check(here, other.run or here.finish())
        assert all(state in OVER for _, state in here.ward.jobs.values()), at
        assert here.ward.trained == ONCE, at
    assert noticed > 50


def test_a_job_that_was_taken_without_an_answer_is_not_refused(made):
    here = made(0)
    submit = here.ward.submit

    def unheard(request):
        submit(request)
        raise ZigguratError("timed out")

    here.ward.submit = unheard
    run = here.finish()
    check(here, run)
    assert here.ward.trained == ONCE
    assert len(run.history.segments) == len(LADDER)


def test_a_job_that_nobody_knows_any_more_is_charged_by_its_last_sign_of_life(made):
    here = made(0)

    def forgetful(request):
        raise Killed

    here.ward.submit = forgetful
    with pytest.raises(Killed):
        here.finish()
    del here.ward.submit
    here.ward.worker = Fuse(9)
    with pytest.raises(Killed):
        here.ward._perform("00000-train-0-0")  # it has trained, given a sign of life and died
    run = here.finish()
    check(here, run)
    lost = run.history.segments["00000-train-0-0"].end
    assert lost.failure is not None
    assert lost.seconds >= 100


def test_no_job_is_lost_because_nobody_could_read_its_signs_of_life(made):
    here = made(0)
    launcher = Dispatcher(World(poll_s=0.05, lease_s=5), Site(here.folder, 1, "all", here.ward.store()))
    launcher.start(Job("00000-train-0-0", JobKind.TRAIN, "any", 0, CANDIDATE, LADDER, to_rung=0))
    launcher.wait(1)
    here.ward._step = lambda _: None  # from here on it is neither heard nor over
    here.ward.controller = Outage(1, 1000)
    here.ward.clock.sleep(100)
    launcher.wait(1)
    here.ward.controller = Fuse()
    launcher.wait(1)
    assert [state for _, state in here.ward.jobs.values()] == [State.RUNNING]
    here.ward.clock.sleep(100)
    launcher.wait(1)
    assert [state for _, state in here.ward.jobs.values()] == [State.CANCELLED]
    launcher.close(leave=True)
