"""Objectives: which metrics there are, what their directions are, and what may be asked of each."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from ziggurat.derived import AnyDerived
from ziggurat.domain import Goal
from ziggurat.setting import Setting

LEARNED = ("val_accuracy", "val_loss", "train_loss")
"""Metrics that only training can tell."""
STATIC = ("parameters", "flops", "model_size_mb")
"""Metrics that follow from the architecture, exactly."""
MEASURED = (
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p99_ms",
    "peak_memory_mb",
    "file_size_mb",
    "energy_mj",
)
"""Metrics that need no training but a measurement on the device."""
SHARES = ("val_accuracy",)
"""Metrics that lie between 0 and 1."""
METRICS = LEARNED + STATIC + MEASURED
DEFAULT_GOAL = {"val_accuracy": Goal.MAXIMIZE}


def goal_of(metric: str) -> Goal:
    """Direction of a metric that is not derived."""
    return DEFAULT_GOAL.get(metric, Goal.MINIMIZE)


class ObjectiveSetting(Setting):
    """One metric to optimise."""

    metric: str = Field(
        description=f"One of {', '.join(METRICS)}, a name under `derived`, or a metric of a script."
    )
    goal: Goal | None = Field(
        default=None,
        description="Direction; by default accuracy is maximised, all else minimised. For a metric of a "
        "script's own it must be given.",
    )
    reference: float = Field(description="Value at which a trial is worth nothing, for the hypervolume.")
    limit: float | None = Field(default=None, description="Hard limit; a trial beyond it is no answer.")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.metric in METRICS:
            self.check(None)
        return self  # the spec checks those that only a table or `derived` knows

    def _directed(self) -> None:
        if self.goal is None:
            raise ValueError(
                f"goal of {self.metric} is missing, and which direction is better only its script knows; "
                "write goal: maximize or goal: minimize"
            )

    def check(self, made: AnyDerived | None, *, own: bool = False) -> None:
        """Hold direction, reference and limit against what the metric can be.

        Args:
            made: How the metric is derived, if it is.
            own: It is, or is made of, a metric that only a script knows; any number will do.

        Raises:
            ValueError: No trial could be better, or the direction is wrong, or not known.
        """
        if own:
            self._directed()
            return
        wanted = goal_of(made.metric if made else self.metric)
        if self.goal is not None and self.goal is not wanted:
            raise ValueError(
                f"goal of {self.metric} is '{self.goal}', it can only be '{wanted}'; leave goal out"
            )
        share = (made.metric if made else self.metric) in SHARES
        for name, value in (("reference", self.reference), ("limit", self.limit)):
            # a trial must be able to be better than the reference, and within the limit
            if value is None:
                continue
            if made is not None:
                allowed = made.unreachable(value, wanted, share=share)
            elif share:
                allowed = "" if 0 <= value < 1 else "from 0 to below 1, such as 0.9 for 90 %"
            else:
                allowed = "" if value > 0 else "above 0"
            if allowed:
                raise ValueError(
                    f"{name} of {self.metric} is {value:g}, allowed are numbers {allowed}; change it"
                )


def costs(columns: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Metrics that need no training, with those that only a table knows."""
    return (*STATIC, *MEASURED, *columns)
