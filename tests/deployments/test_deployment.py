"""The pipeline on a real Prefect server: deployed and run by a worker, and as `ziggurat run`."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.small import settle
from tests.servers.prefect import Server, started, until
from ziggurat import processes

STAGES = ["preflight", "validate", "search", "retrain", "measure", "report"]

pytestmark = [pytest.mark.server, pytest.mark.soak]


@pytest.fixture(scope="module")
def server(prefect_server: Server) -> Server:
    settle(prefect_server)
    return prefect_server


def journal(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of a journal."""
    text = (folder / "journal.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def find_one(folder: Path) -> Path | None:
    """The only run directory of a folder, once it is there."""
    return next((p.parent for p in folder.glob("*/journal.jsonl")), None)


def test_a_deployed_run_completes_in_the_directory_of_its_worker(server: Server) -> None:
    made = json.loads(server.command("flows.cli", "prefect", "up", "--json"))
    assert made["deployments"][0] == "ziggurat/nightly"
    deployment = server.call("/deployments/name/ziggurat/nightly")
    assert [s["active"] for s in deployment["schedules"]] == [False]
    words = ["prefect", "worker", "start", "--pool", "ziggurat"]
    with started(server.work / "worker.log", words, server.environment, server.work):
        form = {"search": {"searcher": {"kind": "random"}, "trials": 4}}
        run = server.ended(server.create("ziggurat/nightly", spec="small.yaml", **form))
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
    shown = server.artifacts(run["id"])
    assert set(shown) == {"front", "stages", "progress", "outcome"}
    assert all(a["key"].endswith(folder.name.lower()) for a in shown.values())
    assert "val_accuracy" in json.loads(shown["front"]["data"])[0]
    assert shown["progress"]["data"] == 100.0
    assert processes.marked(f"{folder}::") == []


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
