"""`ziggurat estimate`: what a spec or a run will take and cost, and where it would cost less."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from flows import trial_runs
from ziggurat import run_places, runs
from ziggurat.alternatives import Place, places, stale
from ziggurat.budget import limit_usd, spent_by_stage
from ziggurat.checks import line
from ziggurat.domain import TRAINING
from ziggurat.errors import SpecError, near
from ziggurat.estimate import estimate, naive_usd
from ziggurat.events import StageFinished
from ziggurat.history import History
from ziggurat.paces import Paces
from ziggurat.prices import RETRAIN
from ziggurat.pricing.table import Table, load
from ziggurat.spec import Spec
from ziggurat.stages import common
from ziggurat.stages.preflight import STAGE, gather

HOUR_S = 3600.0


def is_run(what: str) -> bool:
    """Whether something is a run rather than a spec."""
    return run_places.in_store(what) or Path(what).is_dir()


def of(what: str, sets: Sequence[str], regions: Collection[str]) -> dict[str, Any]:
    """The forecast of a spec, or of a run.

    Raises:
        SpecError: It is neither, or a check of the preflight has failed.
    """
    if not is_run(what):
        return _of_spec(Path(what), sets, regions)
    if sets:
        raise SpecError("--set changes a spec, and a run has its own; leave --set out, or name the spec")
    with run_places.reading(what) as folder:
        spec, history = runs.look(folder)
    return data(spec, history, datetime.datetime.now(tz=datetime.UTC).date(), regions)


def _of_spec(path: Path, sets: Sequence[str], regions: Collection[str]) -> dict[str, Any]:
    today = datetime.datetime.now(tz=datetime.UTC).date()
    with trial_runs.scratch(path, sets) as engine:
        table(engine.run.spec, regions)  # what is wrong with the regions is said before anything is tried
        found = gather(engine, alone=True)
        if found.failed:
            raise SpecError("\n".join(line(c) for c in found.failed))
        run = engine.run
        run.record([StageFinished(STAGE, common.OK, found.facts)])
        return data(run.spec, run.history, today, regions)


def table(spec: Spec, regions: Collection[str]) -> Table:
    """The price table of a spec.

    Raises:
        SpecError: It cannot be read, or has nothing in one of the regions.
    """
    found = load(spec.prices)
    for region in regions:
        if region not in found.regions:
            raise SpecError(
                f"--region {region}: the price table has no such region; {near(region, found.regions)}"
            )
    return found


def data(spec: Spec, history: History, today: datetime.date, regions: Collection[str]) -> dict[str, Any]:
    """The forecast as data: stages, sums, limits, and the cheapest machines."""
    rows = estimate(spec, history)
    spent = spent_on(history)
    limit = limit_usd(spec.budget, history)
    found = places(spec, rows, table(spec, regions), regions)
    low, high = (sum(getattr(r, end) for r in rows) for end in ("low_usd", "high_usd"))
    usd, wall_s = sum(r.usd for r in rows), sum(r.wall_s for r in rows)
    return {
        "name": spec.name,
        "run_id": history.run_id if history.spent_usd else None,
        "stages": [{**vars(row), "spent_usd": spent.get(row.stage, 0.0)} for row in rows],
        "total_usd": usd,
        "low_usd": low,
        "high_usd": high,
        "total_wall_s": wall_s,
        "spent_usd": history.spent_usd,
        "naive_search_usd": naive_usd(spec, history),
        "basis": Paces(spec, history).basis,
        "limit_usd": limit,
        "limit_hours": spec.budget.limit_hours,
        "plan_usd": spec.budget.plan_usd,
        "verdicts": verdicts(spec, limit, (usd, high), wall_s / HOUR_S),
        "usd_per_hour": spec.launcher.usd_per_hour,
        "price": None if spec.launcher.price is None else spec.launcher.price.origin,
        "places": [plain(place) for place in found],
        "warnings": stale(spec, today, found),
    }


def spent_on(history: History) -> dict[str, float]:
    """Cost of every stage of the forecast: what is done with finished models is a stage of its own there."""
    found = spent_by_stage(history)
    ends = [s for s in history.segments.values() if s.end is not None and s.job.stage == RETRAIN]
    after = sum(s.end.cost_usd for s in ends if s.end is not None and s.job.kind not in TRAINING)
    return {**found, RETRAIN: found.get(RETRAIN, 0.0) - after, "measure": found.get("measure", 0.0) + after}


def verdicts(spec: Spec, limit: float | None, usd: tuple[float, float], hours: float) -> dict[str, str]:
    """Whether the forecast keeps each limit: fits, exceeds, or may exceed where only the interval does.

    Args:
        spec: Has the plan and the limit of time.
        limit: Of money, as it is in force.
        usd: Expected cost, and the upper end of its interval.
        hours: Expected wall-clock hours.
    """
    expected, high = usd
    found: dict[str, str] = {}
    for key, bound in (("limit_usd", limit), ("plan_usd", spec.budget.plan_usd)):
        if bound is not None:
            found[key] = "exceeds" if expected > bound else "may exceed" if high > bound else "fits"
    if spec.budget.limit_hours is not None:
        found["limit_hours"] = "exceeds" if hours > spec.budget.limit_hours else "fits"
    return found


def plain(place: Place) -> dict[str, Any]:
    """A launcher and its cheapest machines, as plain values."""
    return {
        "launcher": place.key,
        "need": {**vars(place.need), "words": str(place.need)},
        "workers": place.workers,
        "worker_hours": place.hours,
        "usd": place.usd,
        "usd_per_hour": place.usd_per_hour,
        "interruption": {"checkpoint_s": place.loss.checkpoint_s, "start_s": place.loss.start_s},
        "suitable": place.suitable,
        "machines": [
            {
                "instance": a.choice.offer.instance,
                "market": a.choice.offer.market,
                "region": a.choice.offer.region,
                "zone": a.choice.offer.zone,
                "gpu": a.choice.offer.machine.gpu,
                "machine_usd_per_hour": a.choice.offer.usd_per_hour,
                "workers_on_it": a.choice.carried,
                "usd_per_hour": a.choice.usd_per_hour,
                "useful_usd_per_hour": a.choice.useful_usd,
                "interruptions_per_hour": a.choice.rate,
                "usd": a.usd,
                "same_gpu": a.comparable,
                "date": None if a.choice.offer.date is None else str(a.choice.offer.date),
                "source": a.choice.offer.source,
                "reason": a.choice.reason,
            }
            for a in place.found
        ],
    }
