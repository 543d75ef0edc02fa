"""Which trials of a search are answers: trained in full, with all objectives known and all limits kept."""

from __future__ import annotations

import math

from ziggurat.domain import Objective, Trial, TrialStatus
from ziggurat.history import History


def eligible(history: History, objectives: tuple[Objective, ...]) -> list[Trial]:
    """Search trials at their top rung with all objectives known and all limits kept: a front's material."""
    return [t for t in history.with_status("search", TrialStatus.COMPLETED) if is_answer(t, objectives)]


def is_answer(trial: Trial, objectives: tuple[Objective, ...]) -> bool:
    """Whether a trial is trained in full, with all objectives known and all limits kept."""
    limits_kept = not any(o.breaks_limit(trial.value(o.metric)) for o in objectives)
    known = not any(math.isnan(v) for v in trial.losses(objectives))
    return trial.rung == trial.top_rung and limits_kept and known
