"""The questions that people ask first, each with one sentence for an answer; empty where nothing is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ziggurat.budget import spent_by_stage
from ziggurat.domain import Goal
from ziggurat.report import words
from ziggurat.report.devices import of_devices
from ziggurat.report.pick import interval
from ziggurat.report.tables import LATENCIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ziggurat.domain import Objective
    from ziggurat.report.case import Case
    from ziggurat.report.findings import Findings
    from ziggurat.report.pick import Pick
    from ziggurat.report.results import Statistic

FEW = 10
"""Choices up to which a sentence names them all."""
OVER_PLAN = 1.2
SIZES = ("parameters", "flops", "file_size_mb", "model_size_mb", "peak_memory_mb")


def model(case: Case, taken: Pick) -> str:
    """Which model to take."""
    chosen = taken.candidate.choices
    what = f"{words.many(len(chosen), 'choice')}, listed below"
    if len(chosen) <= FEW:
        what = ", ".join(
            f"{n} {f'{v:.4g}' if isinstance(v, float) else words.setting(v)}" for n, v in chosen.items()
        )
    row = taken.retrained
    if row is None:
        return f"The architecture of trial {taken.trial} ({what}), as far as the search knows it."
    models = f"model {row.trials[0]}" if len(row.trials) == 1 else f"models {words.spans(row.trials)}"
    more = len(case.summary.retrained) - 1
    others = f"; {words.many(more, 'further architecture')} {'was' if more == 1 else 'were'} retrained"
    return f"The architecture of trial {taken.trial} ({what}), retrained as {models}{others if more else ''}."


def quality(case: Case, taken: Pick) -> str:
    """How good it is: sealed test, validation, the search's own judgement, and chance."""
    objective = next((o for o in case.summary.objectives if _learned(case, o)), case.summary.objectives[0])
    metric = objective.metric
    parts = []
    if taken.retrained is not None:
        tests = [n for n in taken.retrained.metrics if n.startswith("test_") and not n.endswith("_loss")]
        parts = [f"{over_seeds(n, taken.retrained.metrics[n])}" for n in tests[:1]]
        mine = taken.retrained.metrics.get(metric)
        parts += [over_seeds(metric, mine)] if mine is not None else []
    if taken.searched is not None and metric in taken.searched.metrics:
        value = words.shown(metric, taken.searched.metrics[metric], case.summary.units[metric])
        parts.append(f"{value} in the search")
    chance = case.facts.chance.get(metric)
    if chance is not None:
        parts.append(f"{words.shown(metric, chance)} by chance")
    return "; ".join(parts) + "." if parts else ""


def over_seeds(metric: str, found: Statistic) -> str:
    """A metric with what is known of its spread over seeds."""
    name, mean = words.name_of(metric), words.shown(metric, found.mean, found.unit)
    ends = interval(found)
    if ends is not None:
        low, high = (words.bare(metric, v) for v in ends)
        unit = words.unit_of(metric, found.unit)
        end = f" {unit}" if unit else ""
        return f"{mean} {name} (mean of {len(found.values)} seeds, 95 % interval {low} to {high}{end})"
    if len(found.values) > 1:
        each = " and ".join(words.shown(metric, v, found.unit) for v in found.values)
        return f"{mean} {name} (mean of two seeds: {each})"
    return f"{mean} {name} (one seed, so its spread is not known)"


def _learned(case: Case, objective: Objective) -> bool:
    return objective.metric in (*case.spec.metrics.learned, *case.spec.derived)


def speed(case: Case, taken: Pick) -> str:
    """How fast it is, on each device on which it was measured; else as the search knew it."""
    parts = []
    if taken.retrained is not None:
        first = case.spec.devices[0].name
        parts = [_on(device or first, found) for device, found in of_devices(taken.retrained).items()]
        parts = [p for p in parts if p]
    if parts:
        return "; ".join(parts) + "."
    row = taken.searched
    if row is None or LATENCIES[0] not in row.metrics:
        return ""
    value = words.shown(LATENCIES[0], row.metrics[LATENCIES[0]], "ms")
    error = row.predicted.get(LATENCIES[0])
    how = "as measured in the search" if error is None else f"predicted by a table, ± {100 * error:.1f} %"
    return f"{value} (p50) on {case.spec.devices[0].name}, {how}."


def _on(device: str, found: Mapping[str, Statistic]) -> str:
    if LATENCIES[0] not in found:
        return ""
    middle = words.shown(LATENCIES[0], found[LATENCIES[0]].mean, "ms")
    tail = (
        f", p99 {words.shown(LATENCIES[2], found[LATENCIES[2]].mean, 'ms')}" if LATENCIES[2] in found else ""
    )
    return f"{middle} on {device} (p50{tail})"


def size(case: Case, taken: Pick) -> str:
    """How large it is."""
    found = [(n, taken.find(n)) for n in SIZES]
    parts = [words.phrase(n, s.mean, s.unit) for n, s in found if s is not None and math.isfinite(s.mean)]
    return words.capital(words.listing(parts)) + "." if parts else ""


def reference(case: Case, taken: Pick) -> str:
    """How it compares with the reference point of the objectives."""
    parts = []
    for objective in case.summary.objectives:
        found = taken.find(objective.metric)
        if found is not None and math.isfinite(found.mean):
            parts.append(_against(objective, found.mean, case.summary.units[objective.metric]))
    return words.capital(words.listing(parts)) + "." if parts else ""


def _against(objective: Objective, value: float, unit: str) -> str:
    metric, base = objective.metric, objective.reference
    name = words.name_of(metric)
    shown = f"{words.shown(metric, value, unit)} against {words.shown(metric, base, unit)}"
    if words.is_accuracy(metric):
        points = 100 * (value - base)
        return f"{abs(points):.1f} points {'more' if points >= 0 else 'less'} {name} ({shown})"
    if base > 0 and value > 0:
        share = (
            f"{words.number(100 * value / base)} %"
            if value <= base
            else f"{words.number(value / base)} times"
        )
        return f"{share} {'of ' if value <= base else ''}the {name} ({shown})"
    return f"{name} {shown}"


def random_search(case: Case, found: Findings) -> str:
    """How the search compares with random search at equal cost."""
    mine, other = found.curve, found.random
    if not case.history.of_stage("baseline"):
        return (
            "Not known: no random search ran beside this one (search.baseline trains random candidates "
            "for comparison)."
        )
    if mine is None or other is None or not other.cost:
        return "Random search ran beside it and found no answer within the limits."
    if not mine.cost:
        return "Random search found answers within the limits, this search none."
    cost = min(mine.total, other.total)
    (best, volume), (its_best, its_volume) = mine.at(cost), other.at(cost)
    at = words.usd(cost) if mine.priced else f"{words.duration(cost)} of worker time"
    ratio = f" ({volume / its_volume:.2f} times)" if its_volume > 0 else ""
    return (
        f"At the same cost of {at}, a hypervolume of {words.number(volume, 4)} against "
        f"{words.number(its_volume, 4)}{ratio}, and at best {words.shown(mine.metric, best)} against "
        f"{words.shown(other.metric, its_best)} {words.name_of(mine.metric)}."
    )


def limits(case: Case, taken: Pick) -> tuple[str, str]:
    """Whether the model keeps all limits, and the mark for it."""
    limited = [o for o in case.summary.objectives if o.limit is not None]
    if not limited:
        return "None were set for the objectives.", ""
    parts, broken, unknown = [], 0, 0
    for objective in limited:
        assert objective.limit is not None
        value, unit = taken.find(objective.metric), case.summary.units[objective.metric]
        sign = "≥" if objective.goal is Goal.MAXIMIZE else "≤"
        bound = f"{sign} {words.shown(objective.metric, objective.limit, unit)}"
        if value is None or not math.isfinite(value.mean):
            unknown += 1
            parts.append(f"{words.name_of(objective.metric)} not known ({bound})")
            continue
        broken += objective.breaks_limit(value.mean)
        shown = words.shown(objective.metric, value.mean, unit)
        parts.append(f"{words.name_of(objective.metric)} {shown} ({bound})")
    verdict, mark = ("All kept", "good") if not broken else (f"{broken} of {len(limited)} broken", "bad")
    if unknown and not broken:
        verdict, mark = "Not all known", "warn"
    return f"{verdict}: {words.listing(parts)}.", mark


def cost(case: Case) -> tuple[str, str]:
    """What the run cost, of what was planned and allowed, and where the money went; and the mark for it."""
    summary, limit, plan = case.summary, case.limit_usd, case.spec.budget.plan_usd
    took = f"{words.duration(summary.wall_s)} ({words.duration(summary.seconds)} of worker time)"
    if not case.priced:
        return f"{took}; the machines have no price.", ""
    bounds = [f"{words.usd(plan)} planned"] if plan is not None else []
    bounds += [f"{words.usd(limit)} allowed"] if limit is not None else ["no limit"]
    most = max(spent_by_stage(case.history).items(), key=lambda pair: pair[1], default=("", 0.0))
    share = f", {words.percent(most[1] / summary.cost_usd)} of it for the stage {most[0]}" if most[0] else ""
    text = f"{words.usd(summary.cost_usd)} ({words.listing(bounds)}) in {took}{share}."
    if limit is not None and summary.cost_usd > limit * (1 + 1e-9):
        return f"Over the limit: {text}", "bad"
    if plan is not None and summary.cost_usd > OVER_PLAN * plan:
        return f"Over plan: {text}", "warn"
    return (
        (f"Within {'plan' if plan is not None else 'the limit'}: {text}", "good")
        if plan or limit
        else (text, "")
    )
