"""Commands that look at runs, in a directory or in a store, without taking them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows import words
from flows.options import JsonOption, RunArgument, show
from ziggurat import run_places, runs
from ziggurat.errors import SpecError


def status(run_dir: RunArgument, as_json: JsonOption = False) -> None:
    """Where a run stands."""
    with run_places.reading(run_dir) as folder:
        spec, history = runs.look(folder)
    data = words.status_data(spec, history, run_dir) | {"space_bytes": run_places.space(run_dir, spec)}
    show(data, words.status_text(data), as_json=as_json)


def runs_of(
    where: Annotated[
        str, typer.Argument(metavar="[PLACE]", help="A runs directory, or a store's URL without RUN_ID.")
    ] = "runs",
    as_json: JsonOption = False,
) -> None:
    """The runs of a directory or a store."""
    found = run_places.listed(where)
    show(found, "\n".join(found) or f"{where}: holds no run", as_json=as_json)


def trials(run_dir: RunArgument, as_json: JsonOption = False) -> None:
    """All trials of a run with their state, metrics and cost."""
    with run_places.reading(run_dir) as folder:
        data = words.trials_data(*runs.look(folder))
    show(data, words.trials_text(data), as_json=as_json)


def pareto(run_dir: RunArgument, as_json: JsonOption = False) -> None:
    """The front of a run."""
    from ziggurat.report import front_json, summarize

    with run_places.reading(run_dir) as folder:
        spec, history = runs.look(folder)
    summary = summarize(spec.goals(), history, workers=spec.search.workers)
    if as_json:
        typer.echo(json.dumps(front_json(summary)))
    else:
        words.print_front(summary, sys.stdout)


def report(
    where: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="A run directory, or a store's URL, such as s3://BUCKET/RUN_ID; several with --compare.",
        ),
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="Set several runs side by side instead.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Of a run in a store, by default report-RUN_ID; of a comparison, by default comparison.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report of a run anew, which may still be going on; or compare runs."""
    if compare:
        from flows import comparing

        page, data = comparing.compare(where, out)
        show({"report": str(page), **data}, comparing.text(page, data), as_json=as_json)
        return
    if len(where) > 1:
        raise SpecError(f"{len(where)} runs are given; name one, or add --compare to set them side by side")
    from flows import trial_runs

    path = trial_runs.report(where[0], out)
    show({"report": str(path)}, str(path), as_json=as_json)
