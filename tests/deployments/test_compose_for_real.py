"""`infra/compose.yaml` as it stands, started service by service without Docker, and a run on it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.servers import composed

SECRETS = {"POSTGRES_PASSWORD": "pg4f1c", "S3_ACCESS_KEY": "s3user", "S3_SECRET_KEY": "s3b77a"}
SMALLER = [
    "search.trials=4",
    "search.workers=1",
    "search.searcher={kind: sobol}",
    "fidelities=[{epochs: 2}, {epochs: 4}]",
    "validate={enabled: false}",
    "retrain={k: 1, seeds: 1, epochs: 4}",
]
ASK = "import urllib.request as u; print(u.urlopen({url!r}, timeout=20).read().decode())"
LISTED = """
import boto3
store = boto3.client("s3", endpoint_url="http://store:8333")
for bucket in ("runs", "mlflow"):
    for page in store.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            print(f"{bucket}/{found['Key']}")
"""

pytestmark = [pytest.mark.server, pytest.mark.soak, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def stack() -> Iterator[composed.Composed]:
    reason = composed.why_not()
    if reason is not None:
        pytest.skip(reason)
    made = composed.Composed(SECRETS)
    try:
        made.up()
        yield made
    finally:
        made.close()


def test_all_that_stays_is_running_and_well(stack):
    services = stack.file["services"]
    assert stack.running() == {name for name, service in services.items() if service["restart"] != "no"}
    assert "ziggurat/on-demand" in stack.log("setup")


def test_a_spec_of_the_mounted_folder_runs_with_store_and_tracking(stack):
    words = ["prefect", "deployment", "run", "ziggurat/on-demand", "--param", "spec=specs/digits.yaml"]
    done = stack.execute(
        "worker", *words, "--param", f"overrides={json.dumps(SMALLER)}", "--watch", timeout_s=600
    )
    assert done.returncode == 0, f"{done.stdout} {stack.log('worker')}"
    run = stack.execute("worker", "ziggurat", "runs", "s3://runs/ziggurat?endpoint=http://store:8333")
    (name,) = run.stdout.split()
    status = stack.execute("worker", "ziggurat", "status", f"runs/{name}", "--json")
    assert json.loads(status.stdout)["status"] == "completed"
    kept = stack.execute("worker", "python", "-c", LISTED).stdout.split()
    assert f"runs/ziggurat/{name}/journal/00000000.jsonl" in kept
    assert any(key.startswith("mlflow/") and key.endswith("spec.yaml") for key in kept)
    url = "http://mlflow:5000/api/2.0/mlflow/experiments/get-by-name?experiment_name=digits"
    shown = stack.execute("worker", "python", "-c", ASK.format(url=url))
    assert json.loads(shown.stdout)["experiment"]["name"] == "digits"
    assert f"{name}  " in stack.log("watch"), "the watchdog sees the runs of the worker"


@pytest.mark.parametrize("service", ["worker", "prefect", "mlflow", "watch"])
def test_a_service_has_no_rights_and_can_write_to_scratch_space_and_runs_alone(stack, service):
    script = (
        f"id -u; grep CapBnd /proc/self/status; for d in / $HOME {composed.ROOT} {composed.HOME} "
        f"{composed.HOME}/specs {composed.HOME}/runs; do touch $d/try 2>/dev/null && echo $d; done"
    )
    lines = stack.execute(service, "sh", "-c", script).stdout.splitlines()
    assert lines[:2] == [composed.USER, "CapBnd:\t0000000000000000"]
    runs = [f"{composed.HOME}/runs"] if service in {"worker", "watch"} else []
    assert lines[2:] == ["/tmp", *runs]


def test_secrets_are_those_of_each_service_alone(stack):
    for service, known in {"watch": set(), "setup": set(), "prefect": {"POSTGRES_PASSWORD"}}.items():
        variables = stack.file["services"][service]["environment"].values()
        found = {name for name, value in SECRETS.items() if any(value in v for v in variables)}
        assert found == known


def test_the_store_asks_for_its_keys(stack):
    words = ["env", "AWS_SECRET_ACCESS_KEY=wrong", "python", "-c", LISTED]
    assert "SignatureDoesNotMatch" in stack.execute("worker", *words).stderr


def test_databases_ask_for_their_password(stack):
    script = "import psycopg2; psycopg2.connect('postgresql://ziggurat:wrong@postgres:5432/prefect')"
    assert "password authentication failed" in stack.execute("worker", "python", "-c", script).stderr
