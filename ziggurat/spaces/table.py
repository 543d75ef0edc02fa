"""A space of measured candidates: a table of a benchmark in place of architectures to train."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from ziggurat import tables
from ziggurat.choices import Scalar, Values
from ziggurat.domain import Candidate, Value
from ziggurat.errors import SpecError, near
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.choices import Choice, Choices
    from ziggurat.protocols import Signature

MAIN = ("accuracy", "curves", "fidelities")
Source = tuple[Path | None, Path | None, Path | None, Path | None, tuple[tuple[str, str], ...]]


class TableSpace(Setting):
    """The candidates of a measured benchmark, for the trainer `table` and the launcher `simulated`.

    What is known before training is read from the table: the columns named under `costs`, and parameters
    and FLOPs where the table has them.
    """

    kind: Literal["table"] = "table"
    architectures: Path | None = Field(
        default=None, description="Archive with the codes of the architectures (ops, code, link)."
    )
    accuracy: Path | None = Field(
        default=None, description="Archive with scores of separate schedules, such as val_acc_200."
    )
    curves: Path | None = Field(
        default=None, description="Archive with learning curves, a column for each epoch."
    )
    fidelities: Path | None = Field(
        default=None, description="Archive with val_acc after each of some budgets, trained separately."
    )
    costs: dict[str, str] = Field(
        default_factory=dict, description="Static metrics by name, each FILE.npz:COLUMN."
    )

    only: dict[str, list[Scalar]] = Field(
        default_factory=dict,
        description="Values that choices keep, by name; by default all of the table's.",
    )

    @field_validator("costs")
    @classmethod
    def _columns(cls, costs: dict[str, str]) -> dict[str, str]:
        for name, place in costs.items():
            if ":" not in place:
                raise ValueError(f"'{name}' is '{place}'; write FILE.npz:COLUMN")
        return costs

    @model_validator(mode="after")
    def _scored(self) -> Self:
        if all(getattr(self, name) is None for name in MAIN):
            raise ValueError(f"a table needs one of {', '.join(MAIN)}; name an .npz file")
        return self

    @property
    def hyperparameters(self) -> dict[str, Choice]:
        """A table has none: its rows were trained by a fixed recipe."""
        return {}

    @property
    def table(self) -> tables.Table:
        """The table, or the part of it that `only` leaves; read once in a process.

        Raises:
            SpecError: It cannot be read, or has none of the values.
        """
        only = tuple((name, tuple(values)) for name, values in self.only.items())
        return _part(
            (self.architectures, self.accuracy, self.curves, self.fidelities, tuple(self.costs.items())), only
        )

    def choices(self) -> Choices:
        """The choices of the table's candidates."""
        return self.table.choices

    def static(self, candidate: Candidate) -> dict[str, float]:
        """What the table knows of a candidate before training; NaN for one without a row."""
        return self.table.known(candidate)

    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that the table knows before training."""
        return tuple(self.table.static)

    def check(self, signature: Signature) -> None:
        """A table is checked when it is read."""
        del signature

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """A table has no models.

        Raises:
            SpecError: Always.
        """
        del candidate, signature
        raise SpecError("space.kind 'table' has no models to build; it is for launcher.kind 'simulated' only")


@functools.lru_cache(maxsize=8)
def _part(source: Source, only: tuple[tuple[str, tuple[Value, ...]], ...]) -> tables.Table:
    """A table, or the part of it whose candidates have certain values; read once in a process.

    Raises:
        SpecError: It cannot be read, or has none of these values.
    """
    table = tables.load(*source)
    try:
        return _restricted(table, dict(only)) if only else table
    except ValueError as error:
        raise SpecError(f"space.only: {error}") from None


def _restricted(table: tables.Table, only: Mapping[str, Sequence[Value]]) -> tables.Table:
    """The part of a table whose candidates have certain values.

    Raises:
        ValueError: A choice or a value is not the table's, or nothing is left.
    """
    for name, values in only.items():
        if name not in table.choices:
            raise ValueError(f"'{name}' is no choice of the table; {near(name, table.choices)}")
        known = [str(v) for v in table.choices[name].model_dump()["values"]]
        for value in values:
            if str(value) not in known:
                raise ValueError(f"{name}: '{value}' is no value of the table; {near(str(value), known)}")
    rows = {c: r for c, r in table.rows.items() if all(c.choices[n] in v for n, v in only.items())}
    if not rows:
        raise ValueError("no candidate of the table has these values; list more of them")
    first: dict[Candidate, Candidate] = {}
    twins = {c: first.setdefault(table.twins[c], c) for c in rows if c in table.twins}
    kept = {n: Values(values=list(only[n])) if n in only else c for n, c in table.choices.items()}
    return replace(table, choices=kept, rows=rows, twins=twins)
