"""Full retraining: the K best architectures, the full recipe, several seeds.

What is retrained can be amended later (see `ziggurat.stages.again`): the stage is then opened again, and
trains what is not there yet.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ziggurat import amended
from ziggurat.domain import Recipe, Trial
from ziggurat.engine import Engine
from ziggurat.events import Decided
from ziggurat.runs import Run
from ziggurat.stages import approval, common, selection
from ziggurat.stages.selection import STAGE
from ziggurat.stages.validate import planner_for


def retrain(engine: Engine) -> None:
    """Select, then train all seeds of all selected architectures that have not been trained yet.

    One that inherited its beginning is trained with the hyperparameters of its whole lineage, each for the
    share of the epochs that it had in the search.
    """
    if not common.begin(engine, STAGE):
        return
    run = engine.run
    refused = approval.refusal(run.history)
    chosen = _select(run) if run.spec.retrain.enabled and not refused else []
    if not chosen:
        common.finish(engine, STAGE, common.SKIPPED, {"reason": refused} if refused else None)
        return
    _propose(engine, chosen)
    step = engine.drive(planner_for(STAGE, reserve=False), STAGE)
    done = [t for t in run.history.of_stage(STAGE) if t.rung == t.top_rung]
    verdict = common.verdict_of(step)
    if verdict == common.OK and not done:
        verdict = common.FAILED
    common.finish(engine, STAGE, verdict, {"models": len(done), "reason": step.blocked})


def _propose(engine: Engine, chosen: Sequence[Trial]) -> None:
    """Make trials of the trainings that are missing."""
    run = engine.run
    first = len(run.history.of_stage(STAGE))
    common.propose(
        engine,
        (
            common.proposed(
                run.history,
                STAGE,
                first + offset,
                training.trial.candidate,
                offset=offset,
                seed=training.seed,
                ladder=training.ladder,
                lineage=training.lineage,
                recipe=Recipe.RETRAIN,
                static=common.static_of(training.trial),
                origin=f"trial {training.trial.number}",
            )
            for offset, training in enumerate(selection.missing(run.spec, run.history, chosen))
        ),
    )


def _select(run: Run) -> list[Trial]:
    """The selected search trials, best first; decided once for each revision, and replayed afterwards."""
    history, revision = run.history, amended.revision(run.history)
    chosen = history.decision("selection")
    if chosen is not None and chosen.facts.get("revision", 0) == revision:
        return [history.trials[n] for n in json.loads(str(chosen.facts["trials"]))]
    trials = selection.selected(run.spec, history)
    if not trials:
        return []
    asked = bool(amended.chosen(history))
    method = "chosen" if asked else run.spec.retrain.method
    many = f"{len(trials)} of {len(selection.candidates(run.spec, history))} trials at the top rung"
    run.record(
        [
            Decided(
                "selection",
                method,
                seen=history.length,
                reason=f"{many}, as asked for" if asked else f"{many}, by {method}",
                facts={"trials": json.dumps([t.number for t in trials]), "revision": revision},
            )
        ]
    )
    return trials
