"""A platform team's day on a real server with PostgreSQL, a process pool and a worker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.deployments.small import settle
from tests.servers.prefect import Server, started, until

pytestmark = [pytest.mark.server, pytest.mark.soak, pytest.mark.postgres, pytest.mark.timeout(900)]
WORKER = ["prefect", "worker", "start", "--pool", "ziggurat"]
QUIET_S = 40.0
"""Seconds after a cancellation until Prefect's worker has done with it."""


@pytest.fixture(scope="module")
def server(prefect_server: Server) -> Server:
    assert prefect_server.on_postgres
    settle(prefect_server)
    for _ in range(2):  # done again, it changes nothing
        prefect_server.command("flows.cli", "prefect", "up")
    return prefect_server


@contextmanager
def working(server: Server, log: str) -> Iterator[psutil.Process]:
    """A worker, and everything it has started."""
    with started(server.work / log, WORKER, server.environment, server.work) as process:
        yield psutil.Process(process.pid)


def folder_of(server: Server, run_id: str) -> Path:
    """The run directory of a flow run, once it has one."""
    found = until(lambda: server.run(run_id)["labels"].get("ziggurat.run_dir"), 180, "a run has begun")
    return Path(str(found))


def events(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "journal.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def trained(folder: Path) -> list[str]:
    """Keys of the training segments that came to a result."""
    ends = [e for e in events(folder) if e["type"] == "segment_finished" and "-train-" in e["job"]]
    return [e["job"] for e in ends if "failure" not in e]


def resume(server: Server, run_id: str, **answer: Any) -> dict[str, Any]:
    """Send the form of a paused run."""
    found: dict[str, Any] = server.call(f"/flow_runs/{run_id}/resume", {"run_input": answer})
    return found


def test_what_is_set_up_twice_is_there_once(server: Server) -> None:
    names = [a["name"] for a in server.call("/automations/filter", {})]
    assert sorted(names) == ["ziggurat: no sign of life", "ziggurat: try again"]
    deployments = [d["name"] for d in server.call("/deployments/filter", {})]
    assert sorted(deployments) == ["measure", "nightly", "on-demand", "report", "retrain"]


def test_a_run_is_triggered_approved_on_its_page_and_retrained_once_more(server: Server) -> None:
    with working(server, "approve.log"):
        form = {"search": {"trials": 4}, "retrain": {"approval": {"wanted": True}}}
        run_id = server.create("ziggurat/on-demand", spec="small.yaml", **form, budget={"limit_usd": 5})
        server.reached(run_id, "PAUSED")
        folder = folder_of(server, run_id)
        assert resume(server, run_id, k=1)["status"] == "REJECT", "whether it may go on has to be said"
        assert resume(server, run_id, decision="approve", drop=[99])["status"] == "ACCEPT"
        until(
            lambda: "drop: trial 99 is no candidate" in (server.work / "approve.log").read_text(), 60, "asked"
        )
        server.reached(run_id, "PAUSED")
        resume(server, run_id, decision="approve", k=1, add_usd=1, comment="fine", name="Ada")
        run = server.ended(run_id, 180)
        assert run["state_type"] == "COMPLETED"
        done = [e for e in events(folder) if e["type"] == "decision" and e["kind"] == "approval"]
        assert [e["verdict"] for e in done] == ["wanted", "approved"]
        assert done[-1]["reason"] == "approved by Ada (Prefect): fine"
        assert [e["changes"] for e in events(folder) if e["type"] == "amended"] == [
            {"retrain.k": 1, "budget.limit_usd": 6.0}
        ]
        before = trained(folder)
        run = server.ended(server.create("ziggurat/retrain", run_dir=str(folder), seeds=2), 180)
        assert run["state_type"] == "COMPLETED", run["state"]["message"]
        new = set(trained(folder)) - set(before)
        assert new, "a second seed"
        run = server.ended(server.create("ziggurat/report", run_dir=str(folder)), 120)
        assert run["state"]["message"] == f"report: {folder}/report/index.html"
        run = server.ended(server.create("ziggurat/retrain", run_dir="runs/none"), 120)
        assert (run["state_type"], "no run directory" in run["state"]["message"]) == ("FAILED", True)


def test_a_cancelled_run_stops_its_jobs_and_a_retry_goes_on_with_it(server: Server) -> None:
    with working(server, "cancel.log"):
        run_id = server.create("ziggurat/on-demand", spec="slow.yaml")
        folder = folder_of(server, run_id)
        until(lambda: trained(folder), 180, "a trial reaches its first rung")
        server.set_state(run_id, "CANCELLING", "Cancelling")
        run = server.reached(run_id, "CANCELLED", seconds=30)
        assert f"ziggurat resume {folder}" in run["state"]["message"]
        assert [e["status"] for e in events(folder) if e["type"] == "run_finished"] == ["interrupted"]
        outcome = until(lambda: server.artifacts(run_id).get("outcome"), 30, "the page says how it stands")
        assert f"ziggurat resume {folder}" in outcome["data"]
        log = server.work / "cancel.log"
        until(lambda: "Cancelled flow run" in log.read_text(errors="replace"), QUIET_S, "the worker has done")
        before = trained(folder)
        server.set_state(run_id, "SCHEDULED", "AwaitingRetry")
        run = server.reached(run_id, "COMPLETED", "FAILED", "CRASHED", seconds=400)
    assert (run["state_type"], run["run_count"]) == ("COMPLETED", 2)
    assert folder_of(server, run_id) == folder
    assert trained(folder)[: len(before)] == before
    assert len(trained(folder)) == len(set(trained(folder))), "nothing is paid for twice"


def test_a_lost_host_is_noticed_and_the_run_goes_on_elsewhere(server: Server) -> None:
    with working(server, "lost.log") as worker:
        run_id = server.create("ziggurat/on-demand", spec="slow.yaml")
        folder = folder_of(server, run_id)
        until(lambda: trained(folder), 180, "a trial reaches its first rung")
        everything = [worker, *worker.children(recursive=True)]
        for process in everything:
            kill(process)
    server.reached(run_id, "CRASHED", "SCHEDULED", seconds=150)
    server.reached(run_id, "SCHEDULED", seconds=30)
    names = [s["name"] for s in server.call(f"/flow_run_states/?flow_run_id={run_id}")]
    assert names[-2:] == ["Crashed", "AwaitingRetry"]
    before = trained(folder)
    with working(server, "found.log"):
        run = server.reached(run_id, "COMPLETED", "FAILED", seconds=400)
    assert (run["state_type"], run["run_count"]) == ("COMPLETED", 2), run["state"]["message"]
    assert trained(folder)[: len(before)] == before
    assert len(trained(folder)) == len(set(trained(folder)))


def kill(process: psutil.Process) -> None:
    """Kill a process as the end of its host would."""
    if process.is_running():
        os.kill(process.pid, signal.SIGKILL)
