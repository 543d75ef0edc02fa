"""Parts of the pipeline by themselves, on a run that is there: retraining, measuring, the report.

Nothing of the run is rewritten: what is asked for is journalled, and the stages do what is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import places, stages, trial_runs
from flows.conducting import conduct, refused
from tasks import identity, session
from ziggurat.errors import JournalError, SpecError
from ziggurat.runs import Run
from ziggurat.stages import again


def _name() -> str:
    return Path(runtime.flow_run.parameters["run_dir"].partition("?")[0]).name


@flow(name="ziggurat", flow_run_name=_name, validate_parameters=False)
def retrain(
    run_dir: str,
    k: int | None = None,
    trials: list[int] | None = None,
    seeds: int | None = None,
    add_usd: float = 0.0,
    runs_dir: str = "runs",
) -> State[dict[str, Any]]:
    """Retrain architectures of a run whose search has ended, and measure them.

    Args:
        run_dir: The run: its directory, or its URL in a store.
        k: How many of the best; by default as its spec has it.
        trials: Which search trials, instead of the best.
        seeds: Trainings of each; by default as its spec has it.
        add_usd: US dollars by which its limit is raised.
        runs_dir: Where a run from a store is continued.
    """

    def take() -> Run:
        wish = again.Wish(k, tuple(trials or ()), seeds, add_usd)
        who = identity.asker()
        return session.taken(run_dir) or places.take(
            run_dir, runs_dir, lambda spec, history: again.retraining(spec, history, wish, who)
        )

    return conduct(take, (stages.retrain, stages.measure))


@flow(name="ziggurat", flow_run_name=_name, validate_parameters=False)
def measure(run_dir: str, runs_dir: str = "runs") -> State[dict[str, Any]]:
    """Measure what has not been measured of a run's retrained models, or has failed.

    Args:
        run_dir: The run: its directory, or its URL in a store.
        runs_dir: Where a run from a store is continued.
    """

    def take() -> Run:
        return session.taken(run_dir) or places.take(
            run_dir, runs_dir, lambda _, history: again.measuring(history)
        )

    return conduct(take, (stages.measure,))


@flow(name="ziggurat", flow_run_name=_name, validate_parameters=False)
def report(run_dir: str, out: str | None = None) -> State[dict[str, Any]]:
    """Write the report of a run anew; the run may still be going on.

    Args:
        run_dir: The run: its directory, or its URL in a store.
        out: Where the report of a run in a store is written; by default `report-RUN_ID`.
    """
    try:
        page = trial_runs.report(run_dir, None if out is None else Path(out))
    except (SpecError, JournalError) as error:
        return refused(error)
    return Completed(message=f"report: {page}", data={"report": str(page)})
