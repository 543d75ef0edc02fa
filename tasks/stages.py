"""One Prefect task for each step of a run: log a line, call the library, return plain data."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks import session
from tasks.desk import PrefectDesk
from tasks.guard import watching
from ziggurat import stages
from ziggurat.domain import RunStatus


def _summary(run_dir: str, stage: str) -> dict[str, Any]:
    done = session.of(run_dir).run.history.stages.get(stage)
    if done is None:
        return {}
    plain = {k: v for k, v in done.summary.items() if k != "probes"}
    return {"verdict": done.verdict, **plain}


@task(name="check everything", cache_policy=NO_CACHE)
def run_preflight(run_dir: str) -> dict[str, Any]:
    """Find what is wrong before money is spent."""
    with session.at_work(run_dir) as here:
        checks = stages.preflight(here.engine)
    get_run_logger().info("%d checks, %d warnings", len(checks), sum(c.ok is None for c in checks))
    return _summary(run_dir, "preflight")


@task(name="probe the space", cache_policy=NO_CACHE)
def run_validate(run_dir: str) -> dict[str, Any]:
    """Probe the space and the proxy on a subset."""
    get_run_logger().info("probing the space in %s", run_dir)
    with session.at_work(run_dir) as here:
        stages.validate(here.engine)
    return _summary(run_dir, "validate")


@task(name="search", cache_policy=NO_CACHE)
def run_search(run_dir: str) -> dict[str, Any]:
    """Search with early stopping."""
    get_run_logger().info("searching in %s", run_dir)
    with session.at_work(run_dir) as here, watching(here, "search"):
        stages.search(here.engine)
    return _summary(run_dir, "search")


@task(name="ask for an approval", cache_policy=NO_CACHE)
def ask_for_approval(run_dir: str) -> dict[str, Any]:
    """Wait until somebody says whether the full training may begin, on Prefect's pages or by the command."""
    here = session.of(run_dir)
    get_run_logger().info("waiting for an approval: `ziggurat approve %s` or this flow run's page", run_dir)
    with session.at_work(run_dir):
        stages.approve(here.engine, [PrefectDesk()])
    last = here.run.history.decision("approval")
    return {} if last is None else {"verdict": last.verdict, "reason": last.reason}


@task(name="retrain", cache_policy=NO_CACHE)
def run_retrain(run_dir: str) -> dict[str, Any]:
    """Train the best architectures with the full recipe."""
    get_run_logger().info("retraining in %s", run_dir)
    with session.at_work(run_dir) as here, watching(here, "retrain"):
        stages.retrain(here.engine)
    return _summary(run_dir, "retrain")


@task(name="measure", cache_policy=NO_CACHE)
def run_measure(run_dir: str) -> dict[str, Any]:
    """Measure on every device, and evaluate the sealed test part once."""
    get_run_logger().info("measuring in %s", run_dir)
    with session.at_work(run_dir) as here:
        stages.measure(here.engine)
    return _summary(run_dir, "measure")


@task(name="publish the best model", cache_policy=NO_CACHE)
def publish_model(run_dir: str) -> None:
    """Log and register the best model."""
    get_run_logger().info("publishing from %s", run_dir)
    with session.at_work(run_dir) as here:
        here.publish()


@task(name="write the report", cache_policy=NO_CACHE)
def write_report(run_dir: str, status: str, reason: str = "") -> str:
    """Write the report as the run stands."""
    with session.at_work(run_dir) as here:
        here.write_report(RunStatus(status), reason)
    path = f"{run_dir}/report/index.html"
    get_run_logger().info("report: %s", path)
    return path
