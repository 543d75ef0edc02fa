"""What all stages share: being started once, finished once, and skipped when they have been."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ziggurat.domain import Candidate, Fidelity, Measurement, Recipe, Trial
from ziggurat.engine import Engine
from ziggurat.errors import StageFailed
from ziggurat.events import StageFinished, StageStarted, TrialProposed
from ziggurat.history import History
from ziggurat.plan import Step

OK, FAILED, SKIPPED, BUDGET = "ok", "failed", "skipped", "stopped_by_budget"


def begin(engine: Engine, stage: str) -> bool:
    """Start a stage; False if it has ended before and stays so.

    A stage that the budget ended is taken up again if a limit has been raised since.

    Raises:
        StageFailed: It has failed before; going on as if it had not would spend money on a hopeless run.
    """
    done = engine.run.history.stages.get(stage)
    if done is not None and done.verdict == FAILED:
        raise StageFailed(f"{stage}: has failed before ({done.summary.get('reason', 'no reason kept')})")
    if done is not None and not (done.verdict == BUDGET and engine.money.raised(stage, done.summary)):
        return False
    engine.run.record([StageStarted(stage)])
    return True


def finish(engine: Engine, stage: str, verdict: str, summary: Mapping[str, Any] | None = None) -> None:
    """End a stage, with the limits under which it ended and how long its workers had nothing to do."""
    facts = {
        **engine.money.in_force(stage),
        "waited_s": round(engine.idle.waited_s, 3),
        **(summary or {}),
    }
    engine.run.record([StageFinished(stage, verdict, facts)])
    engine.release(stage)


def verdict_of(step: Step) -> str:
    """The verdict that a stage's last step amounts to."""
    if step.failed:
        return FAILED
    return BUDGET if step.blocked else OK


def proposed(  # noqa: PLR0913 - the fields of the event
    history: History,
    stage: str,
    index: int,
    candidate: Candidate,
    *,
    offset: int,
    seed: int,
    ladder: tuple[Fidelity, ...],
    recipe: Recipe = Recipe.SEARCH,
    static: tuple[Measurement, ...] = (),
    lineage: tuple[Candidate, ...] = (),
    origin: str = "",
) -> TrialProposed:
    """The event that makes a candidate a trial; `offset` counts those proposed just before it."""
    return TrialProposed(
        trial=max(history.trials, default=-1) + 1 + offset,
        index=index,
        stage=stage,
        candidate=candidate,
        seed=seed,
        ladder=ladder,
        recipe=recipe,
        static=static,
        lineage=lineage,
        origin=origin,
        seen=history.length,
    )


def propose(engine: Engine, bodies: Iterable[TrialProposed]) -> None:
    """Journal proposals of one stage, except those that a killed controller has journalled before."""
    history = engine.run.history
    missing = [b for b in bodies if b.index not in {t.index for t in history.of_stage(b.stage)}]
    first = max(history.trials, default=-1) + 1
    engine.run.record(replace(body, trial=first + offset) for offset, body in enumerate(missing))


def static_of(trial: Trial) -> tuple[Measurement, ...]:
    """What is known of a trial's candidate without training and without a device."""
    return tuple(m for m in trial.static.values() if m.device is None and m.step is None)
