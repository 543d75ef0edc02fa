"""What the preflight finds out about money and time: limits, the forecast, and what these buy of a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ziggurat import prices
from ziggurat.budget import limit_usd
from ziggurat.checks import Check
from ziggurat.estimate import StageForecast, estimate, survivors
from ziggurat.events import Event, StageFinished
from ziggurat.history import History
from ziggurat.spec import Spec
from ziggurat.stages import places

FEW = 10
"""Trials at the top rung below which a front says little."""
HOUR_S = 3600.0


def criteria(spec: Spec) -> Check:
    """What the run is to reach, in words."""
    goals = ", ".join(
        f"{o.metric} {o.goal.value}d from {o.reference:g}"
        + (f" within {o.limit:g}" if o.limit is not None else "")
        for o in spec.goals()
    )
    return Check("success criteria", ok=True, text=goals)


def limits(spec: Spec, limit: float | None) -> list[Check]:
    """Whether money and time are limited where they cost anything."""
    dearest = max(prices.launcher_of(spec, role).usd_per_hour for role in places.roles(spec))
    budget = spec.budget
    hours = "no limit of time" if budget.limit_hours is None else f"at most {budget.limit_hours:g} hours"
    if limit is None and dearest:
        text = f"{hours}, and no limit of money although an hour costs up to {dearest:g} USD"
        return [Check("budget", None, text, "set budget.limit_usd; it is never passed")]
    if limit is not None and not spec.launcher.usd_per_hour:
        text = f"a limit of {limit:g} USD, but launcher.usd_per_hour is 0"
        return [Check("budget", None, text, "set launcher.usd_per_hour to the price of an hour of a worker")]
    if limit is None:
        return [Check("budget", ok=True, text=f"machines cost nothing; {hours}")]
    plan = f", {budget.plan_usd:g} USD planned" if budget.plan_usd is not None else ""
    return [Check("budget", ok=True, text=f"at most {limit:g} USD{plan}; {hours}")]


def fits(spec: Spec, history: History, facts: Mapping[str, Any]) -> list[Check]:
    """Whether the forecast keeps the limits, and what they buy of the search."""
    known = told(history, facts)
    rows = estimate(spec, known)
    limit = limit_usd(spec.budget, known)
    return [forecast(spec, rows, limit), strategy(spec, rows, limit)]


def told(history: History, facts: Mapping[str, Any]) -> History:
    """A history as it will be once the preflight has told what it has found."""
    known = history.copy()
    body = StageFinished("preflight", "ok", dict(facts))
    known.apply(Event(known.length, known.last_utc, known.run_id, body))
    return known


def forecast(spec: Spec, rows: list[StageForecast], limit: float | None) -> Check:
    """Whether the run is expected to end before its limits."""
    usd, hours = sum(r.usd for r in rows), sum(r.wall_s for r in rows) / HOUR_S
    text = f"{usd:.3g} USD and {lasting(hours)} are expected"
    if limit is not None and usd > limit:
        text += f", more than the limit of {limit:g} USD, which will end the run"
        return Check("forecast", None, text, f"raise budget.limit_usd to {usd:.2g}, or lower search.trials")
    if spec.budget.limit_hours is not None and hours > spec.budget.limit_hours:
        text += f", more than the limit of {spec.budget.limit_hours:g} hours, which will end the run"
        return Check(
            "forecast", None, text, "raise budget.limit_hours or search.workers, or lower search.trials"
        )
    plan = spec.budget.plan_usd
    if plan is not None and usd > plan:
        text += f", more than the plan of {plan:g} USD"
        return Check("forecast", None, text, f"set budget.plan_usd to {usd:.2g}, or lower search.trials")
    return Check("forecast", ok=True, text=text)


def lasting(hours: float) -> str:
    """A time in words."""
    if hours >= 1:
        return f"{hours:.1f} hours"
    minutes = max(1, round(60 * hours))
    return f"{minutes} minute{'s' if minutes > 1 else ''}"


def strategy(spec: Spec, rows: list[StageForecast], limit: float | None) -> Check:
    """How many trials reach the top rung for the money and the time there are."""
    share = min(
        affordable({r.stage: r.usd for r in rows}, limit, spec.searching),
        affordable(
            {r.stage: r.wall_s for r in rows},
            None if spec.budget.limit_hours is None else spec.budget.limit_hours * HOUR_S,
            spec.searching,
        ),
    )
    wanted = survivors(spec)[-1]
    count = wanted * share
    text = f"about {count:.0f} of {spec.search.trials} trials reach the top rung"
    if share < 1 and count < FEW:
        text += f", where the limits buy {share:.0%} of the search"
        cure = "raise the limits, or lower fidelities or retrain; a front of so few says little"
        return Check("strategy", None, text, cure)
    return Check("strategy", ok=True, text=text)


def affordable(costs: Mapping[str, float], limit: float | None, searching: tuple[str, ...]) -> float:
    """Which share of a search a limit leaves room for, once the other stages have had their part.

    Args:
        costs: What each stage is expected to take.
        limit: What all may take together; None for no limit.
        searching: The stages that search.
    """
    search = sum(cost for stage, cost in costs.items() if stage in searching)
    others = sum(costs.values()) - search
    if limit is None or search <= 0:
        return 1.0
    # what later stages are expected to take is kept from the search up to half of the limit
    return min(1.0, max(0.0, limit - min(others, limit / 2)) / search)
