"""The pipeline on a real Prefect server: deployed and run by a worker, and as `ziggurat run`."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ziggurat import processes

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["preflight", "validate", "search", "retrain", "measure", "report"]
SMALL: dict[str, Any] = {
    "validate": {"enabled": False},
    "tracking": {"enabled": False},
    "fidelities": [{"epochs": 4}, {"epochs": 8}],
    "search": {
        "searcher": {"kind": "sobol"},
        "stopper": {"kind": "asha", "type": "promotion", "reduction_factor": 2},
        "trials": 5,
        "workers": 1,
    },
    "retrain": {"k": 1, "seeds": 1, "epochs": 4},
    "launcher": {"kind": "local"},
    "budget": {},
}

pytestmark = [pytest.mark.server, pytest.mark.slow]


def until(question: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        pause.wait(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass(frozen=True)
class Server:
    """A Prefect server on loopback, and the directory in which its worker works."""

    url: str
    work: Path
    environment: Mapping[str, str]

    def call(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer of its API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def healthy(self) -> bool:
        """Whether it answers."""
        try:
            return self.call("/health") is True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def command(self, *words: str) -> str:
        """What a program of this environment prints that ends well."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def runs(self, **filters: list[str]) -> list[dict[str, Any]]:
        """Flow runs, oldest first."""
        body = {"flow_runs": {k: {"any_": v} for k, v in filters.items()}, "sort": "START_TIME_ASC"}
        found: list[dict[str, Any]] = self.call("/flow_runs/filter", body)
        return found

    def states(self, parent: dict[str, Any]) -> dict[str, str]:
        """The states of a run's subflows by the names of their flows, in their order."""
        names = {f["id"]: f["name"] for f in self.call("/flows/filter", {})}
        return {names[r["flow_id"]]: r["state_type"] for r in self.runs(parent_flow_run_id=[parent["id"]])}

    def logs(self, *ids: str) -> str:
        """What arrived of the logs of flow runs and their tasks."""
        found = self.call("/logs/filter", {"logs": {"flow_run_id": {"any_": list(ids)}}, "limit": 200})
        return "\n".join(line["message"] for line in found)


@contextmanager
def started(
    log: Path, words: list[str], environment: Mapping[str, str], cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=cwd, env=environment, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=15)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_UI_API_URL": url,
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    here = Server(url, folder / "work", environment | {"PREFECT_API_URL": url})
    here.work.mkdir()
    spec = yaml.safe_load((ROOT / "examples" / "digits.yaml").read_text(encoding="utf-8")) | SMALL
    (here.work / "small.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    words = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with started(folder / "server.log", words, environment, folder):
        until(here.healthy, 90, "the server answers")
        yield here


def journal(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of a journal."""
    text = (folder / "journal.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def find_one(folder: Path) -> Path | None:
    """The only run directory of a folder, once it is there."""
    return next((p.parent for p in folder.glob("*/journal.jsonl")), None)


def test_a_deployed_run_completes_in_the_directory_of_its_worker(server: Server) -> None:
    server.call("/work_pools/", {"name": "ziggurat", "type": "process"})
    file = str(ROOT / "deployments" / "prefect.yaml")
    server.command("prefect", "--no-prompt", "deploy", "--prefect-file", file, "--all")
    deployment = server.call("/deployments/name/ziggurat/nightly")
    assert [s["active"] for s in deployment["schedules"]] == [False]
    words = ["prefect", "worker", "start", "--pool", "ziggurat"]
    with started(server.work / "worker.log", words, server.environment, server.work):
        parameters = {"spec": "small.yaml", "overrides": ["search.trials=4"]}
        run = server.call(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        run = until(lambda: _ended(server, run["id"]), 120, "the deployed run ends")
    log = (server.work / "worker.log").read_text(encoding="utf-8")
    assert run["state_type"] == "COMPLETED", log
    folder = find_one(server.work / "runs")
    assert folder is not None
    assert run["name"] == folder.name
    events = journal(folder)
    assert [e["status"] for e in events if e["type"] == "run_finished"] == ["completed"]
    assert sum(e["type"] == "trial_proposed" and e["stage"] == "search" for e in events) == 4
    assert server.states(run) == dict.fromkeys(STAGES, "COMPLETED")
    stages = {r["name"]: r["id"] for r in server.runs(parent_flow_run_id=[run["id"]])}
    assert str(folder) in server.logs(run["id"])
    assert f"searching in {folder}" in server.logs(stages["search"])
    filters = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    front = {a["key"]: a for a in server.call("/artifacts/filter", filters)}
    assert set(front) == {"ziggurat-front", "ziggurat-outcome"}
    assert "val_accuracy" in json.loads(front["ziggurat-front"]["data"])[0]
    assert processes.marked(f"{folder}::") == []


def _ended(server: Server, run_id: str) -> dict[str, Any] | None:
    run: dict[str, Any] = server.call(f"/flow_runs/{run_id}")
    return run if run["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else None


def test_a_terminated_run_checkpoints_ends_in_time_and_is_resumed(server: Server) -> None:
    words = [sys.executable, "-m", "flows.cli", "run", "small.yaml", "--runs-dir", "terminated"]
    process = subprocess.Popen(
        words, cwd=server.work, env=server.environment, stderr=subprocess.PIPE, text=True
    )
    try:
        folder = until(lambda: find_one(server.work / "terminated"), 30, "the run begins")
        until(lambda: _trained(folder), 60, "a trial of the search reaches its first rung")
        busy = " ".join(word for p in processes.marked(f"{folder}::") for word in p.cmdline())
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=20)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 4, said
    assert said.splitlines()[-1].endswith(f"ziggurat resume {folder}")
    ends = [e["status"] for e in journal(folder) if e["type"] == "run_finished"]
    assert ends == ["interrupted"]
    assert "ziggurat.worker" in busy
    assert "prefect.server" not in busy, "an embedded server was started beside the one of PREFECT_API_URL"
    assert processes.marked(f"{folder}::") == []
    stopped = server.runs(name=[folder.name])
    assert [r["state_type"] for r in stopped] == ["CANCELLED"]
    assert str(folder) in stopped[0]["state"]["message"]

    out = server.command("flows.cli", "resume", str(folder), "--json")
    result = json.loads(out.splitlines()[-1])
    assert result["status"] == "completed"
    assert result["trials"]["total"] == 5
    events = journal(folder)
    paid = [e["job"] for e in events if e["type"] == "segment_finished" and "failure" not in e]
    assert len(paid) == len(set(paid))
    stopped, resumed = server.runs(name=[folder.name])
    assert server.states(resumed) == dict.fromkeys(STAGES, "COMPLETED")
    assert processes.marked(f"{folder}::") == []


def _trained(folder: Path) -> bool:
    return any(e["type"] == "segment_finished" and "-train-" in e["job"] for e in journal(folder))
