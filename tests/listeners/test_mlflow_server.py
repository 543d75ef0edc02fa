"""The mirror, models and specs with MLflow's server on PostgreSQL, its artifacts in S3 through its proxy."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import real
from tests.listeners.conftest import Run
from tests.servers.mlflow import MlflowServer
from tests.servers.mlflow import mlflow_server as mlflow_server  # noqa: PLC0414 - a fixture
from tests.servers.postgres import Postgres
from tests.servers.postgres import postgres as postgres  # noqa: PLC0414 - a fixture
from tests.servers.seaweed import S3Server
from ziggurat import publishing, stages
from ziggurat.listeners import Tracking, mlflow_client
from ziggurat.listeners.mlflow_about import About
from ziggurat.listeners.mlflow_client import Place
from ziggurat.listeners.mlflow_mirror import MlflowMirror
from ziggurat.listeners.mlflow_promotion import checks
from ziggurat.listeners.mlflow_registry import Registry

pytestmark = [pytest.mark.soak, pytest.mark.server, pytest.mark.s3, pytest.mark.postgres]
LONG_S = 240.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    deadline, clock = time.monotonic() + LONG_S, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        clock.wait(0.05)


def test_a_whole_run_is_tracked_registered_promoted_and_can_be_repeated(
    mlflow_server: MlflowServer,
    s3_server: S3Server,
    postgres: Postgres,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = {"uri": mlflow_server.url, "tags": {"team": "vision"}}
    plain = real.plain(name="served", tracking=settings, retrain={"k": 2, "seeds": 1, "epochs": 2})
    run = real.create(tmp_path, plain)
    with real.session(run) as here:
        for stage in (stages.preflight, stages.validate, stages.search, stages.retrain, stages.measure):
            stage(here.engine)
        here.publish()
        here.write_report(here.status())
        run.finish(here.status())
    assert capfd.readouterr().out == "", "standard output is for what a command prints"
    _, page = publishing.look(run.folder, run.spec, run.history)
    assert page.startswith(f"{mlflow_server.url}/#/compare-runs?runs=")
    plain_cursor = json.loads((run.folder / "mlflow.json").read_text())
    parent = plain_cursor["parent"]
    client = mlflow_client.connect(Place(mlflow_server.url, "served"))
    found = client.get_run(parent)
    assert found.info.status == "FINISHED"
    assert found.info.artifact_uri.startswith("mlflow-artifacts:")
    assert found.data.tags["team"] == "vision"
    keys = [o["Key"] for o in s3_server.client().list_objects_v2(Bucket=s3_server.bucket)["Contents"]]
    assert [k for k in keys if k.endswith(f"{parent}/artifacts/spec.yaml")]
    assert [k for k in keys if k.endswith(f"{parent}/artifacts/report/index.html")]
    assert [k for k in keys if k.endswith("data/model.pt2")]
    children = postgres.query("mlflow", "select count(*) from runs where experiment_id > 0")
    assert int(children) >= 1 + len(run.history.trials)

    registry = Registry(Place(mlflow_server.url, ""))
    version = registry.holder("served", "candidate")
    assert version is not None
    best = publishing.best_of(run.spec, run.history)
    assert best is not None
    assert version.facts.trial == best.number
    assert [c.text for c in checks(version.facts, None) if not c.ok] == []
    registry.promote(version, "champion", {})
    assert len(client.search_model_versions("name = 'served'")) == 2
    told = json.loads(_elsewhere(mlflow_server, run.folder, "models:/served@champion", tmp_path))
    assert told["agreement"] == 1.0

    folder = tmp_path / "spec"
    folder.mkdir()
    assert registry.origin(parent, folder).spec == publishing.spec_text(run.folder)


def _elsewhere(server: MlflowServer, folder: Path, uri: str, cwd: Path) -> str:
    """What a process finds that knows neither our code nor pickle: the model against the checkpoint."""
    program = (
        "import json, sys, mlflow, numpy as np\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model(sys.argv[2])\n"
        "assert not any(name.partition('.')[0] == 'ziggurat' for name in sys.modules)\n"
        "x, y = np.load(sys.argv[3]), np.load(sys.argv[4])\n"
        "print(json.dumps({'agreement': float((model.predict(x).argmax(1) == y).mean())}))\n"
    )
    import numpy as np
    import torch

    from ziggurat import runs
    from ziggurat.domain import Job, JobKind
    from ziggurat.jobs import Desk

    spec, history = runs.look(folder)
    best = publishing.best_of(spec, history)
    assert best is not None
    desk = Desk(folder, "test")
    job = Job("x", JobKind.EXPORT, "retrain", best.number, best.candidate, recipe=best.recipe,
              seed=best.seed, checkpoint=best.checkpoint)  # fmt: skip
    model, x = desk._model(job).eval(), desk.data.validation_x
    with torch.no_grad():
        np.save(cwd / "y.npy", model(x).argmax(1).numpy())
    np.save(cwd / "x.npy", x.numpy())
    done = subprocess.run(
        [sys.executable, "-c", program, server.url, uri, str(cwd / "x.npy"), str(cwd / "y.npy")],
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}, cwd=cwd, text=True,
        capture_output=True, check=True, timeout=LONG_S,
    )  # fmt: skip
    return done.stdout.strip().splitlines()[-1]


def test_a_server_that_hangs_in_the_middle_gets_everything_once_it_answers(
    mlflow_server: MlflowServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    run = Run("hanging")
    run.begin()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    place = Place(mlflow_server.url, "hanging")
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    mirror.hurry(on=True)

    def grow(start: int, stop: int) -> None:
        before = len(run.events)
        for number in range(start, stop):
            run.propose(number, parameters=500 + number)
            run.train(number)
        run.feed(mirror, since=before if before > 2 else 0)

    with caplog.at_level(logging.WARNING, "ziggurat"):
        grow(0, 10)
        until(lambda: not mirror.behind)
        mlflow_server.pause()
        try:
            grow(10, 60)
            until(lambda: mirror.down)
        finally:
            mlflow_server.go_on()
        grow(60, 70)
        run.end()
        run.feed(mirror, since=len(run.events) - 2)
        assert mirror.close(LONG_S) == 0
    assert caplog.text.count("cannot be written") == 1
    client = mlflow_client.connect(place)
    experiment = mlflow_client.experiment_id(client, place)
    runs = client.search_runs([experiment], "tags.ziggurat.kind = 'trial'", max_results=1000)
    assert sorted(int(r.data.tags["ziggurat.trial"]) for r in runs) == list(range(70))
    assert {r.info.status for r in runs} == {"FINISHED"}
    curve = client.get_metric_history(runs[0].info.run_id, "val_accuracy")
    assert sorted(m.step for m in curve) == [1, 2, 3]
