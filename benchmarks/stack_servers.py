"""All the servers of a platform on loopback, each in a temporary directory, and what can be asked of them.

PostgreSQL, Prefect and MLflow on it, SeaweedFS, an SMTP sink, a webhook, a process worker, `ziggurat watch`.
`stack.py` plays runs on them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.servers import postgres
from tests.servers.mailbox import Hook, Mailbox
from tests.servers.prefect import Server, serving, started, until
from tests.servers.seaweed import WRITER, S3Server, seaweed
from ziggurat import runs
from ziggurat.history import History

ROOT = Path(__file__).resolve().parents[1]
PRICE = 0.36
"""US dollars for an hour of a worker: a cent is a hundred seconds."""
BROWSER = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", "--no-first-run",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
SPEC = """\
schema_version: 1
name: {name}
seed: 3
data: {{kind: digits, image: false}}
space:
  kind: mlp
  depth: {{min: 1, max: 3}}
  width: [8, 16, 32, 64, 128]
  hyperparameters: {{learning_rate: {{min: 1e-3, max: 3e-2, log: true}}, batch_size: [32, 64]}}
objectives:
  - {{metric: val_accuracy, reference: 0.8}}
  - {{metric: parameters, reference: 20000}}
fidelities: [{{epochs: 3}}, {{epochs: 9}}]
validate: {{candidates: 3, seeds: 2, proxy: false}}
search:
  searcher: {{kind: evolution, population: 6}}
  stopper: {{kind: asha, type: promotion, reduction_factor: 2}}
  trials: {trials}
  workers: 2
retrain: {{k: 2, seeds: 1, epochs: {epochs}, approval: {{wanted: {approval}, timeout_hours: 1}}}}
launcher: {{kind: local, usd_per_hour: {price}}}
budget: {{limit_usd: {limit}}}
store: {{kind: s3, bucket: {bucket}, prefix: runs, endpoint: '{endpoint}'}}
tracking: {{uri: '{mlflow}'}}
alerts:
  channels:
    hook: ${{STACK_HOOK}}
    mail: ${{STACK_MAIL}}
"""


@dataclass
class Stack:
    """Everything that runs, and what was found wrong."""

    folder: Path
    prefect: Server
    mlflow: str
    s3: S3Server
    hook: Hook
    mail: Mailbox
    screens: Path | None
    start_worker: Callable[[], subprocess.Popen[bytes]]
    worker: subprocess.Popen[bytes]
    wrong: list[str] = field(default_factory=list)

    @property
    def runs(self) -> Path:
        """Where the worker makes run directories."""
        return self.prefect.work / "runs"

    def expect(self, held: object, what: str) -> None:
        """Say whether something is as it should be."""
        print(f"  {'ok   ' if held else 'WRONG'} {what}", flush=True)
        if not held:
            self.wrong.append(what)

    def spec(self, name: str, **changes: Any) -> str:
        """Write a spec where the worker finds it; returns its path."""
        values = {"trials": 10, "epochs": 12, "approval": "false", "limit": 1.0, "price": PRICE, **changes}
        places = {"bucket": self.s3.bucket, "endpoint": self.s3.endpoint, "mlflow": self.mlflow}
        text = SPEC.format(name=name, **values, **places)
        path = self.prefect.work / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def look(self, name: str) -> tuple[Path, History]:
        """The run directory of a spec's only run, and its history."""
        folders = [f for f in self.runs.glob(f"{name}-*") if (f / "spec.yaml").is_file()]
        assert len(folders) == 1, folders
        return folders[0], runs.look(folders[0])[1]

    def picture(self, url: str, name: str, size: str = "1500,1500", wait_ms: int = 15000) -> None:
        """Keep a picture of a page, if pictures are wanted."""
        if self.screens is None:
            return
        with tempfile.TemporaryDirectory() as profile:
            words = [
                f"--user-data-dir={profile}",
                f"--window-size={size}",
                f"--virtual-time-budget={wait_ms}",
            ]
            words += [f"--screenshot={self.screens / name}.png", url]
            subprocess.run([*BROWSER, *words], capture_output=True, timeout=120, check=False)

    def told(self, folder: Path, words: str) -> list[tuple[str, int, int]]:
        """For each alert of a run whose title holds some words: how often webhook and mail have got it."""
        mine = [m for m in self.hook.messages if folder.name in m.title and words in m.title]
        titles = dict.fromkeys(m.title for m in mine)
        post = self.mail.titles
        return [(t, sum(m.title == t for m in mine), post.count(t)) for t in titles]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def tracking(folder: Path, database: str, s3: S3Server) -> Iterator[str]:
    """MLflow's server on a database, with artifacts in S3 behind it; its address."""
    s3.client().create_bucket(Bucket="mlflow")
    port = _free_port()
    words = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
             "--backend-store-uri", database, "--artifacts-destination", "s3://mlflow"]  # fmt: skip
    environment = os.environ | WRITER.environment() | {"MLFLOW_S3_ENDPOINT_URL": s3.endpoint}
    url = f"http://127.0.0.1:{port}"

    def healthy() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
        return False

    with started(folder / "mlflow.log", words, environment, folder):
        until(healthy, 180, "MLflow answers")
        yield url


@contextlib.contextmanager
def stack(folder: Path, screens: Path | None) -> Iterator[Stack]:
    """All servers, the deployments, a worker and a watcher."""
    with contextlib.ExitStack() as opened:
        base = postgres.start(folder)
        opened.callback(base.stop)
        s3 = opened.enter_context(seaweed())
        mlflow = opened.enter_context(tracking(folder, base.url("mlflow"), s3))
        hook, mail = Hook(), Mailbox()
        opened.callback(hook.close)
        opened.callback(mail.close)
        secrets = {"STACK_HOOK": hook.url, "STACK_MAIL": mail.url, "MLFLOW_TRACKING_URI": mlflow}
        os.environ |= secrets  # specs name them, and are read here too
        environment = {
            **WRITER.environment(),
            **secrets,
            "OMP_NUM_THREADS": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        }
        prefect = opened.enter_context(serving(folder, base.url("prefect", "asyncpg"), **environment))
        shutil.copytree(ROOT / "examples", prefect.work / "examples")
        print(prefect.command("flows.cli", "prefect", "up").strip(), flush=True)
        words = ["prefect", "worker", "start", "--pool", "ziggurat", "--type", "process"]

        def start_worker() -> subprocess.Popen[bytes]:
            log = folder / "worker.log"
            return opened.enter_context(started(log, words, prefect.environment, prefect.work))

        worker = start_worker()
        (prefect.work / "runs").mkdir()
        watch = ["flows.cli", "watch", "runs", "--every", "3"]
        opened.enter_context(started(folder / "watch.log", watch, prefect.environment, prefect.work))
        yield Stack(folder, prefect, mlflow, s3, hook, mail, screens, start_worker, worker)
