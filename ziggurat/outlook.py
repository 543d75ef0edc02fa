"""What is still to come: expected cost of everything that a run has not paid for yet, stage by stage."""

from __future__ import annotations

from ziggurat.budget import group, limit_usd, spent_by_stage
from ziggurat.estimate import estimate
from ziggurat.history import History
from ziggurat.spec import Spec


def to_come(spec: Spec, history: History) -> dict[str, float]:
    """Expected cost of what each unfinished stage still has to do, in US dollars; what runs is part of it."""
    spent = spent_by_stage(history)
    committed: dict[str, float] = {}
    for segment in history.open_segments.values():
        stage = group(segment.job.stage)
        committed[stage] = committed.get(stage, 0.0) + segment.forecast_usd
    found = dict(committed)
    for row in estimate(spec, history):
        if not history.finished(row.stage):
            left = row.usd - spent.get(row.stage, 0.0)
            found[row.stage] = max(found.get(row.stage, 0.0), left, 0.0)
    return found


def forecast_usd(spec: Spec, history: History) -> float:
    """Expected cost of everything still to come in all stages, in US dollars."""
    return sum(to_come(spec, history).values())


def later_rounds_usd(spec: Spec, history: History, stage: str, reserved_usd: float = 0.0) -> float:
    """What the rounds of a search behind a stage are expected to cost, kept from it.

    Args:
        spec: The spec.
        history: What has happened.
        stage: The last round, and stages that do not search, have none behind them.
        reserved_usd: Kept back for later stages; of the rest of the limit at most half is kept for rounds.
    """
    names = spec.searching
    later = names[names.index(stage) + 1 :] if stage in names else ()
    if not later:
        return 0.0
    coming = to_come(spec, history)
    wanted = sum(coming.get(name, 0.0) for name in later)
    limit = limit_usd(spec.budget, history)
    return wanted if limit is None else min(wanted, max(0.0, limit - reserved_usd) / 2)
