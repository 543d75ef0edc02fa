"""What the preflight finds out about data, space, trainer, devices and limits, inside a worker.

Every finding is a check with a name, a verdict, what was found and what to do about it. Nothing is trained
beyond a few batches.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ziggurat import choices
from ziggurat.checks import Check, Findings
from ziggurat.contexts import rng_for
from ziggurat.data_checks import check_splits
from ziggurat.domain import Candidate, Objective
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.events import to_plain
from ziggurat.latency import METRIC
from ziggurat.proxies import resolutions
from ziggurat.representatives import representatives
from ziggurat.scripted import script_of
from ziggurat.space_checks import (
    BUILDS,
    SIZE,
    check_extremes,
    check_memory,
    check_resolutions,
    check_space,
    static_value,
)
from ziggurat.spaces import TableSpace
from ziggurat.spec import Spec

if TYPE_CHECKING:
    from ziggurat.jobs import Desk
    from ziggurat.tables import Table
    from ziggurat.trainers import AnyTrainer

SAMPLES = 1000
POOL = 6
"""Candidates, for each probe that is wanted, of which the probes are chosen."""
MEASURED_SAMPLES = 8
RARE = 0.02
"""Share of candidates within a limit below which a search is mostly refused."""
SHOWN = 12
TABLES = "latency table"


def inspect(desk: Desk, probes: int) -> dict[str, Any]:
    """Inspect everything and return checks, facts and feasible candidates for probing as plain JSON."""
    found = Findings()
    if isinstance(desk.spec.space, TableSpace):
        with found.step("space"):
            _table(desk.spec, desk.spec.space.table, found)
        return _plain(found)
    if script_of(desk.spec) is not None:
        from ziggurat.script_checks import inspect_script

        inspect_script(desk, found, probes)
        return _plain(found)
    _inspect_models(desk, found)
    check_devices(desk, found)
    if not found.failed:
        with found.step("devices"):
            check_measurable(desk, found)
    if not found.failed:
        with found.step("limits"):
            check_limits(desk, found, probes)
    return _plain(found)


def _inspect_models(desk: Desk, found: Findings) -> None:
    """Inspect what is trained here: data, models and trainers."""
    with found.step("data", "see the keys under data: and `ziggurat schema`"):
        _data(desk, found)
    if not found.failed:
        with found.step("splits", "see data.split"):
            check_splits(desk, found)
        with found.step("space"):
            check_space(desk, found)
    if not found.failed:
        _tables(desk, found)  # what they predict is looked at with each candidate
    reached = None
    if not any(c.ok is False and c.name in {"data", "space", TABLES} for c in found.checks):
        with found.step("space"):
            check_resolutions(desk, found, resolutions(desk.spec))
        with found.step("space"):
            reached = check_extremes(desk, found)
    if reached is not None:
        with found.step("memory"):
            check_memory(desk, found, reached)
    trainers = {"search.trainer": desk.spec.search.trainer, "retrain.trainer": desk.spec.retrain.trainer}
    for key, trainer in trainers.items():
        if trainer is not None:
            with found.step(key):
                check_trainer(key, trainer)
                found.good(key, "optimiser and schedule can be used")


def _tables(desk: Desk, found: Findings) -> None:
    """Check that latency tables can be used."""
    for device in (d for d in desk.spec.devices if d.table is not None):
        with found.step(TABLES):
            told = desk.bench.tables[device.name].told(time.time())
            found.good(TABLES, f"{device.table} for device '{device.name}': {told}")


def check_devices(desk: Desk, found: Findings) -> None:
    """Check that the devices of this machine are there."""
    for device in (d for d in desk.spec.devices if d.launcher is None):
        with found.step("devices"):
            device.check()
            found.good("devices", f"{device.name} is present: {device.describe()}")


def _plain(found: Findings) -> dict[str, Any]:
    return {"checks": [vars(c) for c in found.checks], "facts": found.facts, "probes": found.probes}


def _table(spec: Spec, table: Table, found: Findings) -> None:
    """Check a table: the ladder's epochs are in it, and some row keeps all limits that are known of it."""
    lacking = [f.epochs for f in spec.ladder() if f.epochs not in table.scores]
    if lacking:
        known = ", ".join(str(e) for e in list(table.scores)[:SHOWN])
        raise SpecError(f"fidelities: epochs {lacking[0]} is not in the table; it has {known}")
    for o in spec.goals():
        values = table.static.get(o.metric)
        if o.limit is not None and values is not None and all(o.breaks_limit(float(v)) for v in values):
            raise SpecError(f"objectives: no row keeps the limit of {o.limit:g} on {o.metric}; raise it")
    found.facts["epoch_s"] = table.unit_s / table.top
    found.good("space", f"a table of {len(table.rows)} measured candidates")


def check_trainer(key: str, trainer: AnyTrainer) -> None:
    """Check a trainer; its errors name its keys without knowing under which key it stands itself."""
    try:
        trainer.check()
    except SpecError as error:
        raise SpecError(re.sub(r"\btrainer\.", f"{key}.", str(error))) from None


def _data(desk: Desk, found: Findings) -> None:
    from ziggurat.datasets import chance

    data = desk.data
    found.facts |= {
        "classes": data.signature.classes,
        "train": len(data.train_y),
        "validation": len(data.validation_y),
        "fingerprint": desk.spec.data.fingerprint(),
        "shape": "x".join(str(n) for n in data.signature.shape),
    }
    found.facts |= {f"chance.{name}": value for name, value in chance(data).items()}
    found.good(
        "data",
        f"{len(data.train_y)} training and {len(data.validation_y)} validation examples of shape "
        f"{found.facts['shape']}, "
        f"{data.signature.classes} classes, test part sealed",
    )


def check_measurable(desk: Desk, found: Findings) -> None:
    """Measure a candidate, if objectives need that: an operation or a metric may be beyond the device."""
    device = desk.spec.devices[0]
    if device.launcher is not None or not set(desk.spec.inputs()) & set(desk.spec.metrics.measured):
        return
    from ziggurat.profilers.sampling import verdict

    rng = rng_for(desk.spec, "preflight", 2)
    sampled = (choices.sample(desk.spec.space.choices(), rng) for _ in range(BUILDS))
    candidate = next((c for c in sampled if desk.static(c)), None)
    if candidate is None:
        return
    measured = desk.bench.profile(desk.build(candidate, 0), candidate, device.name)
    text = f"{device.name}: {verdict(measured, device)}"
    found.checks.append(Check("devices", None if device.noisy(measured) else True, text))


def check_limits(desk: Desk, found: Findings, probes: int) -> None:
    """Find candidates within the limits on static metrics; fail if none of many is.

    The candidates that are to be probed are chosen among those that keep the limits.
    """
    limited = [o for o in desk.spec.goals() if o.limit is not None]
    predicted = [METRIC] if desk.spec.devices[0].table is not None else []
    known_of = desk.spec.metrics
    static = [o for o in limited if o.metric in (*known_of.static, *predicted)]
    measured = [o for o in limited if o.metric in known_of.measured and o.metric not in predicted]
    rng = rng_for(desk.spec, "preflight", 1)
    declared = desk.spec.space.choices()
    wanted = SAMPLES if static or measured else POOL * probes
    pool = {c.key: c for c in (choices.sample(declared, rng) for _ in range(wanted))}
    fits = list(pool.values())
    for o in static:
        # predictions alone take a fraction of the time of all that is known without training
        known = desk.bench.predicted if o.metric in predicted else desk.static
        values = [next((m.value for m in known(c) if m.metric == o.metric), math.nan) for c in pool.values()]
        keeps = {c.key for c, v in zip(pool.values(), values, strict=True) if not o.breaks_limit(v)}
        found.checks.append(_kept(o, values, len(keeps)))
        fits = [c for c in fits if c.key in keeps]
        if not fits:
            raise ZigguratError(_none(limited, o, values))
    script = script_of(desk.spec)
    here = desk.spec.devices[0].launcher is None and (script is None or script.profile_by is None)
    for o in measured if here else []:
        _measured_limit(desk, o.metric, o.breaks_limit, o.limit or 0.0, fits)
    if limited:
        share = len(fits) / max(1, len(pool))
        found.facts["feasible_share"] = share
        found.good(
            "limits", f"{share:.0%} of {len(pool)} sampled candidates keep the limits that need no training"
        )
    chosen = stand_ins(desk, fits[: POOL * probes], probes)
    found.probes = [{"candidate": to_plain(c), "static": to_plain(desk.static(c))} for c in chosen]
    _references(desk, fits[: POOL * probes], found)


def stand_ins(desk: Desk, pool: Sequence[Candidate], count: int) -> list[Candidate]:
    """Candidates of a pool that stand for all of it, cheap and dear ones alike."""
    cost = [static_value(desk, c, SIZE) for c in pool]
    return representatives(desk.spec.space.choices(), pool, cost, count)


def _kept(objective: Objective, values: Sequence[float], kept: int) -> Check:
    """How many of all sampled candidates keep one limit."""
    share = kept / max(1, len(values))
    within = f"{objective.metric} within {objective.limit:.6g}"
    text = f"{share:.0%} of {len(values)} sampled candidates keep {within}"
    if 0 < share < RARE:
        cure = "most proposals will be refused; relax the limit or leave out what breaks it"
        return Check("limits", None, text, cure)
    return Check("limits", ok=True, text=text)


def _none(limited: Sequence[Objective], last: Objective, values: Sequence[float]) -> str:
    """What is said where no sampled candidate keeps the limits so far."""
    ranged = f"they range from {np.nanmin(values):.6g} to {np.nanmax(values):.6g}"
    together = " together with the limits before it" if len(limited) > 1 and last is not limited[0] else ""
    return (
        f"objectives: none of {len(values)} sampled candidates keeps the limit {last.metric} "
        f"{last.limit:.6g}{together} ({ranged}); raise the limit or widen the space"
    )


def _references(desk: Desk, pool: Sequence[Candidate], found: Findings) -> None:
    """Whether what is known without training can be better than its reference at all."""
    for o in (o for o in desk.spec.goals() if o.metric in desk.spec.metrics.static):
        values = [v for c in pool if not math.isnan(v := static_value(desk, c, o.metric))]
        if values and all(o.loss(v) >= o.loss(o.reference) for v in values):
            best = min(values, key=o.loss)
            found.warn(
                "success criteria",
                f"none of {len(values)} sampled candidates is better than the reference {o.reference:.6g} of "
                f"{o.metric} (the best has {best:.6g}), so it adds nothing to the hypervolume",
                f"set the reference of {o.metric} to what is just not good enough",
            )


def _measured_limit(
    desk: Desk, metric: str, breaks: Callable[[float], bool], limit: float, fits: list[Candidate]
) -> None:
    """Measure the candidates with the fewest FLOPs; fail if even these break the limit."""
    import torch

    def flops(candidate: Candidate) -> float:
        return next((m.value for m in desk.static(candidate) if m.metric == "flops"), float("inf"))

    device = desk.spec.devices[0]
    best = float("inf")
    for candidate in sorted(fits, key=flops)[:MEASURED_SAMPLES]:
        example = torch.zeros(1, *desk.signature.shape)
        measurements = device.profile(desk.build(candidate, 0), example, candidate)
        value = next((m.value for m in measurements if m.metric == metric), float("nan"))
        best = min(best, value)
        if not breaks(value):
            return
    raise ZigguratError(
        f"objectives: none of {SAMPLES} sampled candidates keeps the limit {metric} {limit:.6g} "
        f"(the {MEASURED_SAMPLES} with the fewest FLOPs were measured, the best at {best:.6g}); "
        "raise the limit or widen the space"
    )
