"""The tables of how the run went, as rows of text: stages, what they noted, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ziggurat.domain import FailureKind
from ziggurat.report import words
from ziggurat.report.tables import Cell, Table

if TYPE_CHECKING:
    from ziggurat.history import History
    from ziggurat.report.answer import Case


def stages(case: Case) -> Table:
    """Each stage: verdict, times, cost, and the forecast it was held against."""
    head = ("Stage", "Verdict", "Wall time", "Worker time", "Forecast of it", "Cost", "Forecast of it")
    body = []
    for name, end in case.history.stages.items():
        begun, ended = case.history.stage_times[name]
        if name == "report" and end is None:
            continue  # it is being written
        mine = [s for s in case.history.segments.values() if s.job.stage == name and s.end is not None]
        seconds = sum(s.end.seconds for s in mine if s.end is not None)
        usd = sum(s.end.cost_usd for s in mine if s.end is not None)
        planned_s = case.facts.forecast_s.get(name, sum(s.forecast_s for s in mine) or None)
        planned_usd = case.facts.forecast_usd.get(name, sum(s.forecast_usd for s in mine) or None)
        verdict = end.verdict if end is not None else "unfinished"
        wall = words.duration((ended or case.history.last_utc) - begun)
        style = {"ok": "good", "failed": "bad", "stopped_by_budget": "warn"}.get(verdict, "")
        cells = [
            words.duration(seconds) if mine else words.ABSENT,
            words.duration(planned_s),
            words.usd(usd),
            words.usd(planned_usd),
        ]
        body.append(
            (
                Cell(name),
                Cell(verdict.replace("_", " "), style),
                Cell(wall, "number"),
                *(Cell(c, "number") for c in cells),
            )
        )
    styles = ("", "", *["number"] * 5)
    return Table(tuple(Cell(t, s) for t, s in zip(head, styles, strict=True)), tuple(body))


@dataclass(frozen=True)
class Details:
    """What a stage noted at its end."""

    stage: str
    facts: Mapping[str, str] = field(default_factory=dict)


def details(history: History) -> list[Details]:
    """What each stage noted at its end, as text."""
    ends = [(name, end.summary) for name, end in history.stages.items() if end is not None and end.summary]
    return [Details(name, {k: _text(v) for k, v in summary.items()}) for name, summary in ends]


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: words.ABSENT}[value]
    return words.number(value, 4) if isinstance(value, float) else str(value)


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
        text = example.failure.text if example is not None and example.failure is not None else ""
        text = text or next(
            (t.failure.text for t in history.trials.values() if t.failure and t.failure.kind is kind), ""
        )
        trial = f"trial {example.trial}: " if example is not None and example.trial >= 0 else ""
        cells = (
            Cell(str(counts[kind]), "number"),
            Cell(str(final[kind]), "number"),
            Cell(f"{trial}{clip(text)}", "example"),
        )
        body.append((Cell(kind.replace("_", " "), "", MEANING[kind]), *cells))
    head = (Cell("Kind"), Cell("Segments", "number"), Cell("Trials ended by it", "number"), Cell("Example"))
    return Table(head, tuple(body))


def clip(text: str, size: int = 600) -> str:
    """The end of a long text; that is where an error says what it is."""
    return text if len(text) <= size else "… " + text[-size:]
