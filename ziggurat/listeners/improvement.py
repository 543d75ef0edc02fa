"""When the front last grew, and for how long work has gone on since: pure functions of a history.

The hypervolume itself is not computed: it grows exactly when a trial arrives inside the reference box that no
earlier one is at least as good as in every objective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ziggurat.domain import JobKind, Objective, Trial

if TYPE_CHECKING:
    from ziggurat.history import History


def last_utc(history: History, objectives: tuple[Objective, ...], stage: str = "search") -> float | None:
    """When a trial at its top rung last increased the hypervolume; None if none ever did."""
    reference = np.array([o.loss(o.reference) for o in objectives])
    front = np.empty((0, len(objectives)))
    last: float | None = None
    for utc, trial in _arrivals(history, stage):
        if any(o.breaks_limit(trial.value(o.metric)) for o in objectives):
            continue
        losses = np.array(trial.losses(objectives))
        # comparisons with NaN are false, so an incomplete trial is not inside
        if not (losses < reference).all() or (front <= losses).all(axis=1).any():
            continue
        front = np.vstack([front[~(losses <= front).all(axis=1)], losses])
        last = utc
    return last


def _arrivals(history: History, stage: str) -> list[tuple[float, Trial]]:
    """Trials of a stage with the time at which they reached their top rung, in order of that time."""
    found = [
        (segment.finished_utc or 0.0, history.trials[segment.job.trial])
        for segment in history.successes(JobKind.TRAIN, stage)
        if segment.job.to_rung >= history.trials[segment.job.trial].top_rung
    ]
    return sorted(found, key=lambda pair: pair[0])


def active_s(history: History, since_utc: float, now_utc: float) -> float:
    """Seconds since a moment in which at least one segment ran; time in which nobody drove the run is out."""
    spans = []
    for segment in history.segments.values():
        if segment.started_utc is None:
            continue
        end = now_utc if segment.end is None else segment.started_utc + segment.end.seconds
        spans.append((max(segment.started_utc, since_utc), min(end, now_utc)))
    total, reached = 0.0, since_utc
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
