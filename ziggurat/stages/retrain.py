"""Full retraining: the K best architectures, the full recipe, several seeds."""

from __future__ import annotations

import json

from ziggurat import pareto
from ziggurat.answers import eligible
from ziggurat.contexts import seed_for
from ziggurat.domain import Recipe, Trial
from ziggurat.engine import Engine
from ziggurat.events import Decided
from ziggurat.lineage import replayed
from ziggurat.stages import common
from ziggurat.stages.validate import planner_for

STAGE = "retrain"


def retrain(engine: Engine) -> None:
    """Select once, then train all seeds of all selected architectures.

    One that inherited its beginning is trained with the hyperparameters of its whole lineage, each for the
    share of the epochs that it had in the search.
    """
    settings = engine.run.spec.retrain
    if not common.begin(engine, STAGE):
        return
    selected = _select(engine) if settings.enabled else []
    if not selected:
        common.finish(engine, STAGE, common.SKIPPED)
        return
    run = engine.run
    ways = [replayed(run.history, trial, run.spec.full_ladder()) for trial in selected]
    pairs = [
        (seed, trial, way)
        for seed in range(settings.seeds)
        for trial, way in zip(selected, ways, strict=True)
    ]
    common.propose(
        engine,
        (
            common.proposed(
                run.history,
                STAGE,
                index,
                trial.candidate,
                offset=index,
                seed=seed_for(run.spec, STAGE, seed),
                ladder=ladder,
                lineage=lineage,
                recipe=Recipe.RETRAIN,
                static=common.static_of(trial),
                origin=f"trial {trial.number}",
            )
            for index, (seed, trial, (ladder, lineage)) in enumerate(pairs)
        ),
    )
    step = engine.drive(planner_for(STAGE, reserve=False), STAGE)
    done = [t for t in run.history.of_stage(STAGE) if t.rung == t.top_rung]
    verdict = common.verdict_of(step)
    if verdict == common.OK and not done:
        verdict = common.FAILED
    common.finish(engine, STAGE, verdict, {"models": len(done), "reason": step.blocked})


def _select(engine: Engine) -> list[Trial]:
    """The selected search trials, best first; decided once and replayed afterwards."""
    run, settings = engine.run, engine.run.spec.retrain
    chosen = run.history.decision("selection")
    if chosen is not None:
        return [run.history.trials[n] for n in json.loads(str(chosen.facts["trials"]))]
    goals = run.spec.goals()
    done = eligible(run.history, goals)
    if not done:
        return []
    reference = [o.loss(o.reference) for o in goals]
    picked = pareto.pick(
        [t.losses(goals) for t in done], reference, min(settings.k, len(done)), settings.method
    )
    trials = [done[i] for i in picked]
    numbers = [t.number for t in trials]
    run.record(
        [
            Decided(
                "selection",
                settings.method,
                seen=run.history.length,
                reason=f"{len(trials)} of {len(done)} trials at the top rung, by {settings.method}",
                facts={"trials": json.dumps(numbers)},
            )
        ]
    )
    return trials
