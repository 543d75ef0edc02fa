"""What each stage took and cost, what was projected, what nothing came of, how its machines were used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ziggurat.budget import group
from ziggurat.domain import JobKind
from ziggurat.report.summary import RETRAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ziggurat.report.case import Case
    from ziggurat.segments import Segment

SHARES = ("cpu_utilisation", "gpu_utilisation")
PEAKS = ("memory_mb", "gpu_memory_mb")
MEASURE, BETWEEN = "measure", "between stages"


@dataclass(frozen=True)
class StageCost:
    """One stage.

    Attributes:
        stage: Its name; that of charges outside of any stage.
        verdict: How it ended; empty if it has not begun.
        wall_s: From its beginning to its end.
        segments: How many of its segments have ended.
        seconds: Their worker seconds.
        usd: Cost, charges included.
        charged_s: Machine seconds that no segment accounts for.
        charged_usd: What these cost.
        reasons: The same by reason, in US dollars.
        projected_s: Worker seconds that were forecast before it began; None if nothing was.
        projected_usd: The same in US dollars.
        usage: Use of its machines: means weighted by time, and peaks; empty where nothing was read.
        metered: Segments whose use was read.
    """

    stage: str
    verdict: str = ""
    wall_s: float | None = None
    segments: int = 0
    seconds: float = 0.0
    usd: float = 0.0
    charged_s: float = 0.0
    charged_usd: float = 0.0
    reasons: Mapping[str, float] = field(default_factory=dict)
    projected_s: float | None = None
    projected_usd: float | None = None
    usage: Mapping[str, float] = field(default_factory=dict)
    metered: int = 0


def stage_costs(case: Case) -> list[StageCost]:
    """All stages that have begun, cost something or were projected, in the order of the run."""
    history, facts = case.history, case.facts
    names = dict.fromkeys(group(name) for name in history.stages)
    names |= dict.fromkeys(stage_of(s) for s in history.segments.values() if s.end is not None)
    names |= dict.fromkeys(group(c.stage) for c in history.charges)
    names |= dict.fromkeys(facts.forecast_usd)
    if "report" in history.stages and history.stages["report"] is None:
        names.pop("report")  # it is being written
    ordered = sorted(names, key=lambda n: list(history.stages).index(n) if n in history.stages else 99)
    return [_cost(case, name) for name in ordered]


def stage_of(segment: Segment) -> str:
    """The stage that a segment is work of: models of the retraining are measured in a stage of their own."""
    job = segment.job
    if job.stage == RETRAIN and job.kind is not JobKind.TRAIN:
        return MEASURE
    return group(job.stage)


def _cost(case: Case, name: str) -> StageCost:
    history, facts = case.history, case.facts
    mine = [s for s in history.segments.values() if stage_of(s) == name and s.end is not None]
    charges = [c for c in history.charges if group(c.stage) == name]
    end = history.stages.get(name)
    begun, ended = history.stage_times.get(name, (None, None))
    reasons: dict[str, float] = {}
    for charge in charges:
        reasons[charge.reason] = reasons.get(charge.reason, 0.0) + charge.cost_usd
    charged = sum(reasons.values())
    return StageCost(
        stage=name or BETWEEN,
        verdict=end.verdict if end is not None else ("unfinished" if name in history.stages else ""),
        wall_s=None if begun is None else (ended or history.last_utc) - begun,
        segments=len(mine),
        seconds=sum(s.end.seconds for s in mine if s.end is not None),
        usd=sum(s.end.cost_usd for s in mine if s.end is not None) + charged,
        charged_s=sum(c.seconds for c in charges),
        charged_usd=charged,
        reasons=reasons,
        projected_s=facts.forecast_s.get(name, sum(s.forecast_s for s in mine) or None),
        projected_usd=facts.forecast_usd.get(name, sum(s.forecast_usd for s in mine) or None),
        usage=used(mine),
        metered=sum(bool(s.end and s.end.usage) for s in mine),
    )


def used(segments: Sequence[Segment]) -> dict[str, float]:
    """Means of what is a share, weighted by seconds, and peaks of the rest; only what was read."""
    ends = [s.end for s in segments if s.end is not None and s.end.usage]
    found: dict[str, float] = {}
    for name in SHARES:
        known = [(e.seconds, e.usage[name]) for e in ends if name in e.usage and e.seconds > 0]
        if known:
            found[name] = sum(s * v for s, v in known) / sum(s for s, _ in known)
    for name in PEAKS:
        peaks = [e.usage[name] for e in ends if name in e.usage]
        if peaks:
            found[name] = max(peaks)
    return found
