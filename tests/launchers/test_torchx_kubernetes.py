"""TorchX on Kubernetes, against an API that keeps Volcano's jobs and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.answers import Answers, answering
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.launchers import TorchX
from ziggurat.launchers.scheduler import Condition, Request, Resources, Scheduler, State
from ziggurat.launchers.torchx_pods import explained, phase_of

JOBS = "/apis/batch.volcano.sh/v1alpha1/namespaces/nas/jobs"
COMMANDS = "/apis/bus.volcano.sh/v1alpha1/namespaces/nas/commands"
NAME = "zig-digits-20260101-00007-train-0-1-2-0123456789abcdef"


class Cluster:
    """What the API server remembers."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.pods: list[Any] = []
        self.commands: list[Any] = []
        self.refuse = 0

    def __call__(  # noqa: C901, PLR0911 - a table of routes
        self, method: str, path: str, query: dict[str, list[str]], body: Any
    ) -> tuple[int, Any]:
        if self.refuse:
            return self.refuse, {"reason": "no", "message": "no"}
        if path == JOBS and method == "POST":
            if "dryRun" not in query:
                body["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{len(self.jobs)}Z"
                self.jobs[body["metadata"]["name"]] = body
            return 201, body
        if path == JOBS:
            name = query.get("labelSelector", [""])[0].partition("=")[2]
            found = [
                j for j in self.jobs.values() if not name or j["metadata"]["labels"]["ziggurat/job"] == name
            ]
            return 200, {"items": found}
        if path.startswith(f"{JOBS}/"):
            job = self.jobs.get(path.rpartition("/")[2])
            return (200, job) if job else (404, {"reason": "NotFound"})
        if path == COMMANDS:
            self.commands.append(body)
            return 201, body
        if path.endswith("/queues"):
            return 200, {"items": [{"metadata": {"name": "research"}}, {"metadata": {"name": "default"}}]}
        if path.endswith("/log"):
            return 200, b"first\nlast words\n\n"
        if path == "/api/v1/namespaces/nas/pods":
            return 200, {"items": self.pods}
        return 404, {"reason": "NotFound"}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def server(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    with answering(cluster) as server:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        }
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield server


def opened(queue: str = "research") -> Scheduler:
    settings = {"queue": queue, "namespace": "nas"}
    raw = {"kind": "torchx", "scheduler": "kubernetes", "image": "i:1", "settings": settings}
    return TorchX.model_validate(raw).scheduler(Path("/data/run"))


def request(name: str = NAME) -> Request:
    return Request(name, ("python", "-m", "x"), Resources(), 3600.0, 30.0)


def pod(handle: str, **status: Any) -> dict[str, Any]:
    name = handle.rpartition(":")[2]
    return {
        "metadata": {"name": f"{name}-job-0-0", "labels": {"volcano.sh/job-name": name}},
        "status": status,
    }


def test_a_job_is_taken_and_found_again_by_name(server: Answers, cluster: Cluster) -> None:
    scheduler = opened()
    scheduler.check()
    handle = scheduler.submit(request())
    (name,) = cluster.jobs
    assert handle == f"kubernetes:nas:{name}"
    assert len(f"{name}-job-0-0") <= 63
    assert opened().look_up(NAME) == handle
    assert opened().look_up("zig-nobody") is None
    again = scheduler.submit(request())
    assert again != handle
    assert scheduler.look_up(NAME) == again


def test_one_question_tells_where_all_jobs_stand(server: Answers, cluster: Cluster) -> None:
    scheduler = opened()
    handles = [scheduler.submit(request(f"zig-{i}")) for i in range(4)]
    for job, phase in zip(cluster.jobs.values(), ("Running", "Completed", "Aborted", "Running"), strict=True):
        job["status"] = {"state": {"phase": phase}}
    before = len(server.asked)
    found = scheduler.conditions([*handles, "kubernetes:nas:unknown"])
    assert len(server.asked) == before + 1
    states = [found[h].state for h in [*handles, "kubernetes:nas:unknown"]]
    assert states == [State.RUNNING, State.SUCCEEDED, State.CANCELLED, State.RUNNING, State.GONE]


def test_the_cause_of_a_failure_is_asked_of_its_pod(server: Answers, cluster: Cluster) -> None:
    scheduler = opened()
    handle = scheduler.submit(request())
    next(iter(cluster.jobs.values()))["status"] = {"state": {"phase": "Failed"}}
    ended = {"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
    cluster.pods = [pod(handle, containerStatuses=[ended])]
    assert scheduler.conditions([handle])[handle] == Condition(
        State.OUT_OF_MEMORY, "OOMKilled; Failed, exit code 137"
    )
    assert scheduler.last_words(handle) == "last words"


def test_a_cancelled_job_is_aborted_once(server: Answers, cluster: Cluster) -> None:
    scheduler = opened()
    handle = scheduler.submit(request())
    job = next(iter(cluster.jobs.values()))
    job["status"] = {"state": {"phase": "Running"}}
    scheduler.cancel(handle)
    (command,) = cluster.commands
    assert command["action"] == "AbortJob"
    assert command["target"]["name"] == job["metadata"]["name"]
    job["status"] = {"state": {"phase": "Completed"}}
    scheduler.cancel(handle)
    assert len(cluster.commands) == 1


def test_a_refusal_is_one_line_with_the_cure(server: Answers, cluster: Cluster) -> None:
    with pytest.raises(SpecError, match=r"queue is 'reserch'.*did you mean research\?"):
        opened("reserch").check()
    for status, words in ((403, "ask for the right"), (404, "install Volcano"), (401, "log in")):
        cluster.refuse = status
        with pytest.raises(SpecError, match=words):
            opened().check()
        with pytest.raises(ZigguratError, match="Kubernetes") as caught:
            opened().submit(request())
        assert "\n" not in str(caught.value)
    server.close()
    with pytest.raises(ZigguratError, match="does not answer"):
        opened().conditions(["kubernetes:nas:x"])


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"reason": "DeadlineExceeded"}, State.TIMEOUT),
        ({"reason": "Evicted", "message": "low on memory"}, State.PREEMPTED),
        ({"reason": "NodeLost"}, State.NODE_LOST),
        ({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}, State.PREEMPTED),
        ({"containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}, State.FAILED),
        ({}, State.FAILED),
    ],
)
def test_each_cause_of_an_end_keeps_its_name(status: dict[str, Any], state: State) -> None:
    assert explained(Condition(State.FAILED, "Failed"), {"status": status}).state is state


def test_an_image_that_is_not_there_does_not_wait_for_ever() -> None:
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
    found = explained(Condition(State.PENDING, "Pending"), {"status": {"containerStatuses": [waiting]}})
    assert found == Condition(State.FAILED, "ImagePullBackOff: not found")


def test_a_job_that_volcano_has_not_seen_yet_waits() -> None:
    assert phase_of({"metadata": {}}).state is State.PENDING
