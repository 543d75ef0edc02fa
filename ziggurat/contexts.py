"""What every decision may use, put together from a spec and a history; and what a segment will take.

Forecasts follow measured rates: seconds for one epoch on the whole training part, the candidate's own rate
if it has been trained before, else the upper quartile of what other candidates took, else the estimate of
the preflight.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

import numpy as np

from ziggurat import proxies, rounds
from ziggurat.budget import cost_usd, limit_usd, stage_limit_usd
from ziggurat.domain import Candidate, Fidelity, Job, JobKind, Recipe, Trial
from ziggurat.history import History
from ziggurat.prices import (
    MAIN,
    device_role,
    job_launcher,
    launcher_of,
    measure_usd_per_hour,
    role_of,
    workers_of,
)
from ziggurat.protocols import Context, Forecast
from ziggurat.scripted import devices, kinds_after, script_of
from ziggurat.segments import units
from ziggurat.spaces import TableSpace
from ziggurat.spec import Spec

EXPORTING_S = 3.0
"""Seconds for exporting a model, as long as nothing is known: most are for importing the exporters."""
UNKNOWN_RATE_S = 1.0
"""Seconds for an epoch when nothing at all is known."""
QUARTILE = 0.75
SLACK = 1.2
"""So many times its forecast retraining may take."""
MEASURING_S = 0.5
"""Least seconds for measuring a model on one device or on the test part, as long as nothing is known."""


def start_and_rate(work: Sequence[float], seconds: Sequence[float]) -> tuple[float, float] | None:
    """Seconds for a start and for a unit that explain what segments took, on the safe side.

    A straight line by least squares, neither of its parts below 0, raised to the upper quartile of what the
    segments took of it. None if all were of the same length.
    """
    x, y = np.array(work, dtype=float), np.array(seconds, dtype=float)
    if len(np.unique(x)) < 2:  # noqa: PLR2004 - a line has two ends
        return None
    rate = max(0.0, float(np.polyfit(x, y, 1)[0]))
    start = float((y - rate * x).mean())
    if start < 0:
        start, rate = 0.0, float((x * y).sum() / (x * x).sum())
    fitted = start + rate * x
    slack = float(np.quantile(y / np.maximum(fitted, 1e-9), QUARTILE))
    return start * slack, rate * slack


def rates_of(spec: Spec, history: History) -> Rates:
    """What segments of a spec take, as far as is known."""
    return Rates(history, resumable=spec.resumable, starts=script_of(spec) is not None)


class Rates:
    """Measured seconds per unit, from a history."""

    def __init__(self, history: History, *, resumable: bool = True, starts: bool = False) -> None:
        """Look at the finished trainings of a history.

        Args:
            history: What has happened.
            resumable: A training goes on from its last rung.
            starts: Every segment starts a program, which takes its time whatever it is to do.
        """
        self._history = history
        self._resumable = resumable
        self._starts = starts

    @cached_property
    def _line(self) -> tuple[float, float] | None:
        """Seconds for starting and seconds for a unit; None where these cannot be told apart."""
        if not self._starts:
            return None
        ends = [(s.job, s.end.seconds) for s in self._history.successes(JobKind.TRAIN) if s.end]
        work = [units(j.ladder, j.from_rung, j.to_rung, resumable=self._resumable) for j, _ in ends]
        return start_and_rate(work, [seconds for _, seconds in ends])

    @property
    def starts_at(self) -> tuple[float, float] | None:
        """Seconds for starting and seconds for a unit; None where these cannot be told apart."""
        return self._line

    def seconds(self, work: float, segments: float = 1.0, candidate: Candidate | None = None) -> float:
        """Seconds for so many units in so many segments, of one candidate or of any."""
        if self._line is not None:
            return self._line[0] * segments + self._line[1] * work
        return work * (self.typical if candidate is None else self.rate(candidate))

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
    rates = rates_of(spec, history)

    def forecast(candidate: Candidate, from_rung: int, to_rung: int) -> Forecast:
        work = units(ladder, from_rung, to_rung, resumable=resumable)
        seconds = rates.seconds(work, candidate=candidate)
        return Forecast(seconds, cost_usd(seconds, price))

    return forecast


def measuring_s(
    history: History, kind: JobKind, device: str | None = None, guess_s: float | None = None
) -> float:
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
    if kind is JobKind.EXPORT:
        return EXPORTING_S
    return max(MEASURING_S, Rates(history).typical if guess_s is None else guess_s)


def measuring(spec: Spec, history: History, kind: JobKind, device: str | None = None) -> Forecast:
    """What one job with a finished model will take, and cost."""
    # a script's command has to start like its training
    guess_s = rates_of(spec, history).seconds(0.0) if script_of(spec) is not None else None
    seconds = measuring_s(history, kind, device, guess_s)
    return Forecast(seconds, cost_usd(seconds, measure_usd_per_hour(spec, device)))


def reserve_usd(spec: Spec, history: History) -> float:
    """What retraining and measuring are expected to cost, kept from others; at most half of the limit.

    Neither is given more than it may spend itself.
    """
    if not spec.retrain.enabled:
        return 0.0
    parts = {"retrain": _retraining_usd(spec, history), "measure": _measuring_usd(spec, history)}
    wanted = 0.0
    for stage, usd in parts.items():
        own = stage_limit_usd(spec.budget, history, stage)
        wanted += usd if own is None else min(usd, own)
    limit = limit_usd(spec.budget, history)
    return wanted if limit is None else min(wanted, limit / 2)


def _retraining_usd(spec: Spec, history: History) -> float:
    """What full training is expected to cost, with stopping as many as run at the same time."""
    models = spec.retrain.k * spec.retrain.seeds
    needed = rates_of(spec, history).seconds(models * spec.retrain.epochs, models * len(spec.full_ladder()))
    job = Job("", JobKind.TRAIN, "retrain", recipe=Recipe.RETRAIN)
    launcher, workers = job_launcher(spec, job), workers_of(spec, role_of(spec, job))
    stop_s = launcher.stop_s(job, spec.budget.stop_margin_s)
    wall_s = needed * SLACK / models * -(-models // workers) + stop_s
    busy = needed * SLACK + stop_s * min(models, workers)
    own = 0.0 if launcher.charge == "held" else cost_usd(busy, launcher.usd_per_hour)
    return own + _held_usd(spec, wall_s, {MAIN, role_of(spec, job)})


def _measuring_usd(spec: Spec, history: History) -> float:
    """What measuring the trained models is expected to cost, one after the other."""
    models = spec.retrain.k * spec.retrain.seeds
    wanted = 0.0
    for kind, device in [
        *((kind, None) for kind in kinds_after(spec)),
        *((JobKind.PROFILE, device) for device in devices(spec, Recipe.RETRAIN)),
    ]:
        role = MAIN if device is None else device_role(spec, device)
        each = measuring(spec, history, kind, device)
        own = 0.0 if launcher_of(spec, role).charge == "held" else each.usd
        wanted += models * (own + _held_usd(spec, each.seconds, {MAIN, role}))
    return wanted


def _held_usd(spec: Spec, seconds: float, roles: Collection[str]) -> float:
    """What machines cost that are paid whether they work or not, for some seconds."""
    held = [role for role in roles if launcher_of(spec, role).charge == "held"]
    price = sum(launcher_of(spec, role).usd_per_hour * (workers_of(spec, role) or 1) for role in held)
    return cost_usd(seconds, price)


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
    ladder = proxies.ladder(spec, history, stage)
    spec = spec.at(stage)
    space = rounds.space_of(spec, history, stage)
    table = space.table if isinstance(space, TableSpace) else None
    return Context(
        choices=space.choices(),
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
