"""The tables of how the run went, as rows of text: stages, machines, what stages noted, failures, alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ziggurat.domain import FailureKind
from ziggurat.report import words
from ziggurat.report.tables import Cell, Table

if TYPE_CHECKING:
    from ziggurat.events import Alert
    from ziggurat.history import History
    from ziggurat.report.stage_costs import StageCost

VERDICTS = {"ok": "good", "failed": "bad", "stopped_by_budget": "warn"}
MOST = 200
"""Words on alerts that are listed."""
SEVERITIES = {"critical": "bad", "warning": "warn"}


def stages(found: Sequence[StageCost], spent_usd: float) -> Table:
    """Each stage: verdict, times, cost, what nothing came of, and the forecast it was held against."""
    charged = any(s.charged_s or s.charged_usd for s in found)
    head = ["Stage", "Verdict", "Wall time", "Worker time", "Forecast of it", "Cost"]
    head += ["Idle, queued or in vain"] if charged else []
    head += ["Forecast of the cost", "Share"]
    body = []
    for stage in found:
        verdict = stage.verdict.replace("_", " ") or ("not begun" if not stage.usd else words.ABSENT)
        reasons = ", ".join(f"{name} {words.usd(usd)}" for name, usd in stage.reasons.items())
        cells = [
            Cell(words.duration(stage.wall_s), "number"),
            Cell(words.duration(stage.seconds) if stage.segments else words.ABSENT, "number"),
            Cell(words.duration(stage.projected_s), "number"),
            Cell(words.usd(stage.usd), "number strong"),
            *([Cell(reasons or words.ABSENT, "number")] if charged else []),
            Cell(words.usd(stage.projected_usd), "number"),
            Cell(words.percent(stage.usd / spent_usd if spent_usd > 0 else None), "number"),
        ]
        body.append((Cell(stage.stage), Cell(verdict, VERDICTS.get(stage.verdict, "")), *cells))
    styles = ("", "", *["number"] * (len(head) - 2))
    return Table(tuple(Cell(t, s) for t, s in zip(head, styles, strict=True)), tuple(body))


def machines(found: Sequence[StageCost]) -> Table:
    """How the machines of each stage were used."""
    used = [s for s in found if s.usage]
    columns = {
        "cpu_utilisation": "Processor",
        "gpu_utilisation": "GPU",
        "memory_mb": "Memory at most (MB)",
        "gpu_memory_mb": "GPU memory at most (MB)",
    }
    names = [n for n in columns if any(n in s.usage for s in used)]
    body = tuple(
        (
            Cell(s.stage),
            Cell(f"{s.metered:,} of {s.segments:,}", "number"),
            *(Cell(_use(n, s.usage.get(n)), "number") for n in names),
        )
        for s in used
    )
    head = (Cell("Stage"), Cell("Segments", "number"), *(Cell(columns[n], "number") for n in names))
    note = (
        "Means over the time of the segments that could be read; the share of the cores that a job is given."
    )
    return Table(head, body, note if body else "")


def _use(name: str, value: float | None) -> str:
    if value is None:
        return words.ABSENT
    return words.percent(value) if name.endswith("utilisation") else f"{value:,.0f}"


def details(history: History) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """What each stage noted at its end, as text, by name of the stage."""
    ends = [(name, end.summary) for name, end in history.stages.items() if end is not None and end.summary]
    return [
        (name, tuple((k.replace("_", " "), clip(text(v), 400)) for k, v in summary.items()))
        for name, summary in ends
    ]


def text(value: object) -> str:
    """A fact of an event in words."""
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(text, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: words.ABSENT}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


MEANING = {
    FailureKind.USER_ERROR: "the user's code or settings raised an error",
    FailureKind.DIVERGED: "the training diverged",
    FailureKind.OUT_OF_MEMORY: "the worker ran out of memory",
    FailureKind.TIMEOUT: "the time limit was passed",
    FailureKind.PREEMPTED: "the machine was taken away",
    FailureKind.LOST: "the worker disappeared",
    FailureKind.NO_METRIC: "no metric was reported",
}


def failures(history: History) -> Table:
    """Failed segments by kind: how many, in how many trials, and one example."""
    ends = [s.end for s in history.segments.values() if s.end is not None and s.end.failure is not None]
    counts = Counter(e.failure.kind for e in ends if e.failure is not None)
    final = Counter(
        t.failure.kind for t in history.trials.values() if t.failure is not None and t.status == "failed"
    )
    body = []
    for kind in dict.fromkeys([*(k for k, _ in counts.most_common()), *final]):
        example = next((e for e in reversed(ends) if e.failure is not None and e.failure.kind is kind), None)
        said = example.failure.text if example is not None and example.failure is not None else ""
        said = said or next(
            (t.failure.text for t in history.trials.values() if t.failure and t.failure.kind is kind), ""
        )
        trial = f"trial {example.trial}: " if example is not None and example.trial >= 0 else ""
        cells = (
            Cell(MEANING[kind]),
            Cell(str(counts[kind]), "number"),
            Cell(str(final[kind]), "number"),
            Cell(f"{trial}{clip(said)}", "example"),
        )
        body.append((Cell(kind.replace("_", " ")), *cells))
    head = (
        Cell("Kind"),
        Cell("What it means"),
        Cell("Segments", "number"),
        Cell("Trials ended by it", "number"),
        Cell("Example"),
    )
    return Table(head, tuple(body))


def alerts(log: Sequence[tuple[float, Alert]], began: float) -> Table:
    """Every word on an alert, oldest first."""
    raised: set[str] = set()
    body = []
    for utc, alert in log[-MOST:]:
        state = "again" if alert.state == "raised" and alert.key in raised else str(alert.state)
        raised = raised | {alert.key} if alert.state == "raised" else raised - {alert.key}
        style = "good" if state == "resolved" else SEVERITIES.get(alert.severity, "")
        body.append(
            (
                Cell(words.duration(utc - began) if began else words.ABSENT, "number"),
                Cell(alert.severity, style),
                Cell(state),
                Cell(alert.title, "strong"),
                Cell(alert.text, "long"),
            )
        )
    head = (Cell("After", "number"), Cell("Severity"), Cell("State"), Cell("Alert"), Cell("What it says"))
    return Table(head, tuple(body))


def clip(text: str, size: int = 600) -> str:
    """The end of a long text; that is where an error says what it is."""
    return text if len(text) <= size else "… " + text[-size:]
