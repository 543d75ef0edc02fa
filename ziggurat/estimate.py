"""What a run is expected to take, stage by stage, before it starts and while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from ziggurat.budget import cost_usd
from ziggurat.contexts import rates_of
from ziggurat.history import History
from ziggurat.prices import MAIN, RETRAIN, launcher_of, workers_of
from ziggurat.scripted import probe
from ziggurat.segments import climb, units
from ziggurat.spec import Spec
from ziggurat.strategies import Pbt


@dataclass(frozen=True)
class StageForecast:
    """Expected effort of one stage.

    Attributes:
        stage: Its name.
        segments: Expected number of segments.
        seconds: Worker seconds.
        usd: Cost.
        wall_s: Wall-clock seconds with all workers busy.
    """

    stage: str
    segments: float
    seconds: float
    usd: float
    wall_s: float


def survivors(spec: Spec) -> list[float]:
    """Expected number of trials that train towards each rung."""
    stopper = spec.search.decider
    if isinstance(stopper, Pbt):
        return [float(stopper.population)] * len(spec.fidelities)
    reach = getattr(stopper, "reach", None)
    if reach is not None:
        return [max(1.0, spec.search.trials * share) for share in reach(len(spec.fidelities) - 1)]
    factor = float(getattr(stopper, "reduction_factor", 1.0))
    grace = int(getattr(stopper, "grace", 0))
    counts: list[float] = []
    left = float(spec.search.trials)
    for rung in range(len(spec.fidelities)):
        counts.append(left)
        if rung >= grace:
            left = max(1.0, left / factor)
    return counts


def estimate(spec: Spec, history: History) -> list[StageForecast]:
    """Forecast of all stages that cost money, at the rates known so far."""
    resumable = spec.resumable
    rates = rates_of(spec, history)
    ladder = spec.ladder()
    rows: list[tuple[str, float, float]] = []
    if spec.validation.enabled:
        v = spec.validation
        work = v.candidates * v.seeds * climb((probe(spec),))
        if v.proxy and len(ladder) > 1:
            work += v.candidates * climb(ladder, resumable=resumable)
        rows.append(("validate", v.candidates * (v.seeds + len(ladder)), work))
    counts = survivors(spec)
    work = sum(n * units(ladder, r - 1, r, resumable=resumable) for r, n in enumerate(counts))
    rows.append(("search", sum(counts), work))
    if spec.retrain.enabled:
        models = spec.retrain.k * spec.retrain.seeds
        rows.append(("retrain", models * len(spec.full_ladder()), models * spec.retrain.epochs))
    # stages that train have the names of their launchers' roles, or the run's own launcher
    roles = {stage: RETRAIN if stage == RETRAIN else MAIN for stage, _, _ in rows}
    return [
        StageForecast(
            stage=stage,
            segments=segments,
            seconds=seconds,
            usd=cost_usd(seconds, launcher_of(spec, roles[stage]).usd_per_hour),
            wall_s=seconds / workers_of(spec, roles[stage]),
        )
        for stage, segments, w in rows
        for seconds in [rates.seconds(w, segments)]
    ]


def naive_usd(spec: Spec, history: History) -> float:
    """What training every trial to the top rung would cost."""
    work = spec.search.trials * climb(spec.ladder(), resumable=spec.resumable)
    seconds = rates_of(spec, history).seconds(work, spec.search.trials * len(spec.fidelities))
    return cost_usd(seconds, spec.launcher.usd_per_hour)
