"""What the command line says: tables and sentences made from data, for people."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from ziggurat import publishing, report, runs
from ziggurat.budget import limit_usd
from ziggurat.checks import Check, counts
from ziggurat.estimate import estimate
from ziggurat.history import History
from ziggurat.report import Summary
from ziggurat.spec import Spec

STARTER = Path(__file__).with_name("starter.yaml")
SLOW_S = 0.1
"""Seconds from which on it is said how long a check took."""
LIBRARIES = (
    "torch",
    "pytorch-lightning",
    "ax-platform",
    "botorch",
    "prefect",
    "mlflow",
    "torchx-nightly",
    "boto3",
)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as aligned columns."""
    if not rows:
        return "nothing to show"
    heads = list(rows[0])
    cells = [[_cell(row.get(h)) for h in heads] for row in rows]
    widths = [max(len(h), *(len(c[i]) for c in cells)) for i, h in enumerate(heads)]
    lines = ["  ".join(h.ljust(w) for h, w in zip(heads, widths, strict=True))]
    lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, Mapping):
        return " ".join(f"{k}={_cell(v)}" for k, v in value.items())
    return "-" if value is None else str(value)


def checks(found: Sequence[Check], seconds: float) -> str:
    """The preflight as lines: what has not passed stands out, with what to do about it, and the sum below."""
    signs = {True: "ok  ", False: "FAIL", None: "warn"}
    width = max((len(check.name) for check in found), default=0)
    lines = []
    for check in found:
        took = f"  [{check.seconds:.1f} s]" if check.seconds >= SLOW_S else ""
        lines.append(f"{signs[check.ok]}  {check.name.ljust(width)}  {check.text}{took}")
        if check.ok is not True and check.cure:
            lines.append(f"{' ' * (width + 8)}cure: {check.cure}")
    parts = ", ".join(
        f"{count} {'warnings' if severity == 'warning' and count > 1 else severity}"
        for severity, count in counts(found).items()
        if count
    )
    return "\n".join([*lines, f"{len(found)} checks in {seconds:.1f} s: {parts}"])


def status_data(spec: Spec, history: History, where: str) -> dict[str, Any]:
    """Where a run stands, as data; `where` is its directory or its place in a store."""
    summary = report.summarize(spec.goals(), history, workers=spec.search.workers)
    counts = summary.counts
    return {
        "run_id": history.run_id,
        "run_dir": where,
        "status": str(history.status),
        "stages": {s: (end.verdict if end is not None else "running") for s, end in history.stages.items()},
        "trials": {
            "total": counts.total,
            "completed": counts.completed,
            "stopped": counts.stopped,
            "failed": counts.failed,
            "open": counts.open,
            "planned": spec.search.trials,
        },
        "hypervolume": summary.hypervolume,
        "front": len(summary.front),
        "cost_usd": summary.cost_usd,
        "limit_usd": limit_usd(spec.budget, history),
        "forecast_usd": sum(row.usd for row in estimate(spec, history)),
        "waits_for": _waits_for(history, where),
    }


def _waits_for(history: History, where: str) -> str:
    """What somebody has to do before the run goes on; empty if nothing."""
    asked = history.decision("approval")
    if asked is None or asked.verdict != "wanted":
        return ""
    return f"{asked.reason} Answer with: ziggurat approve {where}"


def status_text(data: Mapping[str, Any]) -> str:
    """Where a run stands, in lines."""
    t = data["trials"]
    stages = ", ".join(f"{s}: {v}" for s, v in data["stages"].items()) or "no stage has begun"
    limit = "no limit" if data["limit_usd"] is None else f"limit {data['limit_usd']:g} USD"
    return (
        f"{data['run_id']}: {data['status']}\n{stages}\n"
        f"trials: {t['total']} of {t['planned']} ({t['completed']} completed, {t['stopped']} stopped, "
        f"{t['failed']} failed, {t['open']} open)\n"
        f"front: {data['front']} points, hypervolume {data['hypervolume']:.5g}\n"
        f"cost: {data['cost_usd']:.4g} USD of a forecast of {data['forecast_usd']:.4g} USD, {limit}"
        + (f"\nwaits: {data['waits_for']}" if data.get("waits_for") else "")
        + "".join(f"\n{_space(place, kinds)}" for place, kinds in data.get("space_bytes", {}).items())
    )


def _space(place: str, kinds: Mapping[str, int]) -> str:
    """The space that a run takes on disk or in its store, in a line."""
    parts = ", ".join(f"{kind} {_size(size)}" for kind, size in kinds.items() if size)
    return f"space, {place}: {_size(sum(kinds.values()))}" + (f" ({parts})" if parts else "")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - the next unit
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def trials_data(spec: Spec, history: History) -> list[dict[str, Any]]:
    """All trials as rows."""
    metrics = [o.metric for o in spec.goals()]
    rows = []
    for trial in sorted(history.trials.values(), key=lambda t: t.number):
        values = {m: trial.value(m) for m in metrics}
        rows.append(
            {
                "trial": trial.number,
                "stage": trial.stage,
                "status": trial.status.value,
                "rung": trial.rung,
                **{m: None if v != v else v for m, v in values.items()},  # noqa: PLR0124 - NaN
                "seconds": trial.seconds,
                "cost_usd": trial.cost_usd,
                "failure": trial.failure.kind.value if trial.failure else None,
                "candidate": dict(trial.candidate.choices),
            }
        )
    return rows


def trials_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """All trials as a table."""
    return table(rows)


def print_front(summary: Summary, stream: TextIO) -> None:
    """The front as a table that suits the stream."""
    if stream.isatty():
        from rich.console import Console

        Console(file=stream).print(report.pareto_rich(summary))
    else:
        width = int(os.environ.get("COLUMNS") or shutil.get_terminal_size((140, 24)).columns)
        print(report.pareto_table(summary, width), file=stream)


def print_outcome(spec: Spec, folder: Path, stream: TextIO) -> None:
    """What a finished run says at its end: the front, the report, and how to open MLflow."""
    _, history = runs.look(folder)
    summary = report.summarize(spec.goals(), history, workers=spec.search.workers)
    print_front(summary, stream)
    learned = spec.metrics.learned
    own = [m for m in spec.inputs() if m in learned]
    for row in summary.retrained:
        shown = [
            f"{name} {s.mean:.5g}" + (f" ± {s.spread:.2g}" if s.spread is not None else "")
            for name in dict.fromkeys((*own, "val_accuracy", "test_accuracy", "latency_p50_ms"))
            if (s := row.find(name)) is not None
        ]
        print(f"retrained trial {row.trial} ({len(row.seeds)} seeds): {', '.join(shown)}", file=stream)
    counts = summary.counts
    print(
        f"\n{summary.status}: {counts.total} trials, {counts.completed} completed, "
        f"{counts.stopped} stopped early, {counts.failed} failed; "
        f"{summary.cost_usd:.4g} USD, {summary.wall_s:.0f} s",
        file=stream,
    )
    print(f"report: {folder / 'report' / 'index.html'}", file=stream)
    server, page = publishing.look(folder, spec, history)
    if server:
        print(f"MLflow: {server}", file=stream)
    if page:
        print(f"{'finalists in MLflow' if server else 'MLflow'}: {page}", file=stream)


def doctor_data() -> dict[str, Any]:
    """Versions and machine."""
    versions: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    import torch

    return {
        "python": platform.python_version(),
        "libraries": versions,
        "cpus": os.cpu_count(),
        "cuda": torch.cuda.is_available(),
        "prefect_api": "PREFECT_API_URL" in os.environ,
    }


def doctor_text(data: Mapping[str, Any]) -> str:
    """Versions and machine, in lines."""
    lines = [f"python {data['python']}", *(f"{n} {v or 'MISSING'}" for n, v in data["libraries"].items())]
    lines.append(f"{data['cpus']} processors, {'a' if data['cuda'] else 'no'} CUDA device")
    lines.append(
        "Prefect: " + ("the server of PREFECT_API_URL" if data["prefect_api"] else "embedded server")
    )
    return "\n".join(lines)
