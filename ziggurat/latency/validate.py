"""Validation of a latency table: models that the fit has not seen are measured and compared."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ziggurat import choices
from ziggurat.domain import Candidate
from ziggurat.latency.build import spread_out
from ziggurat.latency.fit import quality
from ziggurat.latency.rounds import Say, progress
from ziggurat.latency.subject import Subject
from ziggurat.latency.table import LatencyTable
from ziggurat.protocols import FloatArray

TIMED = 1000
"""Candidates for which the time of a prediction is taken."""


@dataclass(frozen=True)
class Validation:
    """Predictions beside measurements.

    Attributes:
        candidates: (n,) models.
        predicted_ms: (n,) what the table says.
        measured_ms: (n,) what the device says.
        noise: (n,) how well each measured median is known, relative to it; NaN where the device does not say.
        predict_s: Seconds of a processor for predicting one candidate, among many.
        measure_s: Seconds for building and measuring one model.
    """

    candidates: tuple[Candidate, ...]
    predicted_ms: FloatArray
    measured_ms: FloatArray
    noise: FloatArray
    predict_s: float
    measure_s: float

    def summary(self) -> dict[str, float]:
        """How good the predictions are, by name."""
        from scipy.stats import kendalltau, spearmanr

        found = quality(self.predicted_ms, self.measured_ms)
        noise = self.noise[np.isfinite(self.noise)]
        return {
            "models": float(found.models),
            "median_error": found.median_error,
            "p90_error": found.p90_error,
            "kendall_tau": float(kendalltau(self.predicted_ms, self.measured_ms).statistic),
            "spearman": float(spearmanr(self.predicted_ms, self.measured_ms).statistic),
            "span": found.span,
            "fastest_ms": float(self.measured_ms.min()),
            "slowest_ms": float(self.measured_ms.max()),
            "median_noise": float(np.median(noise)) if len(noise) else float("nan"),
            "predict_ms": 1000 * self.predict_s,
            "measure_ms": 1000 * self.measure_s,
        }

    def plain(self) -> dict[str, Any]:
        """Summary and models as plain JSON; what is not known is null."""
        rows = zip(self.candidates, self.predicted_ms, self.measured_ms, strict=True)
        return {
            **{name: value if np.isfinite(value) else None for name, value in self.summary().items()},
            "rows": [
                {"candidate": dict(c.choices), "predicted_ms": float(p), "measured_ms": float(m)}
                for c, p, m in rows
            ],
        }


def validate(subject: Subject, table: LatencyTable, count: int, say: Say = progress) -> Validation:
    """Measure models that were not used in fitting, spread over the range of predicted latencies.

    Args:
        subject: Device, space and data; the seed decides which models.
        table: What is validated.
        count: How many models.
        say: Told where it stands.

    Raises:
        SpecError: The space has too few models, or one cannot be measured.
    """
    space, signature = subject.space, subject.signature
    fitted = {space.operations(Candidate(whole.choices), signature) for whole in table.models}
    chosen = spread_out(subject, table, count, fitted)
    predicted, _ = table.predict(space, chosen, signature)
    measured, noise = np.empty(count), np.full(count, np.nan)
    rng = np.random.default_rng([subject.seed, 4])
    began = time.monotonic()
    for done, place in enumerate(rng.permutation(count), start=1):
        measure = partial(subject.candidate, chosen[place])
        entry = measure()
        if subject.noisy(entry):
            entry = min(entry, measure(), key=lambda e: e.p50_ms)
        measured[place] = entry.p50_ms
        noise[place] = np.nan if entry.noise is None else entry.noise
        say(f"whole models: {done} of {count}")
    each = (time.monotonic() - began) / count
    say(f"whole models: {count} measured\n")
    return Validation(tuple(chosen), predicted, measured, noise, prediction_s(subject, table), each)


def prediction_s(subject: Subject, table: LatencyTable) -> float:
    """Seconds of a processor for predicting one candidate, among a thousand not looked at before."""
    rng = np.random.default_rng([subject.seed, 5])
    drawn = [choices.sample(subject.space.choices(), rng) for _ in range(TIMED)]
    began = time.process_time()
    table.predict(subject.space, drawn, subject.signature)
    return (time.process_time() - began) / TIMED
