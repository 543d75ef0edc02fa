"""The command line. `ziggurat run` is the Prefect flow; all other commands read, check or measure.

Only `run`, `resume`, `retrain` and `measure` import Prefect, and only after the run's journal exists.
Exit codes: 0 ok, 1 failed, 2 bad input, 3 stopped by budget, 4 interrupted (resumable).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import accounts, approving, looking, pricing, raising, repeating, tracking, watching, words
from flows.driving import Exit, drive
from flows.options import DryRunOption, JsonOption, RunsOption, SetOption, SpecArgument, show
from ziggurat import __version__, run_places, runs
from ziggurat import spec as specs
from ziggurat.errors import JournalError, RunBusyError, SpecError, ZigguratError
from ziggurat.runs import Interrupted

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find the Pareto front of network architectures for a device, inside a budget.",
)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="SPEC", help="File to write.")] = Path("spec.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented starter spec."""
    if path.exists() and not force:
        raise SpecError(f"{path}: exists already; name another file or add --force")
    try:
        path.write_text(words.STARTER.read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be written ({error.strerror})") from None
    typer.echo(f"wrote {path}; next: ziggurat validate {path}")


@app.command()
def validate(spec: SpecArgument, sets: SetOption = None, as_json: JsonOption = False) -> None:
    """Check a spec without running anything."""
    parsed, _ = specs.read(spec, sets or [])
    parsed.search.check()
    data = {"valid": True, "name": parsed.name, "sha256": parsed.sha256()}
    show(data, f"{spec}: valid ({parsed.name}, {parsed.search.trials} trials)", as_json=as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a spec."""
    typer.echo(json.dumps(specs.schema(), indent=2))


@app.command()
def preflight(spec: SpecArgument, sets: SetOption = None, as_json: JsonOption = False) -> None:
    """Check everything that can be checked before money is spent; nothing is created."""
    from flows import trial_runs

    found = trial_runs.inspect(spec, sets or [])
    text = words.checks(found.checks, found.seconds)
    show([c.plain() for c in found.checks], text, as_json=as_json)
    if found.failed:
        raise typer.Exit(Exit.BAD_INPUT)


@app.command()
def estimate(
    what: Annotated[
        str, typer.Argument(metavar="SPEC|RUN", help="A spec, or a run: its directory, or a store's URL.")
    ],
    sets: SetOption = None,
    regions: pricing.RegionsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast time and cost of every stage, with an interval, and where it would cost less.

    Of a spec from a few measured batches, of a run from what it has trained so far.
    """
    from flows import forecast_words, forecasts

    data = forecasts.of(what, sets or [], regions or [])
    show(data, forecast_words.text(data, forecast_words.width()), as_json=as_json)


@app.command()
def run(  # noqa: PLR0913, PLR0917 - options
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="Path of the spec, unless a run is repeated.")
    ] = None,
    sets: SetOption = None,
    runs_dir: RunsOption = Path("runs"),
    from_mlflow: tracking.FromOption = None,
    uri: tracking.UriOption = None,
    dry: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run all stages of a spec, or of a run that MLflow has."""
    with tracking.source(spec, from_mlflow, uri, runs_dir) as found:
        if dry:
            from flows import dry_run

            planned = dry_run.requests(found.path, sets or [], runs_dir)
            show(dry_run.plain(planned), dry_run.text(planned), as_json=as_json)
            return
        parsed, raw = specs.read(found.path, sets or [])
    created = runs.create(parsed, raw, runs_dir)
    tracking.note_origin(created, found)
    drive(created, as_json=as_json)


@app.command()
def resume(
    run_dir: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="A run directory or a store's URL; by default the youngest run."
        ),
    ] = None,
    runs_dir: RunsOption = Path("runs"),
    limit_usd: Annotated[
        float | None, typer.Option("--limit-usd", min=0, help="New budget.limit_usd of the run.")
    ] = None,
    stage_limits: Annotated[
        list[str] | None,
        typer.Option("--stage-limit-usd", metavar="STAGE=USD", help="New limit of a stage of the run."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Continue a run that was interrupted, was killed, has lost its machine, or has got a larger budget."""
    if run_dir is None:
        folder = runs.latest(runs_dir)
    else:
        folder = run_places.fetch(run_dir, runs_dir) if run_places.in_store(run_dir) else Path(run_dir)
    amendments = {} if limit_usd is None else {"budget.limit_usd": limit_usd}
    amendments |= accounts.stage_limits(stage_limits or [], folder)
    taken = runs.open_run(folder, amendments)
    drive(taken, as_json=as_json)


for command in (looking.status, looking.trials, looking.pareto, looking.report):
    app.command()(command)
app.command()(approving.approve)
app.command()(repeating.retrain)
app.command()(repeating.measure)
app.command(name="runs")(looking.runs_of)
app.add_typer(raising.app, name="prefect")
app.add_typer(pricing.app, name="prices")
app.command()(watching.watch)
app.command()(tracking.promote)
app.command()(accounts.account)


@app.command()
def profile(  # noqa: PLR0913, PLR0917 - options
    spec: SpecArgument,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", min=1, max=1000, help="Candidates to measure; by default 5, with --validate 50."
        ),
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="Build a latency table, or go on with it.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--validate", metavar="FILE", help="Compare a latency table with measured models."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="Of the table; by default the first one.")
    ] = None,
    models: Annotated[int, typer.Option("--models", help="Whole models for the fit of a table.")] = 24,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Other models for --validate.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw what --validate finds."),
    ] = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure sampled candidates on every device of the spec; build and validate latency tables."""
    from flows import latency_tables, trial_runs

    if table is not None and check is not None:
        raise SpecError("--table and --validate are two steps; build the table first")
    if table is not None:
        data = latency_tables.make(spec, sets or [], table, device, models)
        show(data, latency_tables.made_text(data), as_json=as_json)
    elif check is not None:
        data = latency_tables.check(
            spec, sets or [], check, device=device, count=count or 50, seed=seed, plot=plot
        )
        show(data, latency_tables.checked_text(data), as_json=as_json)
    else:
        rows = trial_runs.profile(spec, sets or [], count or 5)
        show(rows, words.table(rows), as_json=as_json)


@app.command()
def doctor(
    alerts: Annotated[
        Path | None,
        typer.Option("--alerts", metavar="SPEC", help="Send a test message to every channel of a spec."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Versions of what is installed, and what this machine offers; or whether alerts arrive."""
    if alerts is not None:
        found = watching.try_channels(alerts)
        show(found, watching.tried_text(alerts, found), as_json=as_json)
        raise typer.Exit(Exit.OK if all(found.values()) else Exit.FAILED)
    data = words.doctor_data()
    show(data, words.doctor_text(data), as_json=as_json)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What typer raises for a command line that it cannot use; it exports no name for it."""


def guarded(command: Callable[[], Any]) -> int:
    """The exit code of a command; errors that a user can mend become one line on standard error."""
    try:
        code = command()
    except USAGE_ERROR as error:
        _complain(error)
        return Exit.BAD_INPUT
    except (SpecError, RunBusyError, JournalError) as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        return Exit.BAD_INPUT
    except (Interrupted, KeyboardInterrupt) as error:
        typer.echo(f"interrupted; continue with: ziggurat resume {error}".rstrip(), err=True)
        return Exit.INTERRUPTED
    except ZigguratError as error:
        typer.echo(f"error: {error}", err=True)
        return Exit.FAILED
    return code if isinstance(code, int) else Exit.OK


def _complain(error: Any) -> None:  # noqa: ANN401 - typer's exception, see above
    """Say what is wrong with a command line, and where to read how it is used."""
    text = str(error.format_message()).strip().rstrip(".")
    path = error.ctx.command_path if error.ctx is not None else "ziggurat"
    if text:  # without any command, help has been printed instead
        typer.echo(f"error: {text}; see `{path} --help`", err=True)


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.name.startswith(("prefect", "alembic")))
    sys.exit(guarded(lambda: app(prog_name="ziggurat", standalone_mode=False)))


if __name__ == "__main__":
    main()
