"""What a version of a model must show before it becomes champion: checks on numbers, each with its numbers.

Pure functions; nothing here imports MLflow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.checks import Check

if TYPE_CHECKING:
    from ziggurat.domain import Measurement, Objective
    from ziggurat.listeners.mlflow_versions import Facts

CERTAIN = 1.959964
"""Standard errors on both sides of a value that hold 95 % of a normal distribution."""
SAFE = "pt2"


@dataclass(frozen=True)
class Difference:
    """By how much one model is better than another in a metric; `low` to `high` is the 95 % interval."""

    metric: str
    new: float
    old: float
    better: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The numbers in words."""
        known = not math.isinf(self.low)
        interval = f", 95 % interval {self.low:+.4f} to {self.high:+.4f}" if known else ""
        return f"{self.metric} {self.new:.5g} against {self.old:.5g} (better by {self.better:+.4f}{interval})"


def checks(new: Facts, champion: Facts | None, held_by: str = "") -> list[Check]:
    """Everything that a version must show.

    Args:
        new: The version.
        champion: The version that has the alias now, if one has.
        held_by: What that one is called.
    """
    found = [_tested(new), *_limits(new), _measured(new), _stored(new)]
    if champion is None:
        return [*found, Check("champion", ok=True, text="there is none yet")]
    return [*found, _better(new, champion, held_by)]


def _tested(new: Facts) -> Check:
    tests = {name: m for name, m in new.metrics.items() if name.startswith("test_")}
    told = ", ".join(f"{name} {m.value:.5g}" for name, m in sorted(tests.items()))
    if new.evaluations == 0 or not tests:
        text, cure = "it was never evaluated on the sealed part", "let the run's stage 'measure' finish"
        return Check("sealed test", ok=False, text=text, cure=cure)
    samples = next((m.samples for m in tests.values() if m.samples), None)
    where = f" on {samples} examples" if samples else ""
    times = "once" if new.evaluations == 1 else f"{new.evaluations} times"
    text = f"{told}{where}, evaluated {times}; look {new.looks} at this part over all runs"
    return Check("sealed test", ok=new.evaluations == 1, text=text, cure="train and evaluate another model")


def _limits(new: Facts) -> list[Check]:
    """A check for each limit: by what was measured of this very model, not by what was predicted."""
    found = []
    for goal in (o for o in new.objectives if o.limit is not None):
        known = new.metrics.get(goal.metric)
        text = f"{goal.metric} is not known; the limit is {goal.limit:g}"
        if known is not None:
            text = f"{goal.metric} {known.value:.5g}, the limit is {goal.limit:g}"
        good = known is not None and not known.predicted and not goal.breaks_limit(known.value)
        if known is not None and known.predicted:
            text += ", but it was predicted and not measured"
        found.append(Check("limit", ok=good, text=text, cure="promote another version"))
    return found or [Check("limit", ok=True, text="no objective has one")]


def _measured(new: Facts) -> Check:
    """Whether the model was measured on every device of its spec."""
    told, missing = [], []
    for index, device in enumerate(new.devices):
        end = "" if index == 0 else f"@{device}"
        p50, p99 = (new.metrics.get(f"latency_{q}_ms{end}") for q in ("p50", "p99"))
        if p50 is None or p50.predicted:
            missing.append(device)
        else:
            slow = f", p99 {p99.value:.4g} ms" if p99 is not None else ""
            told.append(f"{device} p50 {p50.value:.4g} ms{slow}")
    if missing:
        text = f"not measured on {', '.join(missing)}"
        return Check("devices", ok=False, text=text, cure="let the run's stage 'measure' finish")
    return Check("devices", ok=True, text="; ".join(told) or "the spec names none")


def _stored(new: Facts) -> Check:
    safe = new.model_format == SAFE
    text = "an exported graph, loaded without unpickling" if safe else f"stored as '{new.model_format}'"
    if new.model_format == "pickle":
        text = "stored by pickle: whoever loads it runs what is in it"
    return Check("model file", ok=safe, text=text, cure="make the model exportable by torch.export")


def _better(new: Facts, champion: Facts, held_by: str) -> Check:
    """Whether a version is better than the champion, beyond what chance explains."""
    name = "champion"
    if not new.fingerprint or new.fingerprint != champion.fingerprint:
        text = (
            f"{held_by} was judged on other data (fingerprint {champion.fingerprint or 'unknown'}, this one "
            f"{new.fingerprint or 'unknown'}), so the two cannot be compared"
        )
        return Check(name, ok=False, text=text, cure="retrain the champion's architecture on this data")
    found = difference(new, champion)
    if found is None:
        text = f"{new.judged.metric} is not known of both it and {held_by}"
        return Check(name, ok=False, text=text, cure="promote a version that has it")
    against = f"against {held_by}: {found.text}"
    if found.low > 0 or (math.isinf(found.low) and found.better > 0):
        return Check(name, ok=True, text=against)
    if found.high < 0 or (math.isinf(found.high) and found.better < 0):
        return Check(name, ok=False, text=f"{against}; it is worse", cure="promote a better version")
    beside = _others(new, champion)
    text = f"{against}; that may be chance" + (
        f", though it is better in {', '.join(beside)}" if beside else ""
    )
    return Check(name, ok=False, text=text, cure="promote a version that is better beyond chance, or --force")


def _others(new: Facts, champion: Facts) -> list[str]:
    """In which further objectives a version is better than the champion, beyond noise."""
    won = []
    for goal in (o for o in new.objectives if o.metric != new.judged.metric):
        ours, theirs = new.metrics.get(goal.metric), champion.metrics.get(goal.metric)
        if ours is None or theirs is None:
            continue
        noise = (ours.spread or 0.0) + (theirs.spread or 0.0)
        if goal.loss(theirs.value) - goal.loss(ours.value) > noise:
            won.append(f"{goal.metric} ({ours.value:.5g} against {theirs.value:.5g})")
    return won


def difference(new: Facts, old: Facts) -> Difference | None:
    """How two models differ in the metric that decides: on the sealed part if both have it, else validation.

    For a share of right answers the interval is that of the difference of two binomial proportions, each with
    one more right and one more wrong answer, so that a share of 1 is not taken for certain. For other metrics
    none is known. None if a value is missing.

    Source: Agresti and Caffo 2000, Simple and effective confidence intervals for proportions.
    """
    base = new.judged.metric
    tested = f"test_{base.removeprefix('val_')}"
    metric = tested if tested in new.metrics and tested in old.metrics else base
    ours, theirs = new.metrics.get(metric), old.metrics.get(metric)
    if ours is None or theirs is None or math.isnan(ours.value) or math.isnan(theirs.value):
        return None
    better = new.judged.loss(theirs.value) - new.judged.loss(ours.value)
    sides = [_smoothed(metric, new, ours), _smoothed(metric, old, theirs)]
    if any(side is None for side in sides):
        return Difference(metric, ours.value, theirs.value, better, -math.inf, math.inf)
    (p, n), (q, m) = (side for side in sides if side is not None)
    middle, margin = _signed(new.judged, p - q), CERTAIN * math.sqrt(p * (1 - p) / n + q * (1 - q) / m)
    return Difference(metric, ours.value, theirs.value, better, middle - margin, middle + margin)


def _signed(goal: Objective, gain: float) -> float:
    return -goal.loss(gain)


def _smoothed(metric: str, facts: Facts, found: Measurement) -> tuple[float, int] | None:
    """A share of right answers and the number of answers, both with two added; None for other metrics."""
    part = "validation" if metric.startswith("val_") else "test"
    count = found.samples or facts.examples.get(part)
    if "accuracy" not in metric or not count or not 0 <= found.value <= 1:
        return None
    return (found.value * count + 1) / (count + 2), count + 2
