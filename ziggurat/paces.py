"""How long work takes, with an interval: from the paces of the candidates that have been trained so far.

The forecast of one segment, which decides whether it may start, errs on the safe side (`ziggurat.contexts`).
Here the question is what many trainings take together: the mean, and how far off it may be. Two things make
it uncertain: the mean is known from few candidates, and those to come differ among themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from ziggurat.contexts import Rates, rates_of, start_and_rate
from ziggurat.domain import JobKind
from ziggurat.history import History
from ziggurat.segments import units
from ziggurat.spec import Spec

COVERAGE = 0.9
"""Of the interval."""
QUANTILE = 1.6449
"""Of the standard normal distribution at the upper end of the interval."""
RESAMPLES = 400
FEW = 30
"""Candidates below which the interval is a bootstrap; beyond, the normal approximation is as good."""
UNSURE = 2.0
LEAST = 0.05
"""Share of a training that is its own at least, whatever a start takes."""
LATEST = 500
"""Trainings that are looked at."""
"""Factor either way, where one number is all that is known."""


@dataclass(frozen=True)
class Span:
    """Worker seconds.

    Attributes:
        seconds: Expected.
        low: Lower end of the interval.
        high: Upper end.
    """

    seconds: float
    low: float
    high: float


class Paces:
    """What is known of how long candidates take."""

    def __init__(self, spec: Spec, history: History) -> None:
        """Look at a history."""
        self._spec = spec
        self._history = history
        self._rates: Rates = rates_of(spec, history)

    @cached_property
    def start_s(self) -> float:
        """Seconds that every segment takes whatever its length: 0 unless segments of several lengths tell."""
        work, seconds = self._latest
        if len(set(work)) < 2:  # noqa: PLR2004 - a line has two ends
            return 0.0
        start = float(np.polyfit(work, seconds, 1)[1])
        return max(0.0, min(start, *seconds))

    @cached_property
    def measured(self) -> list[float]:
        """Seconds for a unit of work of every candidate that has been trained, without its start."""
        resumed = self._spec.resumable
        found = [(s, both[0] if resumed else both[1]) for s, *both in self._history.paces.values()]
        return [max(s - self.start_s, s * LEAST) / work for s, work in found if work > 0]

    @cached_property
    def _latest(self) -> tuple[list[float], list[float]]:
        """Work and seconds of the trainings that ended last."""
        trained = (
            (s.job, s.end.seconds)
            for s in reversed(self._history.segments.values())
            if s.job.kind is JobKind.TRAIN and s.end is not None and s.end.failure is None
        )
        resumable = self._spec.resumable
        found = [
            (units(j.ladder, j.from_rung, j.to_rung, resumable=resumable), seconds)
            for j, seconds in islice(trained, LATEST)
        ]
        return [work for work, _ in found], [seconds for _, seconds in found]

    @cached_property
    def timed(self) -> list[float]:
        """The same as the preflight has found it from a few batches of some candidates."""
        done = self._history.stages.get("preflight")
        found: Any = done.summary.get("epochs_s") if done is not None else None
        return [float(s) for s in found if s > 0] if isinstance(found, list | tuple) else []

    @property
    def basis(self) -> str:
        """Where the times come from, in words."""
        if self.measured:
            return f"trainings of {len(self.measured)} candidate{'s' if len(self.measured) > 1 else ''}"
        if self.timed:
            return f"a few batches of {len(self.timed)} candidates, without loading data: rough"
        if self._history.stages.get("preflight") is not None:
            return "the preflight: rough"
        return "a guess: nothing has been measured"

    def span(self, work: float, segments: float, draws: float) -> Span:
        """What some work takes.

        Args:
            work: Units, all candidates together.
            segments: Parts that it comes in.
            draws: Candidates that it is shared among.
        """
        if self._rates.starts_at is not None:
            return self._lines(work, segments)
        paces = self.measured or self.timed
        if not paces:
            seconds = self._rates.seconds(work, segments)
            return Span(seconds, seconds / UNSURE, seconds * UNSURE)
        low, high = around(paces, max(1.0, draws), self._spec.seed)
        starts = segments * self.start_s if self.measured else 0.0
        return Span(starts + work * float(np.mean(paces)), starts + work * low, starts + work * high)

    def _lines(self, work: float, segments: float) -> Span:
        """The same by a start and a rate, resampling the segments that these are known from."""
        seconds = self._rates.seconds(work, segments)
        known = np.array(self._latest).T
        rng = np.random.default_rng([self._spec.seed, len(known)])
        found = []
        for chosen in rng.integers(len(known), size=(RESAMPLES // 4, len(known))):
            line = start_and_rate(list(known[chosen, 0]), list(known[chosen, 1]))
            if line is not None:
                found.append(line[0] * segments + line[1] * work)
        ends = np.quantile(found or [seconds], [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
        return Span(seconds, min(seconds, float(ends[0])), max(seconds, float(ends[1])))


def around(paces: list[float], draws: float, seed: int) -> tuple[float, float]:
    """Interval of the mean pace of some further candidates, given the paces of those that are known.

    A percentile bootstrap (Efron 1979) of the mean, with the spread of the further candidates about it. One
    known candidate tells nothing of how much they differ, so a factor stands for it.
    """
    known = np.array(paces)
    mean = float(known.mean())
    if len(known) == 1:
        return mean / UNSURE, mean * UNSURE
    if len(known) > FEW:
        half = QUANTILE * float(known.std(ddof=1)) * math.sqrt(1 / len(known) + 1 / draws)
        return max(float(known.min()), mean - half), mean + half
    rng = np.random.default_rng([seed, len(known)])
    chosen = known[rng.integers(len(known), size=(RESAMPLES, len(known)))]
    further = chosen.mean(axis=1) + chosen.std(axis=1) * rng.standard_normal(RESAMPLES) / math.sqrt(draws)
    low, high = np.quantile(further, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return min(mean, max(float(known.min()), float(low))), max(mean, float(high))
