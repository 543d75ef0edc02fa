"""What Prefect's pages show of a run, as plain rows and text: the front, the stages, how far it is."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from ziggurat import publishing
from ziggurat.budget import spent_by_stage
from ziggurat.domain import RunStatus, TrialStatus
from ziggurat.history import History
from ziggurat.outlook import to_come
from ziggurat.report import Summary, summarize
from ziggurat.spec import Spec

Row = dict[str, Any]
WEIGHTS = {"preflight": 2.0, "validate": 8.0, "retrain": 20.0, "measure": 8.0, "report": 2.0}
SEARCHING = 60.0
"""Share of a search in the whole, in percent; several rounds divide it."""
ROWS = 50
"""Most rows of a table on a page."""


def key_of(run_id: str, what: str) -> str:
    """The key of an artifact of a run; Prefect takes small letters, digits and dashes only."""
    return f"{what}-{re.sub('[^a-z0-9]+', '-', run_id.lower()).strip('-')}"


def summary_of(spec: Spec, history: History) -> Summary:
    """What has been found so far."""
    return summarize(spec.goals(), history, workers=spec.search.workers)


def front_rows(spec: Spec, history: History) -> list[Row]:
    """The front, one row for each trial: metrics first, then what it is made of."""
    metrics = [o.metric for o in spec.goals()]
    rows: list[Row] = []
    for row in summary_of(spec, history).front[:ROWS]:
        made = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in row.candidate.choices.items()}
        rows.append({"trial": row.trial, **{m: _short(row.metrics[m]) for m in metrics}, **made})
    return rows


def stage_rows(spec: Spec, history: History) -> list[Row]:
    """The stages: how each ended, its trials, its cost so far and to come, and how long it took."""
    spent, left = spent_by_stage(history), to_come(spec, history)
    rows: list[Row] = []
    for stage in stages_of(spec):
        begun = stage in history.stages
        end = history.stages.get(stage)
        since, until = history.stage_times.get(stage, (0.0, None))
        minutes = ((until or history.last_utc) - since) / 60 if begun else 0.0
        rows.append(
            {
                "stage": stage,
                "state": end.verdict if end is not None else "running" if begun else "",
                "trials": len(history.of_stage(stage)) or "",
                "spent USD": f"{spent.get(stage, 0.0):.4g}",
                "to come USD": f"{left.get(stage, 0.0):.4g}" if end is None else "",
                "minutes": f"{minutes:.1f}" if begun else "",
            }
        )
    total = {"stage": "all", "state": str(history.status), "trials": len(history.trials)}
    money = {
        "spent USD": f"{history.spent_usd:.4g}",
        "to come USD": f"{sum(left.values()):.4g}",
        "minutes": "",
    }
    return [*rows, {**total, **money}]


def stages_of(spec: Spec) -> tuple[str, ...]:
    """The stages of a run that cost something, in their order."""
    return ("preflight", "validate", *spec.searching, "retrain", "measure")


def percent(spec: Spec, history: History) -> float:
    """How far the run is, from 0 to 100: what has ended, and the ended trials of what is going on."""
    if history.status is not RunStatus.RUNNING:
        return 100.0
    shares = {**WEIGHTS, **dict.fromkeys(spec.searching, SEARCHING / len(spec.searching))}
    found = 0.0
    for stage, share in shares.items():
        if history.finished(stage):
            found += share
        elif stage in history.stages:
            planned = (
                spec.at(stage).search.trials
                if stage in spec.searching
                else spec.retrain.k * spec.retrain.seeds
            )
            found += share * min(1.0, _ended(history, stage) / max(1, planned))
    return round(min(found, 99.0), 1)


def _ended(history: History, stage: str) -> int:
    over = (TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.FAILED, TrialStatus.PAUSED)
    return len(history.with_status(stage, *over))


def outcome_text(spec: Spec, history: History, folder: str) -> str:
    """Where the run stands or how it has ended, and where to go on, in Markdown."""
    summary = summary_of(spec, history)
    counts = summary.counts
    reason = history.decision("approval")
    lines = [
        f"**{summary.run_id}**: {history.status}. {counts.total} trials, {counts.completed} at the top rung, "
        f"{counts.stopped} stopped early, {counts.failed} failed. "
        f"Hypervolume {summary.hypervolume:.5g}, {len(summary.front)} on the front, "
        f"cost {summary.cost_usd:.4g} USD.",
        *([f"Approval: {reason.reason}"] if reason is not None else []),
        f"Run directory: `{folder}`",
        f"Report: `{folder}/report/index.html`",
        *([_on(folder)] if history.status is RunStatus.INTERRUPTED else []),
    ]
    return "\n\n".join(lines)


def _on(folder: str) -> str:
    return f"Continue with a retry of this flow run, or with `ziggurat resume {folder}`"


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.5g}"


def mlflow_text(folder: Path, spec: Spec, history: History) -> str:
    """Where the finalists, or the run, can be seen in MLflow, in Markdown; empty if there is nothing yet."""
    command, address = publishing.look(folder, spec, history)
    if not address:
        return ""
    first = f"After `{command}`: " if command else ""
    return f"{first}[{address.partition('#')[0]}]({address})"


def as_data(kind: str, data: Any) -> Any:  # noqa: ANN401 - what Prefect keeps of an artifact
    """An artifact's data as Prefect keeps it: tables as text of JSON."""
    return json.dumps(data) if kind == "table" else data
