"""How a command drives a run: through the Prefect flow, which is imported only now, and with an exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
from enum import IntEnum
from typing import Any, Literal

import typer

from flows import words
from ziggurat.domain import RunStatus
from ziggurat.runs import Interrupted, Run

Flow = Literal["pipeline", "retrain", "measure"]
USUAL = "stopped on request"


class Exit(IntEnum):
    """What the command line returns."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2
    STOPPED_BY_BUDGET = 3
    INTERRUPTED = 4


EXIT_OF = {
    RunStatus.COMPLETED.value: Exit.OK,
    RunStatus.STOPPED_BY_BUDGET.value: Exit.STOPPED_BY_BUDGET,
}


def drive(run: Run, flow: Flow = "pipeline", *, as_json: bool) -> None:
    """Run a flow on a run that this process has taken, and print what came of it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the flow heeds it
    try:
        result, message = _result(run, flow)
    except Interrupted:
        raise Interrupted(run.folder) from None
    except KeyboardInterrupt:
        if run.history.status is RunStatus.RUNNING:  # it came before the flow had begun
            run.finish(RunStatus.INTERRUPTED, USUAL)
            run.close()
        raise Interrupted(run.folder) from None
    if as_json:
        typer.echo(json.dumps(result))
    if result["status"] == RunStatus.INTERRUPTED.value:
        if not message.startswith(USUAL):
            typer.echo(message, err=True)
        raise Interrupted(run.folder)
    if not as_json:
        words.print_outcome(run.spec, run.folder, sys.stdout)
    raise typer.Exit(EXIT_OF.get(str(result["status"]), Exit.FAILED))


def _result(run: Run, flow: Flow) -> tuple[dict[str, Any], str]:
    """The result of a flow, and what its state says; only now is Prefect imported."""
    _quiet_servers()
    from flows import continuing, pipeline
    from tasks import server, session

    flows: dict[Flow, Any] = {
        "pipeline": pipeline.pipeline,
        "retrain": continuing.retrain,
        "measure": continuing.measure,
    }
    server.start()
    state: Any = flows[flow](run_dir=session.hand_over(run), return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, Exception):
        raise result
    return dict(result), str(state.message or "")


def _quiet_servers() -> None:
    """Settings of the servers that Prefect and MLflow start, before either is imported."""
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "ziggurat",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "OMP_NUM_THREADS": "1",
    }.items():
        os.environ.setdefault(name, value)
