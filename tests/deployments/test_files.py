"""The files in deployments/: deployments that name flows which exist, automations that Prefect accepts."""

import importlib
from pathlib import Path

import pytest
import yaml
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.utilities.callables import parameter_schema

from flows import raising
from ziggurat.errors import SpecError

FOLDER = Path(__file__).resolve().parents[2] / "deployments"
DEPLOYMENTS = yaml.safe_load((FOLDER / "prefect.yaml").read_text())["deployments"]
AUTOMATIONS = yaml.safe_load((FOLDER / "automations.yaml").read_text())
BLOCK = "5f0c2b3a-0000-4000-8000-000000000000"


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_a_deployment_names_a_flow_and_parameters_that_it_has(deployment):
    module, _, name = deployment["entrypoint"].partition(":")
    flow = getattr(importlib.import_module(module), name)
    known = parameter_schema(flow).properties
    assert set(deployment.get("parameters", {})) <= set(known)
    assert flow.name == "ziggurat"
    assert deployment["description"]
    assert "ziggurat" in deployment["tags"]


def test_nothing_is_spent_by_a_deployment_alone():
    schedules = [s for d in DEPLOYMENTS for s in d.get("schedules", [])]
    assert schedules
    assert not any(s["active"] for s in schedules)


def test_what_trains_runs_one_at_a_time():
    alone = {d["name"] for d in DEPLOYMENTS if d.get("concurrency_limit", {}).get("limit") == 1}
    assert alone == {"nightly", "on-demand", "retrain", "measure"}


def accepted():
    sending = [raising._sending(a, BLOCK) for a in AUTOMATIONS["notify"]]
    return {a["name"]: AutomationCore.model_validate(a) for a in [*AUTOMATIONS["always"], *sending]}


def test_prefect_accepts_every_automation():
    assert len(accepted()) == len(AUTOMATIONS["always"]) + len(AUTOMATIONS["notify"])


def test_no_secret_or_address_is_in_the_file():
    text = (FOLDER / "automations.yaml").read_text()
    assert "http" not in text
    assert "block_document_id" not in text


def test_a_run_is_tried_again_twice_at_most_and_only_if_it_had_begun():
    trigger = accepted()["ziggurat: try again"].trigger
    assert isinstance(trigger, EventTrigger)
    assert trigger.match.model_dump()["prefect.run-count"] == ["1", "2"]
    assert set(trigger.expect) == {"prefect.flow-run.Crashed"}, "no user error and no budget stop"


def test_silence_is_longer_than_two_heartbeats():
    trigger = accepted()["ziggurat: no sign of life"].trigger
    pool = yaml.safe_load((FOLDER / "prefect.yaml").read_text())["definitions"]["work_pool"]
    beat_s = int(pool["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert beat_s >= 30, "Prefect takes no less"
    assert trigger.within.total_seconds() >= 3 * beat_s


def test_the_command_needs_a_server(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(SpecError, match="PREFECT_API_URL: is not set"):
        raising.up()
