"""The contract of launchers as functions of a place; each is a test in the suites that give it one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests import real
from tests.launchers import byhand
from ziggurat.domain import FailureKind, Fidelity, Job, JobKind
from ziggurat.launchers.dispatcher import Dispatcher
from ziggurat.protocols import Launcher, Progress


class Place:
    """A launcher under test, and a fresh number for each trial."""

    def __init__(self, home: Path, launch: Callable[[Path], Launcher]) -> None:
        self.folder = byhand.run_folder(home)
        self.open = lambda: launch(self.folder)
        self.launcher = self.open()
        self._trials = 0

    def number(self) -> int:
        self._trials += 1
        return self._trials

    def begin(self, job: Job) -> str:
        """Start a job as soon as there is a place; its handle is returned."""
        real.until(lambda: self.launcher.free(job.kind), lambda: self.launcher.wait(0.1))
        return self.launcher.start(job)

    def done(self, job: Job) -> tuple[Progress, list]:
        """Start a job and wait for its end."""
        self.begin(job)
        return real.ended(self.launcher, job.key)

    def close(self) -> None:
        self.launcher.close()


def gives_numbers_a_result_and_a_checkpoint(place):
    job = byhand.train(place.number(), epochs=3)
    progress, rows = place.done(job)
    assert progress.failure is None
    assert [step for step, _ in rows] == [1, 2, 3]
    assert {m.metric: round(m.value, 3) for m in progress.measurements} == {"val_accuracy": 0.933}
    assert (place.folder / progress.checkpoint).is_file()
    assert progress.seconds > 0


def keeps_its_state_when_cancelled(place):
    number = place.number()
    job = byhand.train(number, epochs=5000)
    place.begin(job)
    seen = []
    real.until(
        lambda: seen.extend(place.launcher.poll(job.key).rows) or len(seen) > 2,
        lambda: place.launcher.wait(0.1),
    )
    place.launcher.cancel(job.key, 8)
    place.launcher.cancel(job.key, 8)
    progress, rows = real.ended(place.launcher, job.key)
    assert (progress.failure.kind, progress.retry) == (FailureKind.PREEMPTED, True)
    assert (place.folder / progress.checkpoint).is_file()
    reached = max(step for step, _ in [*seen, *rows])
    more = replace(
        job,
        key=f"{number:05d}-train-0-1",
        attempt=1,
        ladder=(Fidelity(reached + 3),),
        checkpoint=progress.checkpoint,
    )
    again, rows = place.done(more)
    assert again.failure is None
    assert rows[0][0] > 1
    assert rows[-1][0] == reached + 3


def says_why_a_script_failed(place):
    progress, rows = place.done(byhand.train(place.number(), mode="bad"))
    assert progress.failure.kind is FailureKind.USER_ERROR
    assert "the rate brings bad luck" in progress.failure.text
    assert not progress.retry
    assert rows == []


def goes_on_with_a_trial_where_it_was(place):
    job = replace(byhand.train(place.number()), ladder=(Fidelity(2), Fidelity(4)))
    handle = place.begin(job)
    first, _ = real.ended(place.launcher, job.key)
    assert first.failure is None
    key = job.key.replace("train-0", "train-1")
    more = replace(job, key=key, from_rung=0, to_rung=1, checkpoint=first.checkpoint)
    again = place.begin(more)
    progress, rows = real.ended(place.launcher, key)
    assert progress.failure is None
    assert [step for step, _ in rows] == [3, 4]
    if isinstance(place.launcher, Dispatcher):
        assert again == handle


def takes_and_gives_back_places(place):
    real.until(lambda: place.launcher.free(JobKind.TRAIN) == 2, lambda: place.launcher.wait(0.1))
    jobs = [byhand.train(place.number(), epochs=10) for _ in range(2)]
    for left, job in enumerate(jobs):
        assert place.launcher.free(JobKind.TRAIN) == 2 - left
        place.launcher.start(job)
    assert place.launcher.free(JobKind.TRAIN) == 0
    for job in jobs:
        assert real.ended(place.launcher, job.key)[0].failure is None
    real.until(lambda: place.launcher.free(JobKind.TRAIN) == 2, lambda: place.launcher.wait(0.1))


def finds_the_result_of_an_earlier_controller(place):
    job = byhand.train(place.number())
    handle = place.begin(job)
    progress, _ = real.ended(place.launcher, job.key)
    found = place.launcher.find(job, handle)
    assert found is not None
    assert found.done
    assert found.measurements == progress.measurements
    assert found.checkpoint == progress.checkpoint
    assert place.launcher.find(replace(job, seed=77), handle) is None
    assert place.launcher.find(byhand.train(99_999)) is None


def plans_without_doing(place):
    job = byhand.train(88_888)
    text = place.launcher.plan(job)
    assert job.key in text
    assert not (place.folder / "trials" / "88888").exists()
    assert place.launcher.free(JobKind.TRAIN) > 0
