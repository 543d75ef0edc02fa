"""Questions to a history: which trials are answers, who is to blame, how long somebody drove the run."""

from __future__ import annotations

import math

from ziggurat.domain import FailureKind, Objective, Trial, TrialStatus
from ziggurat.history import History


def eligible(history: History, objectives: tuple[Objective, ...], stage: str = "search") -> list[Trial]:
    """Trials at their top rung with all objectives known and all limits kept: a front's material."""
    return [t for t in history.with_status(stage, TrialStatus.COMPLETED) if is_answer(t, objectives)]


def is_answer(trial: Trial, objectives: tuple[Objective, ...]) -> bool:
    """Whether a trial is trained in full, with all objectives known and all limits kept."""
    limits_kept = not any(o.breaks_limit(trial.value(o.metric)) for o in objectives)
    known = not any(math.isnan(v) for v in trial.losses(objectives))
    return trial.rung == trial.top_rung and limits_kept and known


def blameless(trial: Trial) -> bool:
    """Whether a trial ended for a reason that says nothing about its candidate."""
    return trial.failure is not None and trial.failure.kind in {FailureKind.PREEMPTED, FailureKind.LOST}


def waited_s(history: History) -> float:
    """Seconds in which the run waited for somebody to approve of the full training."""
    waits = (d.facts.get("waited_s") for d in history.decisions if d.kind == "approval")
    return sum(float(s) for s in waits if isinstance(s, (int, float)))


def driven_s(history: History, begun: float, ended: float) -> float:
    """Seconds between two times in which a controller drove the run."""
    away = sum(max(0.0, min(b, ended) - max(a, begun)) for a, b in history.downtimes)
    return max(0.0, ended - begun - away)
