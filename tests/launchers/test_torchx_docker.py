"""TorchX on Docker, against an API that keeps containers and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.answers import Answers, answering
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.launchers import TorchX
from ziggurat.launchers.scheduler import Condition, Request, Resources, Scheduler, State
from ziggurat.launchers.torchx_docker import ended


class Engine:
    """What Docker remembers."""

    def __init__(self) -> None:
        self.containers: list[dict[str, Any]] = []
        self.signals: list[tuple[str, str]] = []
        self.images = {"i:1"}

    def __call__(  # noqa: C901, PLR0911 - a table of routes
        self, method: str, path: str, query: dict[str, list[str]], body: Any
    ) -> tuple[int, Any]:
        parts = path.strip("/").split("/")
        if parts[0].startswith("v1."):
            parts = parts[1:]
        match method, parts:
            case "GET", ["version"]:
                return 200, {"ApiVersion": "1.44", "Version": "26"}
            case "GET", ["_ping"]:
                return 200, b"OK"
            case "GET", ["images", name, "json"]:
                return (
                    (200, {"Id": "sha256:1", "RepoTags": [name]})
                    if name in self.images
                    else (404, {"message": "no"})
                )
            case "GET", ["distribution", _, "json"]:
                return 404, {"message": "not in the registry"}
            case "POST", ["images", "create"]:
                return 200, b""
            case "POST", ["networks", "create"]:
                return 201, {"Id": "n"}
            case "GET", ["networks", _]:
                return 200, {"Id": "n", "Name": "torchx"}
            case "POST", ["containers", "create"]:
                number = str(len(self.containers))
                state = {"Status": "created", "ExitCode": 0}
                self.containers.append({"Id": number, "Created": int(number), "body": body, "inside": state})
                return 201, {"Id": number, "Warnings": []}
            case "GET", ["containers", "json"]:
                wanted = json.loads(query["filters"][0])["label"][0]
                return 200, [self._listed(c) for c in self.containers if self._has(c, wanted)]
            case _, ["containers", number, *rest]:
                return self._one(self.containers[int(number)], rest, query)
        return 404, {"message": f"{method} {path}"}

    def _one(
        self, container: dict[str, Any], rest: list[str], query: dict[str, list[str]]
    ) -> tuple[int, Any]:
        match rest:
            case ["start"]:
                container["inside"]["Status"] = "running"
                return 204, b""
            case ["kill"]:
                self.signals.append((container["Id"], query["signal"][0]))
                return 204, b""
            case ["json"]:
                return 200, {"Id": container["Id"], "State": container["inside"], "Config": {"Tty": True}}
            case ["logs"]:
                return 200, b"first\nlast words\n"
        return 404, {"message": "no"}

    @staticmethod
    def _has(container: dict[str, Any], wanted: str) -> bool:
        name, _, value = wanted.partition("=")
        labels = container["body"]["Labels"]
        return name in labels and value in {"", labels[name]}

    @staticmethod
    def _listed(container: dict[str, Any]) -> dict[str, Any]:
        shown = {"Labels": container["body"]["Labels"], "State": container["inside"]["Status"]}
        return {"Id": container["Id"], "Created": container["Created"], **shown}


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def server(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    with answering(engine) as server:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.port}")
        yield server


def opened(folder: Path, image: str = "i:1", grace_s: float = 20.0) -> Scheduler:
    raw = {"kind": "torchx", "scheduler": "local_docker", "image": image, "grace_s": grace_s}
    return TorchX.model_validate(raw).scheduler(folder)


def request(name: str = "zig-a") -> Request:
    return Request(name, ("python", "-m", "x"), Resources(), 3600.0, 30.0)


def test_a_job_is_taken_and_found_again_by_name(server: Answers, engine: Engine, tmp_path: Path) -> None:
    scheduler = opened(tmp_path)
    scheduler.check()
    handle = scheduler.submit(request())
    assert engine.containers[0]["body"]["Cmd"] == ["python", "-m", "x"]
    assert opened(tmp_path).look_up("zig-a") == handle
    assert opened(tmp_path).look_up("zig-nobody") is None
    again = scheduler.submit(request())
    assert scheduler.look_up("zig-a") == again != handle


def test_one_question_tells_where_running_jobs_stand(server: Answers, engine: Engine, tmp_path: Path) -> None:
    scheduler = opened(tmp_path)
    handles = [scheduler.submit(request(f"zig-{i}")) for i in range(3)]
    engine.containers[1]["inside"] = {"Status": "exited", "ExitCode": 137, "OOMKilled": True}
    scheduler.conditions(handles)  # the first time, the client asks for the engine's version
    before = len(server.asked)
    found = scheduler.conditions([*handles, "local_docker:unknown"])
    assert len(server.asked) == before + 2
    states = [found[h].state for h in [*handles, "local_docker:unknown"]]
    assert states == [State.RUNNING, State.OUT_OF_MEMORY, State.RUNNING, State.GONE]
    assert scheduler.last_words(handles[1]) == "last words"


def test_a_cancelled_job_gets_the_signal_and_is_ended_after_its_grace(
    server: Answers, engine: Engine, tmp_path: Path
) -> None:
    patient, hasty = opened(tmp_path), opened(tmp_path, grace_s=0)
    handle = patient.submit(request())
    patient.cancel(handle)
    patient.conditions([handle])
    assert engine.signals == [("0", "SIGTERM")]
    hasty.cancel(handle)
    hasty.conditions([handle])
    assert engine.signals == [("0", "SIGTERM"), ("0", "SIGTERM"), ("0", "SIGKILL")]
    engine.containers[0]["inside"] = {"Status": "exited", "ExitCode": 137}
    hasty.cancel(handle)  # of an ended job nothing happens
    assert len(engine.signals) == 3
    assert hasty.conditions([handle])[handle] == Condition(State.CANCELLED, "exit code 137")


def test_an_image_that_is_not_there_is_found_before_the_run(server: Answers, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"launcher\.image is 'none', which Docker neither has nor can pull"):
        opened(tmp_path, image="none").check()


def test_an_engine_that_does_not_answer_is_one_line(server: Answers, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(ZigguratError, match="Docker does not answer") as caught:
        opened(tmp_path).conditions(["local_docker:x"])
    assert "\n" not in str(caught.value)


def test_each_end_of_a_container_has_its_cause() -> None:
    assert ended({"ExitCode": 0}, cancelled=True).state is State.SUCCEEDED
    assert ended({"ExitCode": 3}, cancelled=False) == Condition(State.FAILED, "exit code 3")
    assert ended({"ExitCode": 137}, cancelled=True).state is State.CANCELLED
    assert (
        ended({"ExitCode": 127, "Error": "no such file"}, cancelled=False).text
        == "exit code 127; no such file"
    )
