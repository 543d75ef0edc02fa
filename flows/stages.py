"""One subflow for each stage, so that the Prefect page of a run reads like its table of contents."""

from __future__ import annotations

from typing import Any

from prefect import flow

from tasks import session, stages
from tasks.guard import guard_budget
from ziggurat.stages import approval as approvals


@flow(name="preflight", flow_run_name="preflight", validate_parameters=False)
def preflight(run_dir: str) -> dict[str, Any]:
    """Everything that can be found wrong before money is spent."""
    return stages.run_preflight(run_dir)


@flow(name="validate", flow_run_name="validate", validate_parameters=False)
def validate(run_dir: str) -> dict[str, Any]:
    """A few candidates on a subset, and whether the cheap setting ranks as the dear one."""
    guard_budget(run_dir, "validate")
    return stages.run_validate(run_dir)


@flow(name="search", flow_run_name="search", validate_parameters=False)
def search(run_dir: str) -> dict[str, Any]:
    """Many cheap trials, stopped early."""
    guard_budget(run_dir, "search")
    return stages.run_search(run_dir)


def approval(run_dir: str) -> None:
    """Somebody says whether the full training may begin; the whole run waits, so this is no subflow."""
    if approvals.due(session.of(run_dir).run):
        stages.write_report(run_dir, "running")
        stages.ask_for_approval(run_dir)


@flow(name="retrain", flow_run_name="retrain", validate_parameters=False)
def retrain(run_dir: str) -> dict[str, Any]:
    """The best architectures with the full recipe and several seeds."""
    guard_budget(run_dir, "retrain")
    return stages.run_retrain(run_dir)


@flow(name="measure", flow_run_name="measure", validate_parameters=False)
def measure(run_dir: str) -> dict[str, Any]:
    """Every device, and the sealed test part once."""
    guard_budget(run_dir, "measure")
    summary = stages.run_measure(run_dir)
    stages.publish_model(run_dir)
    return summary


@flow(name="report", flow_run_name="report", validate_parameters=False)
def report(run_dir: str, status: str, reason: str = "") -> str:
    """What was found, what it cost, what it means."""
    return stages.write_report(run_dir, status, reason)
