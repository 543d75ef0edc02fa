"""A trainer that trains nothing: it answers with what a table has measured, and how long it took."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ziggurat.domain import Failure, FailureKind, Job, Measurement
from ziggurat.errors import SpecError
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from ziggurat.tables import Table


@dataclass(frozen=True)
class Replayed:
    """What a table says about one segment."""

    seconds: float
    measurements: tuple[Measurement, ...] = ()
    failure: Failure | None = None


class TableTrainer(Setting):
    """Replays the trainings of a `table` space; nothing is trained, and time is the table's.

    Where the table holds learning curves a training goes on from its last rung; where it holds separate
    trainings of several lengths each is paid whole.
    """

    kind: Literal["table"] = "table"
    inherits: ClassVar[bool] = False

    def replay(self, table: Table, job: Job) -> Replayed:
        """What a training segment finds, and the seconds it takes; a score that is NaN has diverged.

        Raises:
            SpecError: The table has no such number of epochs.
        """
        candidate = job.candidate
        row = table.rows.get(candidate) if candidate is not None else None
        if row is None:
            return Replayed(0.0, failure=Failure(FailureKind.USER_ERROR, "the table has no such candidate"))
        epochs = job.ladder[job.to_rung].epochs
        if epochs not in table.scores:
            known = ", ".join(str(e) for e in list(table.scores)[:12])
            raise SpecError(
                f"fidelities: epochs {epochs} is not in the table; it has {known}"
                f"{', ...' if len(table.scores) > 12 else ''}"  # noqa: PLR2004 - as many as fit a line
            )
        begun = job.ladder[job.from_rung].epochs if job.from_rung >= 0 else 0
        seconds = table.segment_s(row, begun, epochs)
        value = float(table.scores[epochs][row])
        if math.isnan(value) or math.isnan(seconds):
            text = f"{table.metric} is not a number after {epochs} epochs"
            return Replayed(max(0.0, seconds), failure=Failure(FailureKind.DIVERGED, text))
        return Replayed(seconds, (Measurement(table.metric, value, step=epochs),))

    def check(self) -> None:
        """Nothing can be wrong with a recipe that is not there."""
