"""The pipeline: preflight, validate, search, approval, retrain, measure, report.

`ziggurat run` and the Prefect deployments both run this flow; a run directory is what it continues from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State

from flows import forms, places, stages
from flows.conducting import conduct
from tasks import identity, session
from ziggurat import runs
from ziggurat.errors import SpecError
from ziggurat.runs import Run

ALL = (
    stages.preflight,
    stages.validate,
    stages.search,
    stages.approval,
    stages.retrain,
    stages.measure,
)


def _name() -> str:
    """The name of a flow run until its run directory is known."""
    given = runtime.flow_run.parameters
    return Path((given["run_dir"] or given["spec"]).partition("?")[0]).name


@flow(name="ziggurat", flow_run_name=_name, validate_parameters=False)
def pipeline(  # noqa: PLR0913, PLR0917 - the form
    spec: str = "examples/digits.yaml",
    search: forms.Search | None = None,
    retrain: forms.Retrain | None = None,
    budget: forms.Budget | None = None,
    overrides: list[str] = [],  # noqa: B006 - the form; nothing is ever added to it
    runs_dir: str = "runs",
    run_dir: str | None = None,
) -> State[dict[str, Any]]:
    """Run a spec, or continue a run; the state says how that ended and holds the result.

    Args:
        spec: Path of the spec on the worker's machine, or its URL in a store.
        search: What is to differ from the spec in the search.
        retrain: What is to differ from the spec in the full training.
        budget: What is to differ from the spec in the budget.
        overrides: Assignments of other keys, such as `launcher.threads=2`.
        runs_dir: Where run directories are made.
        run_dir: A run to continue, instead of a spec: its directory, or its URL in a store.
    """

    def take() -> Run:
        changes = forms.assignments(search=search, retrain=retrain, budget=budget) + list(overrides or [])
        if run_dir is not None:
            if changes:
                raise SpecError(f"{changes[0]}: a run keeps its settings; start a new one, or leave it out")
            return session.taken(run_dir) or places.take(run_dir, runs_dir)
        earlier = identity.earlier(runs_dir)
        if earlier is not None:
            return runs.open_run(earlier)
        return runs.create(*places.read_spec(spec, changes), Path(runs_dir))

    return conduct(take, ALL)
