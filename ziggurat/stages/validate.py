"""Subset validation: does anything learn, do candidates differ, does the space fail, does the proxy rank?

A few candidates are trained on a small stratified subset with several seeds; then the same candidates climb
the ladder to the top, and the lowest rung's ranking is compared with the top rung's. The gate stops a run
only if the upper end of the interval of Kendall's tau lies below the gate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ziggurat import plan, prices
from ziggurat.budget import cost_usd
from ziggurat.contexts import forecaster, rates_of, rng_for, seed_for
from ziggurat.domain import Candidate, Measurement, Trial, TrialStatus
from ziggurat.engine import Engine, Planner
from ziggurat.errors import StageFailed
from ziggurat.estimate import estimate
from ziggurat.events import Decided, candidate_from_plain, measurements_from_plain
from ziggurat.plan import Step
from ziggurat.protocols import FloatArray, Forecast
from ziggurat.scripted import probe, script_of
from ziggurat.segments import climb
from ziggurat.stages import common
from ziggurat.stages.preflight import forecast_facts
from ziggurat.stages.subset import STAGE, judge_subset

PROXY = "proxy"
FEWEST = 3
RESAMPLES = 2000
Numbers = Sequence[float] | FloatArray


def validate(engine: Engine) -> None:
    """Probe the space and the proxy.

    Raises:
        StageFailed: Nothing learns, too much fails, or the cheap setting does not rank as the dear one.
    """
    if not engine.run.spec.validation.enabled:
        if common.begin(engine, STAGE):
            common.finish(engine, STAGE, common.SKIPPED)
        return
    if not common.begin(engine, STAGE):
        return
    step = _subset(engine)
    facts = judge_subset(engine)
    stop = _objection(engine)
    if common.verdict_of(step) == common.OK and stop is None:
        step = _climb(engine)
        facts |= _judge_proxy(engine)
        stop = _objection(engine)
    if stop is not None:
        common.finish(engine, STAGE, common.FAILED, {**facts, "reason": stop.reason})
        raise StageFailed(f"validate: {stop.reason}")
    common.finish(engine, STAGE, common.verdict_of(step), facts)
    if script_of(engine.run.spec) is not None:
        forecast_facts(engine)  # only now is it known what an epoch takes


def _objection(engine: Engine) -> Decided | None:
    """The verdict that ends the run here, if there is one."""
    decided = (d for d in engine.run.history.decisions if d.kind in {"subset", "gate"})
    return next((d for d in decided if d.verdict == "stop"), None)


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


def _subset(engine: Engine) -> Step:
    """Train every probe on the subset, with every seed."""
    run, settings = engine.run, engine.run.spec.validation
    ladder = (probe(run.spec),)
    pairs = [(seed, *probe) for seed in range(settings.seeds) for probe in _probes(engine)]
    common.propose(
        engine,
        (
            common.proposed(
                run.history,
                STAGE,
                index,
                candidate,
                offset=index,
                seed=seed_for(run.spec, STAGE, seed),
                ladder=ladder,
                static=static,
                origin="probe",
            )
            for index, (seed, candidate, static) in enumerate(pairs)
        ),
    )
    return engine.drive(_tolerant(STAGE), STAGE, reserve=True)


def _hopeless(engine: Engine, stage: str) -> str:
    """Why so many trials of a stage have failed that its verdict is certain; empty if they have not."""
    trials = engine.run.history.of_stage(stage)
    failed = [t for t in trials if t.status is TrialStatus.FAILED]
    if len(failed) <= engine.run.spec.validation.max_failures * len(trials):
        return ""
    last = next((t.failure.text for t in reversed(failed) if t.failure), "")
    return f"{len(failed)} of {len(trials)} probes fail on the way to the top rung, the last with: {last}"


def _tolerant(stage: str) -> Planner:
    """The plan of a stage of probes, that starts nothing more once too many of them have failed."""
    planner = planner_for(stage, reserve=True)

    def tolerant(engine: Engine, free: int) -> Step:
        ends = planner(engine, 0)
        if _hopeless(engine, stage):
            return replace(ends, done=not engine.run.history.open_segments)
        return ends if ends.bodies else planner(engine, free)  # who has failed is written down first

    return tolerant


def _probes(engine: Engine) -> list[tuple[Candidate, tuple[Measurement, ...]]]:
    """The candidates that the preflight has found for probing, with what it knows of them."""
    done = engine.run.history.stages.get("preflight")
    text = str(done.summary.get("probes", "[]")) if done is not None else "[]"
    return [
        (candidate_from_plain(p["candidate"]), measurements_from_plain(p["static"])) for p in json.loads(text)
    ]


def _affordable(engine: Engine) -> int:
    """How many candidates may climb the whole ladder within the share of the budget set aside for it."""
    spec, history = engine.run.spec, engine.run.history
    work = climb(spec.ladder(), resumable=spec.resumable)
    took = rates_of(spec, history).seconds(work, len(spec.fidelities))
    each = cost_usd(took, spec.launcher.usd_per_hour)
    if engine.run.limit_usd is not None and each > 0:
        budget = engine.run.limit_usd * spec.validation.max_share
        return min(spec.validation.candidates, int(budget / each))
    seconds = sum(row.seconds for row in estimate(spec, history) if row.stage != STAGE)
    share = spec.validation.max_share * seconds / max(took, 1e-9)
    return min(spec.validation.candidates, max(FEWEST, int(share)))


def _climbers(engine: Engine) -> int:
    """How many candidates climb the whole ladder; decided once and replayed afterwards."""
    history = engine.run.history
    decided = history.decision("climbers")
    if decided is None:
        count = _affordable(engine)
        reason = f"{count} candidates fit into the proxy's share of the budget"
        engine.run.record([Decided("climbers", str(count), seen=history.length, reason=reason)])
        return count
    return int(decided.verdict)


def _climb(engine: Engine) -> Step:
    """Take candidates from the lowest rung to the top, as many as the share of the budget allows."""
    run = engine.run
    ladder = run.spec.ladder()
    if not run.spec.validation.proxy or len(ladder) == 1:
        return Step(done=True)
    count = _climbers(engine)
    if count < FEWEST:
        return Step(done=True)
    probes: dict[str, Trial] = {}
    for trial in run.history.of_stage(STAGE):
        if trial.status is TrialStatus.COMPLETED:
            probes.setdefault(trial.candidate.key, trial)
    common.propose(
        engine,
        (
            common.proposed(
                run.history,
                PROXY,
                index,
                t.candidate,
                offset=index,
                seed=seed_for(run.spec, PROXY, index),
                ladder=ladder,
                static=common.static_of(t),
                origin="probe",
            )
            for index, t in enumerate(list(probes.values())[:count])
        ),
    )
    return engine.drive(_tolerant(PROXY), PROXY, reserve=True)


def kendall(cheap: Numbers, dear: Numbers) -> float:
    """Kendall's tau-b of two rankings; NaN if one of them is constant. Source: Kendall 1945."""
    a, b = np.asarray(cheap, dtype=float), np.asarray(dear, dtype=float)
    upper = np.triu_indices(len(a), 1)
    x = np.sign(a[:, None] - a)[upper]
    y = np.sign(b[:, None] - b)[upper]
    scale = math.sqrt(float((x != 0).sum()) * float((y != 0).sum()))
    return float((x * y).sum()) / scale if scale else math.nan


def tau_interval(
    cheap: Numbers, dear: Numbers, confidence: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Kendall's tau with the percentile bootstrap interval (Efron 1979): tau, low, high."""
    a, b = np.asarray(cheap), np.asarray(dear)
    tau = kendall(a, b)
    draws = []
    for _ in range(RESAMPLES):
        pick = rng.integers(len(a), size=len(a))
        value = kendall(a[pick], b[pick])
        if not math.isnan(value):
            draws.append(value)
    if math.isnan(tau) or not draws:
        return tau, -1.0, 1.0
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return tau, float(min(low, tau)), float(max(high, tau))


def _judge_proxy(engine: Engine) -> dict[str, Any]:
    run, settings = engine.run, engine.run.spec.validation
    done = [t for t in run.history.of_stage(PROXY) if t.rung == t.top_rung]
    learned = run.spec.learned()
    if reason := _hopeless(engine, PROXY):
        run.record([Decided("gate", "stop", seen=run.history.length, reason=reason)])
        return {}
    if len(done) < FEWEST:
        reason = (
            "the proxy was not checked: fewer than 3 candidates reached the top rung "
            "within its share of the budget"
        )
        run.record([Decided("proxy", "unchecked", seen=run.history.length, reason=reason)])
        return {}
    top = [learned.loss(t.value(learned.metric)) for t in done]
    facts: dict[str, Any] = {"candidates": len(done), "gate_tau": settings.gate_tau, "metric": learned.metric}
    verdict, reason = "go", ""
    for rung in range(len(run.spec.fidelities) - 1):
        low_rung = [learned.loss(t.value(learned.metric, rung)) for t in done]
        tau, low, high = tau_interval(low_rung, top, settings.confidence, rng_for(run.spec, "gate", rung))
        if not math.isnan(tau):
            facts |= {
                f"tau_{rung}": round(tau, 4),
                f"low_{rung}": round(low, 4),
                f"high_{rung}": round(high, 4),
            }
        if rung == 0:
            facts |= {"tau": facts.get("tau_0"), "low": round(low, 4), "high": round(high, 4)}
            verdict = "stop" if high < settings.gate_tau else "go"
            shown = "not defined (all equal)" if math.isnan(tau) else f"{tau:.2f}"
            reason = (
                f"Kendall's tau between the lowest and the top rung is {shown}, "
                f"{settings.confidence:.0%} interval {low:.2f} to {high:.2f}, "
                f"the gate is {settings.gate_tau:g}"
            )
    if verdict == "stop":
        reason += "; raise the lowest rung in fidelities"
    run.record([Decided("gate", verdict, seen=run.history.length, reason=reason, facts=facts)])
    return {k: v for k, v in facts.items() if k in {"tau", "low", "high", "candidates"}}
