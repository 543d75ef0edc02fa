"""What a run is expected to take, stage by stage, before it starts and while it runs.

Each kind of stage has a function of its own, which says how much work it is; times and prices come after.
"""

from __future__ import annotations

from dataclasses import dataclass

from ziggurat import proxies
from ziggurat.budget import cost_usd
from ziggurat.contexts import measuring
from ziggurat.domain import JobKind, Recipe, TrialStatus
from ziggurat.history import History
from ziggurat.paces import Paces
from ziggurat.prices import MAIN, RETRAIN, launcher_of, measured_in, workers_of
from ziggurat.scripted import devices, kinds_after, probe
from ziggurat.segments import climb, units
from ziggurat.spec import Spec
from ziggurat.strategies import Pbt

GOING_ON = frozenset((TrialStatus.READY, TrialStatus.RUNNING, TrialStatus.COMPLETED))
"""States of a trial at a rung that is to go beyond it, or has nothing beyond it."""
LEFT_BEHIND = frozenset((TrialStatus.STOPPED, TrialStatus.PAUSED))
PRIOR = 8.0
"""Trials that what is expected of early stopping counts for, against those that it has decided on."""


@dataclass(frozen=True)
class StageForecast:
    """Expected effort of one stage.

    Attributes:
        stage: Its name.
        segments: Expected number of segments.
        seconds: Worker seconds.
        usd: Cost.
        wall_s: Wall-clock seconds with all workers busy.
        low_s: Lower end of the interval of the worker seconds.
        high_s: Upper end.
        low_usd: Lower end of the interval of the cost.
        high_usd: Upper end.
        trials: Trials, trainings or measured models.
    """

    stage: str
    segments: float
    seconds: float
    usd: float
    wall_s: float
    low_s: float = 0.0
    high_s: float = 0.0
    low_usd: float = 0.0
    high_usd: float = 0.0
    trials: float = 0.0


@dataclass(frozen=True)
class Effort:
    """How much training a stage is.

    Attributes:
        stage: Its name.
        role: Of the launcher that it runs on.
        trials: Candidates that are trained, as often as they are.
        segments: Parts that the work comes in.
        work: Epochs on the whole training part, all together.
    """

    stage: str
    role: str
    trials: float
    segments: float
    work: float


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


def seen(spec: Spec, history: History, stage: str) -> list[float]:
    """The same once some have been decided: what is expected beforehand counts as a few trials of it."""
    prior = survivors(spec)
    counts = prior[:1]
    trials = history.of_stage(stage)
    for rung in range(len(prior) - 1):
        on = sum(t.rung > rung or (t.rung == rung and t.status in GOING_ON) for t in trials)
        ended = sum(t.rung == rung and t.status in LEFT_BEHIND for t in trials)
        expected = prior[rung + 1] / prior[rung]
        counts.append(counts[-1] * (on + PRIOR * expected) / (on + ended + PRIOR))
    return counts


def validation(spec: Spec) -> Effort:
    """Probes on the subset, and the climb to the top that the proxy is compared with."""
    v, ladder = spec.validation, spec.ladder()
    work = v.candidates * v.seeds * climb((probe(spec),))
    if v.proxy and len(ladder) > 1:
        work += v.candidates * (climb(ladder, resumable=spec.resumable) + proxies.compared(spec))
    return Effort("validate", MAIN, v.candidates, v.candidates * (v.seeds + len(ladder)), work)


def searching(spec: Spec, history: History, stage: str) -> Effort:
    """A search, or a round of it, with what early stopping leaves."""
    ladder = proxies.ladder(spec, history, stage)
    spec = spec.at(stage)
    counts = seen(spec, history, stage)
    work = sum(n * units(ladder, r - 1, r, resumable=spec.resumable) for r, n in enumerate(counts))
    return Effort(stage, MAIN, counts[0], sum(counts), work)


def baseline(spec: Spec) -> Effort:
    """Random candidates, trained to the top rung."""
    count, ladder = spec.search.baseline, spec.ladder()
    return Effort(
        "baseline", MAIN, count, count * len(ladder), count * climb(ladder, resumable=spec.resumable)
    )


def retraining(spec: Spec) -> Effort:
    """The full training of the best."""
    models = spec.retrain.k * spec.retrain.seeds
    return Effort("retrain", RETRAIN, models, models * len(spec.full_ladder()), models * spec.retrain.epochs)


def efforts(spec: Spec, history: History) -> list[Effort]:
    """All stages that train, in order."""
    found = [validation(spec)] if spec.validation.enabled else []
    found += [searching(spec, history, stage) for stage in spec.searching]
    found += [baseline(spec)] if spec.search.baseline else []
    found += [retraining(spec)] if spec.retrain.enabled else []
    return found


def estimate(spec: Spec, history: History) -> list[StageForecast]:
    """Forecast of all stages that cost money, at the times known so far."""
    paces = Paces(spec, history)
    rows = [_forecast(spec, history, effort, paces) for effort in efforts(spec, history)]
    return rows + ([measurement(spec, history)] if spec.retrain.enabled else [])


def _forecast(spec: Spec, history: History, effort: Effort, paces: Paces) -> StageForecast:
    price = launcher_of(spec, effort.role).usd_per_hour
    span = paces.span(effort.work, effort.segments, effort.trials)
    # no more of them are busy than there are trainings
    busy = max(1.0, min(workers_of(spec, effort.role), effort.trials))
    # candidates that are measured on a device, one after the other
    names = measured_in(spec, effort.stage) if effort.stage in {*spec.searching, "baseline"} else []
    jobs = [measuring(spec, history, JobKind.PROFILE, name) for name in names]
    more_s, more_usd = (effort.trials * sum(getattr(j, part) for j in jobs) for part in ("seconds", "usd"))
    return StageForecast(
        stage=effort.stage,
        segments=effort.segments,
        seconds=span.seconds + more_s,
        usd=cost_usd(span.seconds, price) + more_usd,
        wall_s=max(span.seconds / busy, more_s),
        low_s=span.low + more_s,
        high_s=span.high + more_s,
        low_usd=cost_usd(span.low, price) + more_usd,
        high_usd=cost_usd(span.high, price) + more_usd,
        trials=effort.trials,
    )


def measurement(spec: Spec, history: History) -> StageForecast:
    """Evaluating, exporting and measuring every retrained model, one after the other."""
    models = spec.retrain.k * spec.retrain.seeds
    jobs = [measuring(spec, history, kind) for kind in kinds_after(spec)]
    jobs += [measuring(spec, history, JobKind.PROFILE, name) for name in devices(spec, Recipe.RETRAIN)]
    seconds, usd = models * sum(j.seconds for j in jobs), models * sum(j.usd for j in jobs)
    return StageForecast(
        "measure", models * len(jobs), seconds, usd, seconds, seconds, seconds, usd, usd, models
    )


def naive_usd(spec: Spec, history: History) -> float:
    """What training every trial to the top rung would cost."""
    trials = spec.search.trials
    work = trials * climb(spec.ladder(), resumable=spec.resumable)
    span = Paces(spec, history).span(work, trials * len(spec.fidelities), trials)
    return cost_usd(span.seconds, spec.launcher.usd_per_hour)
