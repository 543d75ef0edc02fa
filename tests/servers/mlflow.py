"""A real MLflow server on loopback: runs in a database, artifacts through its proxy in a folder or in S3.

It takes half a minute to start, so tests that need it are marked `soak`. Import the fixture `mlflow_server`
(one for the whole session, on PostgreSQL and SeaweedFS) where it is needed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.servers.postgres import Postgres
from tests.servers.seaweed import WRITER, S3Server
from ziggurat.listeners.mlflow_client import Place, connect

PATIENCE_S = 180.0


@dataclass
class MlflowServer:
    """A running server.

    Attributes:
        url: Its tracking URI.
        folder: Holds its log, and its artifacts if they are in a folder.
    """

    url: str
    folder: Path
    _process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End the server with its workers, and remove what it has written."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(timeout=10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        shutil.rmtree(self.folder, ignore_errors=True)

    def pause(self) -> None:
        """Have it answer nothing for a while."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again."""
        os.killpg(self._process.pid, signal.SIGCONT)


def start(
    store: str, artifacts: str | None = None, environment: Mapping[str, str] | None = None, port: int = 0
) -> MlflowServer:
    """Start a server in a temporary directory, and wait until it answers.

    Args:
        store: Database for runs, as SQLAlchemy has it.
        artifacts: Where artifacts go; by default in a folder.
        environment: Further variables, such as credentials.
        port: Where it listens; by default anywhere.

    Raises:
        RuntimeError: It does not start.
    """
    folder = Path(tempfile.mkdtemp(prefix="ziggurat-tests-mlflow-"))
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
    words = [
        str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", store, "--artifacts-destination",
        artifacts or str(folder / "artifacts"),
    ]  # fmt: skip
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_"))}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    quiet["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # a dozen processes for what nothing here asks for
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder, start_new_session=True,
            env={**kept, **quiet, **(environment or {})},
        )  # fmt: skip
    server = MlflowServer(f"http://127.0.0.1:{port}", folder, process)
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=5):
                return server
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    last = (folder / "log").read_text(errors="replace").splitlines()[-3:]
    server.stop()
    raise RuntimeError(f"MLflow's server does not start here: {last}")


def database(folder: Path, shared: Path) -> Path:
    """A fresh database in a folder, copied from one that is made once for all processes and sessions.

    Making one takes MLflow seconds, in which it goes through all of its migrations.
    """
    template = shared / f"ziggurat-mlflow-{version('mlflow')}.db"
    with (shared / f"{template.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            draft = template.with_suffix(f".{os.getpid()}")
            connect(Place(f"sqlite:///{draft}", "")).search_experiments()
            draft.rename(template)
    return Path(shutil.copy(template, folder / "mlflow.db"))


def start_on(postgres: Postgres, s3: S3Server, database: str = "mlflow") -> MlflowServer:
    """A server with its runs in PostgreSQL and its artifacts in S3, as in production."""
    environment = {
        **WRITER.environment(),
        "MLFLOW_S3_ENDPOINT_URL": s3.endpoint,
        "AWS_DEFAULT_REGION": s3.region,
    }
    return start(postgres.url(database), f"s3://{s3.bucket}/{database}", environment)


@pytest.fixture(scope="session")
def mlflow_server(postgres: Postgres, s3_server: S3Server) -> Iterator[MlflowServer]:
    """One server on PostgreSQL and SeaweedFS for all tests of a process."""
    try:
        server = start_on(postgres, s3_server)
    except RuntimeError as problem:
        pytest.skip(str(problem))
    try:
        yield server
    finally:
        server.stop()
