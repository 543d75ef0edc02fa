"""`ziggurat retrain` and `ziggurat measure`: a stage of a run by itself, once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import places
from flows.approving import numbers, who
from flows.driving import drive
from flows.options import JsonOption, RunArgument, RunsOption


def retrain(  # noqa: PLR0913, PLR0917 - options
    run_dir: RunArgument,
    trials: Annotated[
        list[str] | None,
        typer.Option("--trials", metavar="TRIAL,...", help="Search trials instead of the best, such as 3,7."),
    ] = None,
    k: Annotated[int | None, typer.Option("--k", min=1, max=1000, help="How many of the best.")] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, max=100, help="Trainings of each.")] = None,
    add_usd: Annotated[
        float, typer.Option("--add-usd", min=0, help="US dollars by which the limit is raised.")
    ] = 0.0,
    runs_dir: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Retrain others, more, or with more seeds, of a run whose search has ended, and measure them.

    What is there stays there; only what is missing is trained. Whoever asks for it approves of it.
    """
    from ziggurat.stages import again

    wish = again.Wish(k, numbers("--trials", trials or []), seeds, add_usd)
    asker = f"{who()} at {places.now()}"
    taken = places.take(run_dir, runs_dir, lambda spec, past: again.retraining(spec, past, wish, asker))
    drive(taken, "retrain", as_json=as_json)


def measure(run_dir: RunArgument, runs_dir: RunsOption = Path("runs"), as_json: JsonOption = False) -> None:
    """Measure what has not been measured of a run's retrained models, or has failed."""
    from ziggurat.stages import again

    taken = places.take(run_dir, runs_dir, lambda _, past: again.measuring(past))
    drive(taken, "measure", as_json=as_json)
