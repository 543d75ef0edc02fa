"""The pipeline: preflight, validate, search, retrain, measure, report.

`ziggurat run` and a Prefect deployment both run this flow; a run directory is what it continues from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed, Failed

from flows import stages
from tasks import publish, session
from ziggurat import runs
from ziggurat import spec as specs
from ziggurat.domain import RunStatus
from ziggurat.errors import JournalError, SpecError, ZigguratError
from ziggurat.runs import Interrupted, Run
from ziggurat.session import Session


def _name() -> str:
    """The name of a flow run until its run directory is known."""
    given = runtime.flow_run.parameters
    return Path(given["run_dir"] or given["spec"]).name


@flow(name="ziggurat", flow_run_name=_name, validate_parameters=False)
def pipeline(
    spec: str = "examples/digits.yaml",
    runs_dir: str = "runs",
    overrides: list[str] | None = None,
    run_dir: str | None = None,
) -> State[dict[str, Any]]:
    """Run a spec, or continue a run directory; the state says how that ended and holds the result.

    Args:
        spec: Path of the spec; ignored if a run directory is given.
        runs_dir: Where run directories are made.
        overrides: Assignments such as `search.trials=20`.
        run_dir: A run directory to continue.
    """
    run = _take(spec, runs_dir, overrides or [], run_dir)
    get_run_logger().info("run directory: %s", run.folder)
    try:
        with session.heeding_signals(run), session.opened(run, sys.stderr) as here:
            return _stages(str(run.folder), here)
    except SpecError:
        if run.fresh and not run.history.segments:
            run.remove()  # nothing was paid for, so nothing is left behind
        raise


def _stages(run_dir: str, here: Session) -> State[dict[str, Any]]:
    """The table of contents, and how a run ends."""
    try:
        stages.preflight(run_dir)
        stages.validate(run_dir)
        stages.search(run_dir)
        stages.retrain(run_dir)
        stages.measure(run_dir)
        status, reason = here.status(), ""
    except (Interrupted, KeyboardInterrupt, TerminationSignal) as stop:
        why = str(stop) if isinstance(stop, Interrupted) else "stopped on request"
        here.run.finish(RunStatus.INTERRUPTED, why)
        words = f"{why}; continue with `ziggurat resume {run_dir}`"
        return Cancelled(message=words, data=here.result())
    except (SpecError, JournalError):
        raise
    except ZigguratError as error:
        status, reason = RunStatus.FAILED, str(error)
    stages.report(run_dir, status.value, reason)
    publish.publish_tables(run_dir)
    here.run.finish(status, reason)
    here.raise_alerts()
    return _end(status, reason, here.result())


def _end(status: RunStatus, reason: str, result: dict[str, Any]) -> State[dict[str, Any]]:
    """The state in which Prefect shows a run that went through all its stages, or failed in one."""
    if status is RunStatus.FAILED:
        return Failed(message=reason, data=result)
    counts = result["trials"]
    front = len(result["front"])
    found = f"{counts['total']} trials, {front} on the front, {result['cost_usd']:.4g} USD"
    if status is RunStatus.STOPPED_BY_BUDGET:
        return Completed(name="Stopped by budget", message=found, data=result)
    return Completed(message=found, data=result)


def _take(spec: str, runs_dir: str, overrides: list[str], run_dir: str | None) -> Run:
    """The run that the command line has taken already, or an existing or new one."""
    if run_dir is not None:
        return session.taken(run_dir) or runs.open_run(Path(run_dir))
    parsed, raw = specs.read(Path(spec), overrides)
    run = runs.create(parsed, raw, Path(runs_dir))
    _rename(run.run_id)
    return run


def _rename(name: str) -> None:
    """Have Prefect show this flow run under the name of its run directory."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_name(runtime.flow_run.id, name)
