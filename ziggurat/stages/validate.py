"""Subset validation: does anything learn, do candidates differ, does the space fail, does the proxy rank?

A few candidates are trained on a small stratified subset with several seeds (`subset`); then candidates climb
the ladder to the top, and cheap settings' rankings are compared with the top rung's (`proxy`). The gate stops
a run only if the upper end of the interval of Kendall's tau lies below the gate.
"""

from __future__ import annotations

from ziggurat.contexts import seed_for
from ziggurat.engine import Engine
from ziggurat.errors import StageFailed
from ziggurat.plan import Step
from ziggurat.scripted import probe, script_of
from ziggurat.stages import common, proxy, verdicts
from ziggurat.stages.preflight import forecast_facts
from ziggurat.stages.probing import planner_for, probes, tolerant
from ziggurat.stages.subset import STAGE, judge_subset

__all__ = ["planner_for", "validate"]


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
    stop = verdicts.objection(engine)
    if common.verdict_of(step) == common.OK and stop is None:
        step, more = proxy.compare(engine)
        facts |= more
        stop = verdicts.objection(engine)
    if stop is not None:
        common.finish(engine, STAGE, common.FAILED, {**facts, "reason": stop.reason})
        raise StageFailed(f"validate: {stop.reason}")
    common.finish(engine, STAGE, common.verdict_of(step), facts)
    if script_of(engine.run.spec) is not None:
        forecast_facts(engine)  # only now is it known what an epoch takes


def _subset(engine: Engine) -> Step:
    """Train every probe on the subset, with every seed."""
    run, settings = engine.run, engine.run.spec.validation
    ladder = (probe(run.spec),)
    pairs = [(seed, *chosen) for seed in range(settings.seeds) for chosen in probes(engine)]
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
    return engine.drive(tolerant(STAGE), STAGE, reserve=True)
