"""How stages train what they have proposed in full: to the top, or only to where it tells what is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from ziggurat import plan, prices
from ziggurat.contexts import forecaster
from ziggurat.domain import Candidate, Measurement, Trial, TrialStatus
from ziggurat.engine import Engine, Planner
from ziggurat.events import TrialEnded, candidate_from_plain, measurements_from_plain
from ziggurat.plan import Step
from ziggurat.protocols import Forecast


def planner_for(stage: str, *, reserve: bool) -> Planner:
    """The plan of a stage whose trials climb their ladders; `reserve`: keep back what retraining costs."""

    def planner(engine: Engine, free: int) -> Step:
        def of(trial: Trial, to_rung: int) -> Forecast:
            price = prices.dearest_usd_per_hour(engine.run.spec, stage)
            forecast = forecaster(engine.run.spec, engine.run.history, trial.ladder, price)
            return forecast(trial.candidate, trial.rung, to_rung)

        rules = engine.context_rules(stage, reserve=reserve)
        return plan.fixed_jobs(engine.run.history, stage, free, forecast=of, rules=rules)

    return planner


def tolerant(stage: str, brief: Callable[[Trial], bool] = lambda _: False) -> Planner:
    """The plan of a stage of probes, that starts nothing more once too many of them have failed.

    Args:
        stage: The stage.
        brief: Which of its trials have told all they are for once they reach their lowest rung.
    """
    planner = planner_for(stage, reserve=True)

    def plan_on(engine: Engine, free: int) -> Step:
        history = engine.run.history
        told = [t for t in history.with_status(stage, TrialStatus.UNDECIDED) if brief(t)]
        if told:
            ends = [
                TrialEnded(t.number, TrialStatus.STOPPED, reason="a probe of a cheap setting") for t in told
            ]
            return Step(tuple(ends), ())
        ends_first = planner(engine, 0)
        if hopeless(engine, stage):
            return replace(ends_first, done=not history.open_segments)
        return ends_first if ends_first.bodies else planner(engine, free)  # failures are written down first

    return plan_on


def hopeless(engine: Engine, stage: str) -> str:
    """Why so many trials of a stage have failed that its verdict is certain; empty if they have not."""
    trials = engine.run.history.of_stage(stage)
    failed = [t for t in trials if t.status is TrialStatus.FAILED]
    if len(failed) <= engine.run.spec.validation.max_failures * len(trials):
        return ""
    last = next((t.failure.text for t in reversed(failed) if t.failure), "")
    return f"{len(failed)} of {len(trials)} probes fail on the way to the top rung, the last with: {last}"


def probes(engine: Engine) -> list[tuple[Candidate, tuple[Measurement, ...]]]:
    """The candidates that the preflight has found for probing, with what it knows of them."""
    done = engine.run.history.stages.get("preflight")
    text = str(done.summary.get("probes", "[]")) if done is not None else "[]"
    return [
        (candidate_from_plain(p["candidate"]), measurements_from_plain(p["static"])) for p in json.loads(text)
    ]
