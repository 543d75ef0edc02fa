"""A real Prefect server on loopback, on PostgreSQL where its programs are, and programs working against it.

Use the fixture `prefect_server` (one for the whole session). Its state is in a temporary directory; nothing
is reported to anyone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import postgres as postgres_server

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


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
    """A Prefect server on loopback, and the directory in which its workers work.

    Attributes:
        url: Of its API.
        work: Where programs are started.
        environment: Of these programs.
        on_postgres: Whether it keeps its state in PostgreSQL.
    """

    url: str
    work: Path
    environment: Mapping[str, str]
    on_postgres: bool

    @property
    def ui(self) -> str:
        """Where its pages are."""
        return self.url.removesuffix("/api")

    def call(self, path: str, body: Mapping[str, Any] | None = None, method: str | None = None) -> Any:
        """The answer of its API."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def refused(self, path: str, body: Mapping[str, Any]) -> str:
        """Why it does not do what it is asked to."""
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.call(path, body)
        return str(caught.value.read().decode())

    def healthy(self) -> bool:
        """Whether it answers."""
        try:
            return self.call("/health") is True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def start(self, words: Sequence[str], **changes: str) -> subprocess.CompletedProcess[str]:
        """A program of this environment that has ended, however."""
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=self.work, env={**self.environment, **changes},
            capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def command(self, *words: str) -> str:
        """What a program of this environment prints that ends well."""
        done = self.start(words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def create(self, deployment: str, **parameters: Any) -> str:
        """The id of a new run of a deployment."""
        found = self.call(f"/deployments/name/{deployment}")
        run = self.call(f"/deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A flow run as it stands."""
        found: dict[str, Any] = self.call(f"/flow_runs/{run_id}")
        return found

    def reached(self, run_id: str, *types: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """A flow run once it is in a state of one of some types."""

        def there() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["state_type"] in types else None

        found: dict[str, Any] = until(there, seconds, f"{run_id} is {' or '.join(types)}")
        return found

    def ended(self, run_id: str, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """A flow run once it has ended."""
        return self.reached(run_id, *FINAL, seconds=seconds)

    def set_state(self, run_id: str, type_: str, name: str) -> None:
        """Ask for a state as the buttons of the page do."""
        self.call(f"/flow_runs/{run_id}/set_state", {"state": {"type": type_, "name": name}, "force": True})

    def runs(self, **filters: list[str]) -> list[dict[str, Any]]:
        """Flow runs, oldest first."""
        body = {"flow_runs": {k: {"any_": v} for k, v in filters.items()}, "sort": "START_TIME_ASC"}
        found: list[dict[str, Any]] = self.call("/flow_runs/filter", body)
        return found

    def states(self, parent: dict[str, Any]) -> dict[str, str]:
        """The latest states of a run's subflows by the names of their flows, in their order."""
        names = {f["id"]: f["name"] for f in self.call("/flows/filter", {})}
        return {names[r["flow_id"]]: r["state_type"] for r in self.runs(parent_flow_run_id=[parent["id"]])}

    def logs(self, *ids: str) -> str:
        """What arrived of the logs of flow runs and their tasks."""
        found = self.call("/logs/filter", {"logs": {"flow_run_id": {"any_": list(ids)}}, "limit": 200})
        return "\n".join(line["message"] for line in found)

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The artifacts of a flow run by what their keys begin with."""
        filters = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        found = [a for a in self.call("/artifacts/filter", filters) if a["key"]]
        return {a["key"].partition("-")[0]: a for a in found}


@contextmanager
def started(
    log: Path, words: Sequence[str], environment: Mapping[str, str], cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=cwd, env=environment, stdout=file, stderr=file,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=15)


@contextmanager
def serving(folder: Path, database: str | None = None, **settings: str) -> Iterator[Server]:
    """A server as long as it is needed; SQLite in the folder if no database is given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_API_PORT": port,  # --port alone leaves the pages asking at another one
        "PREFECT_SERVER_UI_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    environment |= settings
    of_server = {} if database is None else {"PREFECT_API_DATABASE_CONNECTION_URL": database}
    here = Server(url, folder / "work", environment | {"PREFECT_API_URL": url}, database is not None)
    here.work.mkdir()
    words = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with started(folder / "server.log", words, environment | of_server, folder):
        until(here.healthy, PATIENCE_S, "the server answers")
        yield here


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a process."""
    folder = tmp_path_factory.mktemp("prefect")
    try:
        base = postgres_server.start(folder)
    except RuntimeError:
        with serving(folder) as server:
            yield server
        return
    try:
        with serving(folder, base.url("prefect", "asyncpg")) as server:
            yield server
    finally:
        base.stop()
