"""Proxy search: many cheap trials, stopped early, until the trials or the money are used up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ziggurat import pareto, plan, prices
from ziggurat.answers import eligible
from ziggurat.contexts import make_context
from ziggurat.domain import JobKind, TrialStatus
from ziggurat.engine import Engine, Planner
from ziggurat.errors import StageFailed
from ziggurat.events import TrialEnded
from ziggurat.plan import Step
from ziggurat.runs import Run
from ziggurat.searchers import RandomSearch
from ziggurat.stages import common
from ziggurat.stoppers import Never

STAGE, BASELINE = "search", "baseline"


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
        verdict, facts["reason"] = common.FAILED, _nothing(run)
    common.finish(engine, STAGE, verdict, facts)
    if verdict == common.FAILED:
        raise StageFailed(f"search: {facts['reason']}")


def _nothing(run: Run) -> str:
    """What is said of a search without an eligible trial: where most have failed, with what."""
    trials = run.history.of_stage(STAGE)
    failed = [t for t in trials if t.status is TrialStatus.FAILED]
    text = "no trial reached the top rung with all limits kept"
    if 2 * len(failed) <= len(trials):
        return text
    last = next((f"trial {t.number} with: {t.failure.text}" for t in reversed(failed) if t.failure), "")
    return f"{text}: {len(failed)} of {len(trials)} failed, the last was {last}"


def _compare(engine: Engine) -> None:
    """Train random candidates to the top rung; without the money for it there is nothing to compare with."""
    if common.begin(engine, BASELINE):
        step = engine.drive(search_planner(engine.run, BASELINE), BASELINE, reserve=True)
        verdict = common.OK if common.verdict_of(step) == common.OK else common.SKIPPED
        common.finish(engine, BASELINE, verdict, {"reason": step.blocked})


def _device_free(engine: Engine) -> bool | None:
    """Whether a candidate can be measured now, on a device with machines of its own; None if it has none."""
    device = engine.run.spec.devices[0]
    if device.launcher is None or not prices.measured_in(engine.run.spec, STAGE):
        return None
    return engine.pool.free_on(device.name) > 0


def search_planner(run: Run, stage: str = STAGE) -> Planner:
    """The plan of the search, or of its random baseline, whose trials all go to the top rung."""
    settings = run.spec.search
    random = stage == BASELINE

    def planner(engine: Engine, free: int) -> Step:
        context = make_context(run.spec, run.history, stage)
        return plan.next_jobs(
            replace(context, trials=settings.baseline) if random else context,
            free,
            searcher=RandomSearch() if random else settings.proposer,
            stopper=Never() if random else settings.decider,
            joint=settings.strategy is not None and not random,
            rules=engine.context_rules(stage, reserve=True),
            service_free=engine.pool.free(JobKind.PROPOSE) > 0,
            device_free=_device_free(engine),
            asking=engine.asking,
            exhausted=engine.exhausted,
        )

    return planner
