"""The controller of a run as a job of a real Slurm: stopped by its time limit, queued again, and done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployments.small import SMALL
from tests.servers.slurm import SlurmServer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "infra/slurm/controller.sbatch"
PATIENCE_S = 400.0
AGAIN_S = 10.0
"""Seconds in which a job that is queued again would have begun again."""

pytestmark = [pytest.mark.slurm, pytest.mark.soak, pytest.mark.timeout(1000)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with specs and the command line, as users have it on a cluster."""
    spec = yaml.safe_load((ROOT / "examples/digits.yaml").read_text(encoding="utf-8")) | SMALL
    slow = spec | {"fidelities": [{"epochs": 10}, {"epochs": 20}], "search": {**spec["search"], "trials": 5}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(slow), encoding="utf-8")
    command = tmp_path / "bin/ziggurat"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flows.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return tmp_path


def submit(slurm: SlurmServer, place: Path, *words: str) -> int:
    """The number of a new controller."""
    environment = {
        **os.environ,
        **slurm.environment,
        "PATH": f"{place}/bin:{slurm.path}",
        "PYTHONPATH": str(ROOT),
        "RUNS": f"{place}/runs",
    }
    done = subprocess.run(
        ["sbatch", "--parsable", "--mem=4G", "--cpus-per-task=1", "--partition=low", *words],
        cwd=place, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


def shown(slurm: SlurmServer, job: int) -> dict[str, str]:
    """What Slurm knows of a job."""
    text = slurm.run("scontrol", "show", "job", str(job))
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def until(question: Callable[[], Any], slurm: SlurmServer, job: int) -> None:
    """Wait for a true answer, as long as the job may still give one."""
    deadline = time.monotonic() + PATIENCE_S
    while not question():
        found = shown(slurm, job)
        log = Path(found["StdOut"])
        said = log.read_text(errors="replace")[-2000:] if log.exists() else "no log"
        assert found["JobState"] in {"PENDING", "RUNNING", "COMPLETING"} or question(), f"{found} {said}"
        assert time.monotonic() < deadline, f"{found} {said}"
        time.sleep(0.2)


def events(place: Path, job: int) -> list[dict[str, Any]]:
    """The journal of the only run of a controller, once there is one."""
    found = list((place / f"runs/job-{job}").glob("*/journal.jsonl"))
    assert len(found) < 2, "a second run was begun in place of the first"
    lines = found[0].read_text(encoding="utf-8").splitlines(keepends=True) if found else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def trained(place: Path, job: int) -> list[str]:
    ends = [e for e in events(place, job) if e["type"] == "segment_finished" and "-train-" in e["job"]]
    return [e["job"] for e in ends if "failure" not in e]


def test_a_controller_that_meets_its_time_limit_is_queued_again_and_goes_on(slurm_server, place):
    job = submit(slurm_server, place, str(SCRIPT), "spec.yaml")
    until(lambda: trained(place, job), slurm_server, job)
    # what Slurm itself sends three hundred seconds before the limit: to the script alone
    slurm_server.run("scancel", "--signal=TERM", "--batch", str(job))
    until(lambda: shown(slurm_server, job)["Restarts"] == "1", slurm_server, job)
    before = trained(place, job)
    assert [e["status"] for e in events(place, job) if e["type"] == "run_finished"] == ["interrupted"]
    until(lambda: shown(slurm_server, job)["JobState"] == "COMPLETED", slurm_server, job)
    assert [e["status"] for e in events(place, job) if e["type"] == "run_finished"][-1] == "completed"
    assert trained(place, job)[: len(before)] == before
    assert len(trained(place, job)) == len(set(trained(place, job))), "nothing is paid for twice"
    text = (place / f"ziggurat-{job}.log").read_text()
    assert "start 0 of job" in text
    assert "queued again, to go on" in text
    assert f"start 1 of job {job} on" in text.split("queued again")[1], "the log is written on"


def test_a_controller_that_is_cancelled_stays_away(slurm_server, place):
    job = submit(slurm_server, place, str(SCRIPT), "spec.yaml")
    until(lambda: events(place, job), slurm_server, job)
    slurm_server.run("scancel", str(job))
    until(lambda: shown(slurm_server, job)["JobState"] == "CANCELLED", slurm_server, job)
    time.sleep(AGAIN_S)
    assert shown(slurm_server, job)["JobState"] == "CANCELLED"
    assert shown(slurm_server, job)["Restarts"] == "0"


def test_a_bad_spec_is_said_once_and_not_tried_again(slurm_server, place):
    (place / "bad.yaml").write_text("schema_version: 1\n", encoding="utf-8")
    job = submit(slurm_server, place, str(SCRIPT), "bad.yaml")
    until(lambda: shown(slurm_server, job)["JobState"] == "FAILED", slurm_server, job)
    assert shown(slurm_server, job)["ExitCode"] == "2:0"
    assert shown(slurm_server, job)["Restarts"] == "0"


def test_a_controller_without_a_spec_says_what_to_name(slurm_server, place):
    job = submit(slurm_server, place, str(SCRIPT))
    until(lambda: shown(slurm_server, job)["JobState"] == "FAILED", slurm_server, job)
    assert "name a spec: sbatch infra/slurm/controller.sbatch" in (place / f"ziggurat-{job}.log").read_text()


def test_the_script_asks_slurm_for_what_it_says(slurm_server, place):
    job = submit(slurm_server, place, "--hold", str(SCRIPT), "spec.yaml")
    found = shown(slurm_server, job)
    slurm_server.run("scancel", str(job))
    assert (found["Requeue"], found["JobName"], found["TimeLimit"]) == ("1", "ziggurat", "2-00:00:00")
    assert shutil.which("sbatch", path=slurm_server.path)
