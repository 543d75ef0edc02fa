"""What every decision may use, put together from a spec and a history; and what a segment will take.

Forecasts follow measured rates: seconds for one epoch on the whole training part, the candidate's own rate
if it has been trained before, else the upper quartile of what other candidates took, else the estimate of
the preflight.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from ziggurat.budget import cost_usd, limit_usd
from ziggurat.domain import Candidate, Fidelity, JobKind, Trial
from ziggurat.history import History
from ziggurat.prices import measure_usd_per_hour, retrain_usd_per_hour
from ziggurat.protocols import Context, Forecast
from ziggurat.segments import units
from ziggurat.spaces import TableSpace
from ziggurat.spec import Spec

EXPORTING_S = 3.0
"""Seconds for exporting a model, as long as nothing is known: most are for importing the exporters."""
UNKNOWN_RATE_S = 1.0
"""Seconds for an epoch when nothing at all is known."""
QUARTILE = 0.75
MEASURING_S = 0.5
"""Least seconds for measuring a model on one device or on the test part, as long as nothing is known."""


class Rates:
    """Measured seconds per unit, from a history."""

    def __init__(self, history: History, *, resumable: bool = True) -> None:
        """Look at the finished trainings of a history."""
        self._history = history
        self._resumable = resumable

    def _pace(self, candidate: str) -> float | None:
        found = self._history.paces.get(candidate)
        if found is None:
            return None
        seconds, resumed, whole = found
        return seconds / max(resumed if self._resumable else whole, 1e-9)

    def rate(self, candidate: Candidate) -> float:
        """Seconds for one unit of a candidate."""
        own = self._pace(candidate.key)
        return own if own is not None else self.typical

    @cached_property
    def typical(self) -> float:
        """Seconds for one unit of a candidate that nothing is known of."""
        rates = [pace for key in self._history.paces if (pace := self._pace(key)) is not None]
        if rates:
            return float(np.quantile(rates, QUARTILE))
        done = self._history.stages.get("preflight")
        prior = done.summary.get("epoch_s") if done is not None else None
        return float(prior) if isinstance(prior, (int, float)) else UNKNOWN_RATE_S


def forecaster(
    spec: Spec, history: History, ladder: Sequence[Fidelity], usd_per_hour: float | None = None
) -> Callable[[Candidate, int, int], Forecast]:
    """The forecast of a context, at the price of a worker of the run's launcher if no other is given."""
    price = spec.launcher.usd_per_hour if usd_per_hour is None else usd_per_hour
    resumable = spec.resumable
    rates = Rates(history, resumable=resumable)

    def forecast(candidate: Candidate, from_rung: int, to_rung: int) -> Forecast:
        seconds = rates.rate(candidate) * units(ladder, from_rung, to_rung, resumable=resumable)
        return Forecast(seconds, cost_usd(seconds, price))

    return forecast


def measuring_s(history: History, kind: JobKind, device: str | None = None) -> float:
    """Seconds for one job with a finished model: measuring on a device, evaluating or exporting.

    What such jobs took so far; else, for a device, what the preflight found; else a guess.
    """
    took = [s.end.seconds for s in history.successes(kind) if s.end and s.job.device == device]
    if took:
        return float(np.quantile(took, QUARTILE))
    done = history.stages.get("preflight")
    found = done.summary.get(f"measure_s.{device}") if done is not None else None
    if isinstance(found, (int, float)):
        return float(found)
    return EXPORTING_S if kind is JobKind.EXPORT else max(MEASURING_S, Rates(history).typical)


def measuring(spec: Spec, history: History, kind: JobKind, device: str | None = None) -> Forecast:
    """What one job with a finished model will take, and cost."""
    seconds = measuring_s(history, kind, device)
    return Forecast(seconds, cost_usd(seconds, measure_usd_per_hour(spec, device)))


def reserve_usd(spec: Spec, history: History) -> float:
    """What retraining and measuring are expected to cost, kept from others; at most half of the limit."""
    if not spec.retrain.enabled:
        return 0.0
    models = spec.retrain.k * spec.retrain.seeds
    rate = Rates(history, resumable=spec.resumable).typical
    price = retrain_usd_per_hour(spec)
    wanted = cost_usd(models * spec.retrain.epochs * rate * 1.2 + spec.budget.stop_margin_s, price)
    for kind in (JobKind.EVALUATE, JobKind.EXPORT):
        wanted += models * measuring(spec, history, kind).usd
    for device in spec.devices:
        wanted += models * measuring(spec, history, JobKind.PROFILE, device.name).usd
    limit = limit_usd(spec.budget, history)
    return wanted if limit is None else min(wanted, limit / 2)


def known_static(history: History) -> Callable[[Sequence[Candidate]], list[Mapping[str, float]]]:
    """Static metrics of candidates that have been measured; nothing for others."""

    def static(candidates: Sequence[Candidate]) -> list[Mapping[str, float]]:
        trials: dict[str, Trial] = {t.candidate.key: t for t in history.trials.values()}
        return [
            {n: m.value for n, m in trials[c.key].static.items()} if c.key in trials else {}
            for c in candidates
        ]

    return static


def chance(history: History) -> dict[str, float]:
    """Values that a model without skill reaches, as found by the preflight."""
    done = history.stages.get("preflight")
    if done is None:
        return {}
    prefix = "chance."
    return {
        name.removeprefix(prefix): float(value)
        for name, value in done.summary.items()
        if name.startswith(prefix) and isinstance(value, (int, float))
    }


def rng_for(spec: Spec, stage: str, index: int) -> np.random.Generator:
    """The generator of one proposal: a function of the seed, the stage and the trial's index."""
    return np.random.default_rng([spec.seed, zlib.crc32(stage.encode()), index])


def make_context(
    spec: Spec,
    history: History,
    stage: str,
    *,
    static: Callable[[Sequence[Candidate]], Sequence[Mapping[str, float]]] | None = None,
) -> Context:
    """The context of a decision of the search, or of a stage with the search's ladder."""
    ladder = spec.ladder()
    table = spec.space.table if isinstance(spec.space, TableSpace) else None
    return Context(
        choices=spec.space.choices(),
        objectives=spec.goals(),
        history=history,
        stage=stage,
        ladder=ladder,
        static=static or known_static(history),
        forecast=forecaster(spec, history, ladder),
        rng=rng_for(spec, stage, len(history.of_stage(stage))),
        trials=spec.search.trials,
        chance=chance(history),
        hyperparameters=frozenset(spec.space.hyperparameters),
        listing=table.candidates if table is not None else None,
        twins=table.twins if table is not None else {},
    )


def seed_for(spec: Spec, stage: str, index: int) -> int:
    """The training seed of a trial."""
    return int(rng_for(spec, stage + ":seed", index).integers(2**31 - 1))
