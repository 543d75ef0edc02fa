"""Metrics that are made of a learned one and a cost: scaled rewards and soft penalties.

A derived metric is computed when a training has reached a rung, and from then on it is like any metric that
was learned there. Names of metrics and their directions are the spec's; nothing here knows them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from ziggurat.domain import Goal, Measurement
from ziggurat.setting import Setting

TAKEN = ("test_accuracy", "test_loss", "cost_usd", "worker_seconds")
"""Names that a run uses for something else."""
TELLING = ("accuracy", "_ms", "_mb", "_s", "_usd")
"""Endings by which reports tell the unit of a metric; a derived one would be shown wrongly."""


class Made(Setting):
    """What every derived metric is made of."""

    metric: str = Field(description="A metric that training tells, such as `val_accuracy`.")
    cost: str = Field(description="A metric that needs no training, such as `latency_p50_ms` or `flops`.")
    target: float = Field(
        gt=0, allow_inf_nan=False, description="What the cost should not exceed, in its own unit."
    )


class Scaled(Made):
    """The metric times (cost / target) to the power of `exponent`, or of `within` while within the target.

    For a metric that is minimised the factor is inverted. With `within: 0` being cheaper than the target is
    worth nothing; the hard variant of the source goes with `exponent: -1`.

    Source: Tan et al. 2019, MnasNet, arXiv 1807.11626, section 3.1, equations 2 and 3.
    """

    kind: Literal["scaled"] = "scaled"
    exponent: float = Field(
        default=-0.07, lt=0, ge=-100, description="How much a higher cost takes away; -0.07 is the source's."
    )
    within: float | None = Field(
        default=None,
        le=0,
        ge=-100,
        description="The exponent while the cost is within the target; by default the same one.",
    )

    def value(self, metric: float, cost: float, goal: Goal) -> float:
        """The derived metric; NaN where the power of the cost is not defined."""
        exponent = self.within if self.within is not None and cost <= self.target else self.exponent
        if exponent == 0:
            return metric
        if not cost > 0:
            return math.nan
        factor: float = (cost / self.target) ** (exponent if goal is Goal.MAXIMIZE else -exponent)
        return metric * factor

    def unreachable(self, reference: float, goal: Goal, *, share: bool) -> str:
        """What is allowed of a reference or limit that nothing could be better than; else empty."""
        del share  # a cheap candidate may come out above 1
        low = 0.0 if goal is Goal.MAXIMIZE else math.nextafter(0.0, 1.0)
        return "" if low <= reference < math.inf else "from 0" if low == 0 else "above 0"


class Penalty(Made):
    """The metric less `weight` for each unit of the cost beyond the target; more, if it is minimised."""

    kind: Literal["penalty"] = "penalty"
    weight: float = Field(
        gt=0, allow_inf_nan=False, description="What one unit of the cost beyond the target takes away."
    )

    def value(self, metric: float, cost: float, goal: Goal) -> float:
        """The derived metric."""
        beyond = self.weight * max(0.0, cost - self.target) if not math.isnan(cost) else math.nan
        return metric - beyond if goal is Goal.MAXIMIZE else metric + beyond

    def unreachable(self, reference: float, goal: Goal, *, share: bool) -> str:
        """What is allowed of a reference or limit that nothing could be better than; else empty."""
        if goal is Goal.MINIMIZE:
            return "" if 0 < reference < math.inf else "above 0"
        return "below 1" if share and not reference < 1 else ""


AnyDerived = Annotated[Scaled | Penalty, Field(discriminator="kind")]
"""A derived metric, told apart by `kind`."""


def check(derived: Mapping[str, Scaled | Penalty], learned: Sequence[str], costs: Sequence[str]) -> None:
    """Hold derived metrics against those that there are.

    Raises:
        ValueError: A name is taken or misleading, or what a metric is made of is not known.
    """
    for name, made in derived.items():
        if name in (*learned, *costs, *TAKEN):
            raise ValueError(f"'{name}' is a metric already; give the derived one another name")
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f"name '{name}' is not made of letters, digits and _; choose one such as reward")
        ending = next((e for e in TELLING if name.endswith(e)), None)
        if ending is not None:
            raise ValueError(f"name '{name}' ends in {ending}, which tells a unit; choose one such as reward")
        for key, allowed, what in (
            ("metric", learned, "that training tells"),
            ("cost", costs, "that needs no training"),
        ):
            given = getattr(made, key)
            if given not in allowed:
                raise ValueError(
                    f"{name}.{key} is '{given}', but must be a metric {what}; use one of {', '.join(allowed)}"
                )


def measurements(
    derived: Mapping[str, Scaled | Penalty], goals: Mapping[str, Goal], known: Mapping[str, Measurement]
) -> tuple[Measurement, ...]:
    """Derived metrics of a trial at a rung, those of them for which all that is needed is known.

    Args:
        derived: By name.
        goals: Direction of each, by name.
        known: What was measured at the rung and what is known without training, by metric.
    """
    found = []
    for name, made in derived.items():
        metric, cost = known.get(made.metric), known.get(made.cost)
        if metric is None or cost is None:
            continue
        value = made.value(metric.value, cost.value, goals[name])
        if not math.isnan(value):
            found.append(replace(metric, metric=name, value=value, spread=None, samples=None, device=None))
    return tuple(found)
