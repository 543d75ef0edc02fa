"""A summary as plain JSON values: `front.json`, and the result that the command line prints.

Numbers stay raw here, in the metrics' own units; a value that is not a finite number becomes null, because
JSON has no such numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ziggurat.report.summary import summarize

if TYPE_CHECKING:
    from pathlib import Path

    from ziggurat.domain import Objective, RunStatus
    from ziggurat.history import History
    from ziggurat.report.results import FrontRow, RetrainedRow, Statistic, Summary


def finite(value: float | None) -> float | None:
    """The value, or None if it is not a finite number."""
    return None if value is None or not math.isfinite(value) else value


def objective_json(objective: Objective, unit: str) -> dict[str, Any]:
    """One objective."""
    return {
        "metric": objective.metric,
        "goal": str(objective.goal),
        "reference": objective.reference,
        "limit": objective.limit,
        "unit": unit,
    }


def point_json(row: FrontRow) -> dict[str, Any]:
    """One point of the front."""
    return {
        "trial": row.trial,
        "candidate": dict(row.candidate.choices),
        "metrics": {name: finite(value) for name, value in row.metrics.items()},
        "rung": row.rung,
        "cost_usd": row.cost_usd,
    }


def _statistic_json(statistic: Statistic) -> dict[str, Any]:
    return {
        "mean": finite(statistic.mean),
        "spread": finite(statistic.spread),
        "values": [finite(v) for v in statistic.values],
    }


def retrained_json(row: RetrainedRow) -> dict[str, Any]:
    """One retrained model."""
    return {
        "trial": row.trial,
        "trials": list(row.trials),
        "seeds": list(row.seeds),
        "candidate": dict(row.candidate.choices),
        "metrics": {name: _statistic_json(s) for name, s in row.metrics.items()},
        "rung": row.rung,
        "cost_usd": row.cost_usd,
    }


def front_json(summary: Summary) -> dict[str, Any]:
    """The content of `front.json`."""
    return {
        "run_id": summary.run_id,
        "status": str(summary.status),
        "objectives": [objective_json(o, summary.units[o.metric]) for o in summary.objectives],
        "hypervolume": finite(summary.hypervolume),
        "front": [point_json(row) for row in summary.front],
        "retrained": [retrained_json(row) for row in summary.retrained],
    }


def result_json(
    run_dir: Path,
    objectives: tuple[Objective, ...],
    history: History,
    report_path: Path | None,
    *,
    workers: int = 1,
    status: RunStatus | None = None,
) -> dict[str, Any]:
    """What `run --json` and `resume --json` print as their last line."""
    summary = summarize(objectives, history, workers=workers, status=status)
    counts = summary.counts
    return {
        "run_id": summary.run_id,
        "run_dir": str(run_dir),
        "status": str(summary.status),
        "trials": {
            "total": counts.total,
            "completed": counts.completed,
            "stopped": counts.stopped,
            "failed": counts.failed,
        },
        "segments": summary.segments,
        "hypervolume": finite(summary.hypervolume),
        "front": [
            {key: point_json(row)[key] for key in ("trial", "candidate", "metrics")} for row in summary.front
        ],
        "retrained": [retrained_json(row) for row in summary.retrained],
        "cost_usd": summary.cost_usd,
        "wall_s": summary.wall_s,
        "utilisation": finite(summary.utilisation),
        "report": None if report_path is None else str(report_path),
    }
