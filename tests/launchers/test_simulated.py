"""Imaginary workers: what ends when by the virtual clock."""

from ziggurat.domain import Failure, FailureKind, Job, JobKind, Measurement
from ziggurat.launchers.simulated import START_UTC, Simulated
from ziggurat.protocols import Progress, Site


def simulator(workers=2, **seconds):
    """A simulator whose jobs take as long as is said here, by key."""

    def perform(job):
        return Progress(True, seconds.get(job.key, 0.0), measurements=(Measurement("a", 1.0),))

    return Simulated().launch(Site(None, workers, perform=perform))


def train(key: str) -> Job:
    return Job(key, JobKind.TRAIN, "search")


def test_a_job_ends_when_its_time_has_passed_and_the_clock_jumps_there():
    machines = simulator(a=30.0, b=10.0)
    machines.start(train("a"))
    machines.start(train("b"))
    assert machines.free(JobKind.TRAIN) == 0
    assert not machines.poll("b").done
    machines.wait(99.0)
    assert machines.clock.utc() == START_UTC + 10.0
    assert machines.poll("b").done
    assert not machines.poll("a").done
    assert machines.elapsed("a") == 10.0
    assert machines.free(JobKind.TRAIN) == 1


def test_the_clock_stands_while_something_that_has_ended_is_not_polled():
    machines = simulator(a=30.0)
    machines.start(train("a"))
    machines.start(Job("service", JobKind.PROPOSE, "search"))
    machines.wait(99.0)
    assert machines.clock.utc() == START_UTC
    assert machines.poll("service").done
    machines.wait(99.0)
    assert machines.poll("a").done


def test_the_clock_stands_while_there_is_more_to_decide():
    machines = simulator(a=30.0)
    machines.start(train("a"))
    machines.wait(0.0)
    assert machines.clock.utc() == START_UTC


def test_a_service_job_takes_no_time_and_no_worker():
    machines = simulator(workers=1, service=99.0)
    machines.start(Job("service", JobKind.PROPOSE, "search"))
    assert machines.free(JobKind.TRAIN) == 1
    assert machines.free(JobKind.PROPOSE) == 0
    assert machines.poll("service").done
    machines.start(Job("more", JobKind.PROPOSE, "search"))
    assert machines.poll("more").seconds == 0.0
    assert machines.clock.utc() == START_UTC


def test_there_is_one_service_however_many_workers_there_are():
    machines = simulator(workers=3)
    assert (machines.free(JobKind.TRAIN), machines.free(JobKind.PROPOSE)) == (3, 1)


def test_evaluations_take_a_worker_as_trainings_do():
    machines = simulator(workers=2, a=5.0, b=5.0)
    machines.start(Job("a", JobKind.EVALUATE, "measure"))
    assert machines.free(JobKind.TRAIN) == machines.free(JobKind.EVALUATE) == 1


def test_before_there_are_workers_the_clock_stands_where_it_was():
    assert Simulated().clock(0.0)() == START_UTC
    assert Simulated().clock(START_UTC + 7.0)() == START_UTC + 7.0


def test_a_failure_takes_its_time_too():
    failure = Failure(FailureKind.DIVERGED, "told to")
    machines = Simulated().launch(Site(None, 1, perform=lambda _: Progress(True, 5.0, failure=failure)))
    machines.start(train("a"))
    machines.wait(99.0)
    progress = machines.poll("a")
    assert progress.failure == failure
    assert progress.seconds == 5.0


def test_nothing_outlives_its_controller():
    machines = simulator()
    assert machines.find(train("a")) is None
    machines.start(train("a"))
    machines.close()
    assert machines.elapsed("a") == 0.0


def test_the_clock_moves_on_by_no_more_than_is_waited():
    machines = simulator(a=30.0)
    machines.start(train("a"))
    machines.wait(12.0)
    assert machines.clock.utc() == START_UTC + 12.0
    assert not machines.poll("a").done


def test_a_cancelled_job_ends_within_its_grace_and_may_be_tried_again():
    machines = simulator(a=30.0, b=13.0)
    machines.start(train("a"))
    machines.start(train("b"))
    machines.wait(10.0)
    machines.cancel("a", 5.0)
    machines.cancel("b", 5.0)
    machines.wait(99.0)
    assert machines.poll("b").failure is None  # it had ended before
    machines.wait(99.0)
    ended = machines.poll("a")
    assert (ended.failure.kind, ended.retry, ended.seconds) == (FailureKind.PREEMPTED, True, 15.0)
    machines.cancel("a", 5.0)
