"""The command that shows an account which several runs share."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import words
from flows.options import JsonOption, show
from ziggurat import accounts, runs, stores
from ziggurat import spec as specs
from ziggurat.budget import STAGE_LIMIT
from ziggurat.errors import SpecError, near
from ziggurat.run_places import run_id_of
from ziggurat.sharing import open_store
from ziggurat.stores import Store, StoreError


def account(
    where: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|URL", help="A spec with budget.account, or the account's URL in its store."
        ),
    ],
    period: Annotated[
        str | None, typer.Option("--period", metavar="NAME", help="Such as 2026-11; by default the latest.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What an account that several runs share has left, and what each run has of it."""
    try:
        store, name = _place(where)
        data = accounts.shown(store, name, period, time.time())
    except StoreError as error:
        raise SpecError(str(error)) from None
    show(data, text(data), as_json=as_json)


def _place(where: str) -> tuple[Store, str]:
    """The store of an account, and its name."""
    if stores.is_url(where) or Path(where).is_dir():
        store = stores.open_url(where if stores.is_url(where) else str(Path(where).resolve()))
        return store, run_id_of(store)
    spec, _ = specs.read(Path(where))
    if spec.budget.account is None:
        raise SpecError(f"{where}: has no budget.account; name a spec that has one, or the account's URL")
    return open_store(spec.budget.account), spec.budget.account.name


def stage_limits(given: Sequence[str], folder: Path) -> dict[str, float]:
    """New limits of stages of a run, as amendments.

    Raises:
        SpecError: One of them is not STAGE=USD, or the run has no such stage.
    """
    if not given:
        return {}
    spec, _ = runs.look(folder)
    found = {}
    for told in given:
        stage, _, amount = told.partition("=")
        if stage not in spec.priced:
            raise SpecError(f"--stage-limit-usd {told}: no stage '{stage}'; {near(stage, spec.priced)}")
        try:
            usd = float(amount)
        except ValueError:
            usd = math.nan
        if not 0 < usd < math.inf:
            raise SpecError(f"--stage-limit-usd {told}: give an amount above 0, such as {stage}=5")
        found[STAGE_LIMIT + stage] = usd
    return found


def text(data: Mapping[str, Any]) -> str:
    """An account in lines."""
    rows = [
        {
            "run": row["run"],
            "state": row["state"],
            "spent": f"{row['spent_usd']:.4f} USD",
            "reserved": f"{row['reserved_usd']:.4f} USD",
        }
        for row in data["runs"]
    ]
    return (
        f"{data['account']} in {data['period']}: {data['spent_usd']:.4g} USD spent, "
        f"{data['reserved_usd']:.4g} USD reserved, {data['left_usd']:.4g} of {data['limit_usd']:.4g} USD left"
        "\n\n"
        f"{words.table(rows)}"
    )
