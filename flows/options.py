"""Arguments and options that several commands share, and how a command prints what it has found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="Path of the spec.")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run directory, or a store's URL, such as s3://BUCKET/RUN_ID.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as search.trials=20."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the exact requests of all launchers; start nothing.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]
RunsOption = Annotated[
    Path, typer.Option("--runs-dir", metavar="DIR", help="Where run directories are made.")
]


def show(data: object, text: str, *, as_json: bool) -> None:
    """Print data for people or for programs."""
    typer.echo(json.dumps(data) if as_json else text)
