"""What a search of a table is: its files, its strategy, its reference point, and how it is scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ziggurat import pareto, tables
from ziggurat.history import History

FloatArray = npt.NDArray[np.float64]
COST_QUANTILE = 90
ERRORS = {"cifar10": 0.20, "nb101": 0.12}
"""Reference errors of known benchmarks, by a part of the name of their file."""


@dataclasses.dataclass(frozen=True)
class Study:
    """One table, one cost and one strategy."""

    files: Mapping[str, str]
    cost: str
    strategy: str
    workers: int
    budget: float
    ladder: tuple[int, ...] = ()
    reference_error: float | None = None
    settings: tuple[str, ...] = ()
    max_trials: int = 0

    @property
    def column(self) -> str:
        """Name of the cost."""
        return self.cost.rpartition(":")[2]

    def table(self) -> tables.Table:
        """The table that is searched."""
        paths = [Path(self.files[n]) if n in self.files else None for n in PARTS]
        return tables.load(*paths, ((self.column, self.cost),) if self.cost else ())


PARTS = ("architectures", "accuracy", "curves", "fidelities")


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a search has found, and what its decisions took.

    Attributes:
        steps: After each full training, units spent as the ledger counts them (segments that have ended),
            units with the running part of the others, and the share of the hypervolume.
        decisions_s: Seconds that each decision took.
        wall_s: Seconds of the whole search.
        trials: Candidates started.
        full: Candidates trained in full.
    """

    steps: tuple[tuple[float, float, float], ...]
    decisions_s: tuple[float, ...]
    wall_s: float
    trials: int
    full: int

    def at(self, units: float, *, accrued: bool = False) -> float:
        """Share of the hypervolume when so much was spent; a better validation front may test worse."""
        return next((step[2] for step in reversed(self.steps) if step[int(accrued)] <= units), 0.0)


def error(table: tables.Table, values: FloatArray) -> FloatArray:
    """Scores as something to minimise: 1 - accuracy, or the loss."""
    return 1.0 - values if table.metric == "val_accuracy" else values


def reference(study: Study, table: tables.Table) -> tuple[float, float]:
    """Reference point: error, and the 90th percentile of the cost."""
    known = study.reference_error
    if known is not None and table.metric == "val_accuracy":
        known /= 100.0
    if known is None:
        names = " ".join(study.files.values())
        known = next((e for part, e in ERRORS.items() if part in names), None)
    if known is None:
        known = float(np.nanpercentile(error(table, table.test), COST_QUANTILE))
    cost = float(np.nanpercentile(table.static[study.column], COST_QUANTILE)) if study.cost else np.inf
    return float(known), cost


def losses(study: Study, table: tables.Table, values: FloatArray) -> FloatArray:
    """(n, 2) error and cost of all rows, or (n, 1) error alone."""
    found = [error(table, values)]
    if study.cost:
        found.append(table.static[study.column])
    return np.stack(found, axis=1)


def progress(study: Study, history: History) -> list[tuple[float, float, float]]:
    """Steps of a search, as in `Scores`."""
    table = study.table()
    corner = np.array(reference(study, table)[: 2 if study.cost else 1])
    validation = losses(study, table, table.scores[table.top])
    test = losses(study, table, table.test)
    whole = pareto.hypervolume(test[~np.isnan(test).any(axis=1)], corner)
    segments = [s for s in history.segments.values() if s.end is not None and s.started_utc is not None]
    begun = np.array([s.started_utc for s in segments])
    ended = np.array([s.finished_utc for s in segments])
    price = 1.0 / table.unit_s
    found: list[tuple[float, float, float]] = []
    ledger = 0.0
    rows: list[int] = []
    top = table.top
    for segment in sorted(segments, key=lambda s: s.finished_utc or 0.0):
        job = segment.job
        ledger += float(segment.end.seconds) * price  # type: ignore[union-attr]
        if job.candidate is None or job.ladder[job.to_rung].epochs != top or segment.end.failure is not None:  # type: ignore[union-attr]
            continue
        rows.append(table.rows[job.candidate])
        now = segment.finished_utc or 0.0
        spent = float(np.clip(np.minimum(ended, now) - begun, 0.0, None).sum()) * price
        front = np.array(rows)[pareto.is_front(validation[rows])]
        share = pareto.hypervolume(test[front], corner) / whole
        found.append((ledger, spent, share))
    return found
