"""A space of measured candidates: a table of a benchmark in place of architectures to train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from ziggurat import tables
from ziggurat.errors import SpecError
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.choices import Choice, Choices
    from ziggurat.domain import Candidate
    from ziggurat.protocols import Signature

MAIN = ("accuracy", "curves", "fidelities")


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
        """The table; read once in a process.

        Raises:
            SpecError: It cannot be read.
        """
        return tables.load(
            self.architectures, self.accuracy, self.curves, self.fidelities, tuple(self.costs.items())
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
