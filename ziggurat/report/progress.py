"""How a run went, as plain numbers: where trials ended, cost over time.

The interactive page and the images draw the same series. Nothing here knows a drawing library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.domain import TrialStatus
from ziggurat.report import words
from ziggurat.report.stage_costs import stage_of
from ziggurat.report.summary import SEARCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.history import History
    from ziggurat.segments import Segment


def ended_segments(history: History, stage: str | None = None) -> list[Segment]:
    """Segments that have ended, in the order of their ends."""
    done = [s for s in history.segments.values() if s.end is not None and s.finished_utc is not None]
    return sorted(
        (s for s in done if stage is None or s.job.stage == stage), key=lambda s: s.finished_utc or 0.0
    )


@dataclass(frozen=True)
class RungBar:
    """How many search trials ended at one rung."""

    label: str
    completed: int
    stopped: int
    failed: int


def rung_bars(history: History) -> list[RungBar]:
    """How many search trials ended at each rung, and how; empty if there are no trials."""
    trials = [t for t in history.of_stage(SEARCH) if t.status is not TrialStatus.REJECTED]
    if not trials:
        return []
    ladder = trials[0].ladder
    labels = {-1: "before the first"} | {
        r: f"rung {r} · {words.many(f.epochs, 'epoch')}"
        + (f" · {100 * f.data_fraction:.3g} % of data" if f.data_fraction < 1 else "")
        + (f" · {100 * f.resolution:.3g} % of the edges" if f.resolution < 1 else "")
        for r, f in enumerate(ladder)
    }
    bars = []
    for rung, label in labels.items():
        states = [t.status for t in trials if t.rung == rung]
        stopped = states.count(TrialStatus.STOPPED) + states.count(TrialStatus.PAUSED)
        bar = RungBar(label, states.count(TrialStatus.COMPLETED), stopped, states.count(TrialStatus.FAILED))
        if rung >= 0 or bar.failed or bar.stopped:
            bars.append(bar)
    return bars


@dataclass(frozen=True)
class Spend:
    """Cumulative cost of the run while a stage was working: hours since the start, US$, worker seconds."""

    stage: str
    hours: tuple[float, ...]
    usd: tuple[float, ...]
    seconds: tuple[float, ...]


def spending(history: History) -> list[Spend]:
    """Cumulative cost over time, one line for each stage that spent, in the order of their first cost."""
    lines: dict[str, list[tuple[float, float, float]]] = {}
    usd = seconds = hour = 0.0
    for segment in ended_segments(history):
        assert segment.end is not None
        assert segment.finished_utc is not None
        line = lines.setdefault(stage_of(segment), [(hour, usd, seconds)])
        hour = (segment.finished_utc - history.started_utc) / 3600
        usd, seconds = usd + segment.end.cost_usd, seconds + segment.end.seconds
        line.append((hour, usd, seconds))
    return [Spend(stage, *(tuple(c) for c in zip(*line, strict=True))) for stage, line in lines.items()]


CLOSE = 5.0
"""A plan or limit above this many times the cost is not drawn: the cost would be a line on the floor."""


def bounds(lines: Sequence[Spend], plan: float | None, limit: float | None) -> list[tuple[str, float]]:
    """Plan and limit of the cost, as far as they are near enough to be drawn."""
    spent = max((line.usd[-1] for line in lines), default=0.0)
    pairs = (("limit", limit), ("plan", plan))
    return [(name, value) for name, value in pairs if value is not None and value <= CLOSE * spent]
