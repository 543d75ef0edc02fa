"""Proxy search: many cheap trials, stopped early, until the trials or the money are used up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ziggurat import pareto, plan, prices, proxies, rounds
from ziggurat.analysis import narrow
from ziggurat.answers import eligible
from ziggurat.contexts import make_context, seed_for
from ziggurat.domain import JobKind, TrialStatus
from ziggurat.engine import Engine, Planner
from ziggurat.errors import StageFailed
from ziggurat.events import Decided, TrialEnded
from ziggurat.plan import Step
from ziggurat.runs import Run
from ziggurat.searchers import RandomSearch
from ziggurat.stages import common
from ziggurat.stoppers import Never

STAGE, BASELINE = "search", "baseline"
CANDIDATES_PER_TRIAL = 4
"""So many candidates are left at least for each trial of a round whose space is narrowed."""


def search(engine: Engine) -> None:
    """Run the search, round by round.

    Raises:
        StageFailed: Too many trials of a round failed, or none reached its top rung within the limits.
    """
    for stage in engine.run.spec.searching:
        if common.begin(engine, stage):
            _begin_round(engine, stage)
            _search(engine, stage)
    done = engine.run.history.stages[STAGE]
    if engine.run.spec.search.baseline and done is not None and done.verdict == common.OK:
        _compare(engine)


def _search(engine: Engine, stage: str) -> None:
    step = engine.drive(search_planner(engine.run, stage), stage, reserve=True)
    verdict = common.verdict_of(step)
    run = engine.run
    if verdict == common.OK:
        paused = run.history.with_status(stage, TrialStatus.PAUSED)
        run.record(
            TrialEnded(t.number, TrialStatus.STOPPED, reason=f"not promoted beyond rung {t.rung}")
            for t in paused
        )
    goals = run.spec.goals()
    done = eligible(run.history, goals, stage)
    losses = [t.losses(goals) for t in done]
    volume = pareto.hypervolume(losses, [o.loss(o.reference) for o in goals]) if done else 0.0
    facts: dict[str, Any] = {
        "hypervolume": volume,
        "completed": len(done),
        "reason": step.blocked,
    }
    if verdict == common.OK and not done:
        verdict, facts["reason"] = common.FAILED, _nothing(run, stage)
    common.finish(engine, stage, verdict, facts)
    if verdict == common.FAILED:
        raise StageFailed(f"{stage}: {facts['reason']}")


def _begin_round(engine: Engine, stage: str) -> None:
    """Take over what the round before has found: where its best lie, and these themselves."""
    run = engine.run
    spec, earlier = run.spec.at(stage), rounds.before(run.spec, stage)
    if earlier is None:
        return
    goals = run.spec.goals()
    done = eligible(run.history, goals, earlier)
    if spec.search.narrow and rounds.decided(run.history, stage) is None:
        run.record([_narrowing(run, stage, earlier)])
    if not done or not spec.search.again:
        return
    losses, reference = [t.losses(goals) for t in done], [o.loss(o.reference) for o in goals]
    count = min(spec.search.again, len(done), spec.search.trials)
    best = pareto.pick(losses, reference, count, "hypervolume")
    common.propose(
        engine,
        (
            common.proposed(
                run.history,
                stage,
                index,
                done[i].candidate,
                offset=index,
                seed=seed_for(run.spec, stage, index),
                ladder=proxies.ladder(run.spec, run.history, stage),
                static=tuple(done[i].static.values()),
                origin=f"trial {done[i].number} of {earlier}",
            )
            for index, i in enumerate(best)
        ),
    )


def _narrowing(run: Run, stage: str, earlier: str) -> Decided:
    """In which part of the space a round begins, and why."""
    space = rounds.space_of(run.spec, run.history, earlier)
    wanted = CANDIDATES_PER_TRIAL * run.spec.at(stage).search.trials
    found = narrow.narrower(space, run.history.of_stage(earlier), run.spec.goals(), wanted=wanted)
    facts: dict[str, Any] = {"stage": stage, "kept": found.kept}
    if found.changed:
        facts["space"] = json.dumps(found.space)
    verdict = "narrower" if found.changed else "same"
    return Decided(rounds.DECISION, verdict, None, None, run.history.length, "; ".join(found.reasons), facts)


def _nothing(run: Run, stage: str) -> str:
    """What is said of a search without an eligible trial: where most have failed, with what."""
    trials = run.history.of_stage(stage)
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
    settings = run.spec.at(stage).search
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
