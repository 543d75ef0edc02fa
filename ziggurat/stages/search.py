"""Proxy search: many cheap trials, stopped early, until the trials or the money are used up."""

from __future__ import annotations

from typing import Any

from ziggurat import pareto
from ziggurat.answers import eligible
from ziggurat.domain import TrialStatus
from ziggurat.engine import BASELINE, Engine, search_planner
from ziggurat.errors import StageFailed
from ziggurat.events import TrialEnded
from ziggurat.stages import common

STAGE = "search"


def search(engine: Engine) -> None:
    """Run the search.

    Raises:
        StageFailed: Too many trials failed, or none reached the top rung within the limits.
    """
    if common.begin(engine, STAGE):
        _search(engine)
    done = engine.run.history.stages[STAGE]
    if engine.run.spec.search.baseline and done is not None and done.verdict == common.OK:
        _compare(engine)


def _search(engine: Engine) -> None:
    step = engine.drive(search_planner(engine.run), STAGE, reserve=True)
    verdict = common.verdict_of(step)
    run = engine.run
    if verdict == common.OK:
        paused = run.history.with_status(STAGE, TrialStatus.PAUSED)
        run.record(
            TrialEnded(t.number, TrialStatus.STOPPED, reason=f"not promoted beyond rung {t.rung}")
            for t in paused
        )
    goals = run.spec.goals()
    done = eligible(run.history, goals)
    losses = [t.losses(goals) for t in done]
    volume = pareto.hypervolume(losses, [o.loss(o.reference) for o in goals]) if done else 0.0
    facts: dict[str, Any] = {
        "hypervolume": volume,
        "completed": len(done),
        "reason": step.blocked,
    }
    if verdict == common.OK and not done:
        verdict, facts["reason"] = common.FAILED, "no trial reached the top rung with all limits kept"
    common.finish(engine, STAGE, verdict, facts)
    if verdict == common.FAILED:
        raise StageFailed(f"search: {facts['reason']}")


def _compare(engine: Engine) -> None:
    """Train random candidates to the top rung; without the money for it there is nothing to compare with."""
    if common.begin(engine, BASELINE):
        step = engine.drive(search_planner(engine.run, BASELINE), BASELINE, reserve=True)
        verdict = common.OK if common.verdict_of(step) == common.OK else common.SKIPPED
        common.finish(engine, BASELINE, verdict, {"reason": step.blocked})
