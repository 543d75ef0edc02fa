"""Jobs on a fake of AWS Batch that really runs them: a lost host, another controller, an end by request."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import real
from tests.servers.batch import Batch, batch
from ziggurat import stores
from ziggurat.domain import FailureKind, Fidelity, Job
from ziggurat.launchers import AwsBatch
from ziggurat.launchers.dispatcher import Dispatcher
from ziggurat.protocols import Site

pytestmark = pytest.mark.slow
LONG = (Fidelity(400),)


@pytest.fixture(scope="module")
def aws() -> Iterator[Batch]:
    with batch() as server:
        yield server


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    """A run whose workers see its store and nothing else."""
    real.use_models(tmp_path, monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    folder = tmp_path / f"run-{tmp_path.name}"
    (folder / "trials").mkdir(parents=True)
    (folder / "logs").mkdir()
    store = stores.Directory(tmp_path / "store" / folder.name)
    plain = real.plain(space=real.python_space(mode=["good"]))
    plain["search"] |= {"trainer": {"kind": "lightning", "checkpoint_s": 0.2}}
    store.put("spec.yaml", yaml.safe_dump(plain).encode())
    return Site(folder, 2, "retrain", store)


def open_launcher(aws: Batch, site: Site, **changes: object) -> Dispatcher:
    plain = {"queue": "spot", "image": "ziggurat:0.1.0", "region": "eu-central-1", "endpoint": aws.url}
    setting = AwsBatch(**{**plain, "python": sys.executable, "poll_s": 0.1, "grace_s": 20, **changes})
    setting.check()
    return setting.launch(site)


def training(launcher: Dispatcher, job: Job) -> None:
    """Wait until some epoch of a job is over and kept."""
    real.until(lambda: launcher._errands[job.key].beat.get("checkpoint"), lambda: launcher.wait(0.05))


@pytest.mark.soak
def test_a_job_on_a_lost_host_is_preempted_and_goes_on_from_its_last_checkpoint(aws, site):
    launcher = open_launcher(aws, site)
    job = real.train("00002", "slow", ladder=LONG)
    handle = launcher.start(job)
    training(launcher, job)
    aws.take_host(handle)
    progress, rows = real.ended(launcher, job.key)
    assert progress.failure.kind is FailureKind.PREEMPTED
    assert "Host EC2" in progress.failure.text
    assert progress.retry
    assert progress.checkpoint is not None
    assert progress.seconds > 0
    reached = max(step for step, _ in rows)
    again = real.train(
        "00002",
        key="00002-train-0-1",
        attempt=1,
        ladder=(Fidelity(reached + 2),),
        checkpoint=progress.checkpoint,
    )
    second = launcher.start(again)
    progress, rows = real.ended(launcher, again.key)
    assert progress.failure is None
    assert max(step for step, _ in rows) == reached + 2
    assert min(step for step, _ in rows) > 1, "it went on, and did not begin again"
    assert {m.metric for m in progress.measurements} >= {"val_accuracy", "parameters"}
    assert site.store.download(progress.checkpoint, Path(site.folder / "copy"))
    assert not list((site.folder / "trials").rglob("*.ckpt")), "no worker has seen the run directory"
    commands = [aws.jobs[handle][0]["containerOverrides"]["command"] for handle in (handle, second)]
    start = [sys.executable, "-m", "ziggurat.once", site.store.url]
    assert commands == [[*start, job.key], [*start, again.key]]
    launcher.close()


@pytest.mark.soak
def test_another_controller_finds_a_running_job_by_its_name_and_can_end_it(aws, site):
    first = open_launcher(aws, site)
    job = real.train("00003", "slow", ladder=LONG)
    first.start(job)
    training(first, job)
    first.close(leave=True)
    second = open_launcher(aws, site)
    before = len(aws.jobs)
    found = second.find(job)
    assert found is not None
    assert not found.done
    assert len(aws.jobs) == before
    second.cancel(job.key, 20)
    progress, _ = real.ended(second, job.key)
    assert progress.failure.kind is FailureKind.PREEMPTED
    assert progress.checkpoint is not None
    second.close()
