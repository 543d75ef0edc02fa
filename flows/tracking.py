"""Commands that work with what MLflow keeps: promoting a model, and repeating a run from there."""

from __future__ import annotations

import datetime
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from flows.options import JsonOption, RunsOption, show
from ziggurat import publishing, run_places, runs
from ziggurat.checks import Check
from ziggurat.errors import SpecError
from ziggurat.events import Decided, Facts
from ziggurat.listeners import Tracking
from ziggurat.listeners.mlflow_about import REPEATED
from ziggurat.listeners.mlflow_client import Place, place_of, user
from ziggurat.listeners.mlflow_promotion import checks
from ziggurat.listeners.mlflow_registry import Origin, Registry, Version
from ziggurat.listeners.tracking import CHAMPION
from ziggurat.runs import Run

UriOption = Annotated[
    str | None,
    typer.Option(
        "--uri",
        metavar="URI",
        help="Of MLflow; by default the run's own, else MLFLOW_TRACKING_URI or mlflow.db in --runs-dir.",
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option("--from-mlflow", metavar="RUN_ID", help="Repeat a run that MLflow has, instead of SPEC."),
]
_VERSION = re.compile(r"([^/@:]+)(?:/(\d+)|@([A-Za-z][A-Za-z0-9_-]*))")
_ALIAS = re.compile(r"(?!v\d+$|latest$)[A-Za-z][A-Za-z0-9_-]{0,62}")


def promote(
    what: Annotated[
        str, typer.Argument(metavar="RUN|MODEL/VERSION", help="A run's best model, or a version of a model.")
    ],
    alias: Annotated[str, typer.Option("--alias", help="What the version is made.")] = CHAMPION,
    force: Annotated[
        str | None, typer.Option("--force", metavar="REASON", help="Promote although a check has failed.")
    ] = None,
    uri: UriOption = None,
    runs_dir: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Make a version of a registered model the champion, if it passes its checks; else nothing changes."""
    if _ALIAS.fullmatch(alias) is None:
        raise SpecError(
            f"--alias {alias!r}: use a letter and then letters, digits, _ or -, and neither 'latest' nor 'v1'"
        )
    if force is not None and not force.strip():
        raise SpecError("--force needs a reason, which is kept with the version; write one")
    registry, version = _named(what, uri, runs_dir)
    held = registry.holder(version.name, alias)
    if held is not None and held.number == version.number:
        show({"version": version.shown, "alias": alias, "promoted": False, "checks": []},
             f"{version.shown} is '{alias}' already", as_json=as_json)  # fmt: skip
        return
    found = checks(version.facts, held.facts if held else None, held.shown if held else "")
    refused = any(c.ok is False for c in found) and force is None
    if not refused:
        registry.promote(version, alias, _reasons(found, held, force))
    plain = [{"name": c.name, "ok": c.ok, "text": c.text} for c in found]
    data = {"version": version.shown, "alias": alias, "promoted": not refused, "checks": plain}
    show(data, _told(version, alias, found, refused=refused), as_json=as_json)
    if refused:
        raise typer.Exit(1)


def _named(what: str, uri: str | None, runs_dir: Path) -> tuple[Registry, Version]:
    """The version that a run, MODEL/VERSION or MODEL@ALIAS names, and where it is registered."""
    match = _VERSION.fullmatch(what)
    if match is not None and not Path(what).exists():
        name, number, alias = match.groups()
        registry = Registry(_place(uri, runs_dir))
        version = registry.version(name, number) if number else registry.holder(name, alias)
        if version is None:
            raise SpecError(f"{what}: no version has the alias '{alias}'; name a version by its number")
        return registry, version
    with run_places.reading(what) as folder:
        spec, history = runs.look(folder)
        if not spec.tracking.enabled and uri is None:
            raise SpecError(f"{what}: the run was not tracked (tracking.enabled is false); name --uri")
        own = place_of(spec.tracking, folder.resolve().parent, spec.name)
    best = publishing.best_of(spec, history)
    if best is None:
        raise SpecError(f"{what}: no model was retrained to the end; continue it with `ziggurat resume`")
    registry = Registry(own if uri is None else _place(uri, runs_dir))
    name = spec.tracking.model_name or spec.name
    return registry, registry.of_trial(name, history.run_id, best.number)


def _place(uri: str | None, runs_dir: Path) -> Place:
    """MLflow at an address, at that of the environment, or in the database in a directory of runs."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or None
    try:
        settings = Tracking(uri=uri)
    except ValidationError as error:
        text = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise SpecError(f"--uri: {text}") from None
    address = settings.address(runs_dir)
    if uri is None and not (runs_dir / "mlflow.db").is_file():
        raise SpecError(f"{runs_dir}/mlflow.db: there is none; name --uri or another --runs-dir")
    return Place(address, "")


def _reasons(found: list[Check], held: Version | None, force: str | None) -> dict[str, str]:
    """Tags that say when, by whom and on what grounds a version was promoted."""
    now = datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
    tags = {
        "ziggurat.promoted_utc": now,
        "ziggurat.promoted_by": user(),
        "ziggurat.promotion": json.dumps([{"name": c.name, "ok": c.ok, "text": c.text} for c in found]),
        "ziggurat.replaced": held.shown if held else "nothing",
    }
    failed = [c.name for c in found if c.ok is False]
    if force is not None and failed:
        tags["ziggurat.forced"] = f"{force.strip()[:2000]} (in spite of: {', '.join(failed)})"
    return tags


def _told(version: Version, alias: str, found: list[Check], *, refused: bool) -> str:
    width = max(len(c.name) for c in found)
    lines = [f"{version.shown}: trial {version.facts.trial} of {version.facts.run_id}"]
    for check in found:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name.ljust(width)}  {check.text}")
        if check.ok is False and check.cure:
            lines.append(f"{' ' * (width + 8)}cure: {check.cure}")
    end = "refused, and nothing was changed" if refused else f"{version.shown} is '{alias}' now"
    return "\n".join([*lines, end])


@dataclass(frozen=True)
class Source:
    """Where a spec comes from: a file, and the run in MLflow that it was taken from, if it was."""

    path: Path
    origin: Origin | None = None


@contextmanager
def source(spec: Path | None, run: str | None, uri: str | None, runs_dir: Path) -> Iterator[Source]:
    """The spec of a file, or that of a run in MLflow while the block lasts.

    Raises:
        SpecError: Neither or both are named, or MLflow has no such spec.
    """
    if (spec is None) == (run is None):
        raise SpecError("name either a SPEC or --from-mlflow RUN_ID; `ziggurat run --help` says more")
    if spec is not None:
        yield Source(spec)
        return
    assert run is not None
    with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
        found = Registry(_place(uri, runs_dir)).origin(run, Path(folder))
        path = Path(folder) / "repeated.yaml"
        path.write_text(found.spec, encoding="utf-8")
        try:
            yield Source(path, found)
        except SpecError as error:
            raise SpecError(str(error).replace(str(path), f"spec of MLflow run {found.run}")) from None


def note_origin(run: Run, found: Source) -> None:
    """Write into the journal which run this one repeats, and say whether its spec is the same."""
    if found.origin is None:
        return
    same = found.origin.sha256 == run.spec.sha256()
    facts: Facts = {"run_id": found.origin.run_id, "spec_sha256": found.origin.sha256, "same_spec": same}
    reason = f"repeats {found.origin.run_id}" + ("" if same else " with another spec")
    run.record([Decided(REPEATED, found.origin.run, seen=run.history.length, reason=reason, facts=facts)])
    other = "with another spec (by --set, by variables, or by the defaults of another version)"
    how = "with the same spec" if same else other
    typer.echo(f"repeating {found.origin.run_id} {how}", err=True)
