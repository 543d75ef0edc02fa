"""What every device in a spec says of itself: its name, how patiently it is measured and what it costs.

Fields only; how a device measures is said by its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from ziggurat.domain import Measurement
from ziggurat.launchers import AnyLauncher, refuse_simulated
from ziggurat.setting import Setting


class DeviceSetting(Setting):
    """Keys that all kinds of devices share."""

    kind: str
    name: str = Field(
        default="local",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="Name of the device in reports.",
    )
    batch_size: int = Field(default=1, ge=1, le=65_536, description="Examples in a measured batch.")
    warmup: int = Field(default=10, ge=0, le=100_000, description="Runs before measuring.")
    repetitions: int = Field(
        default=100,
        ge=20,
        le=1_000_000,
        description="Runs measured at least; more are added until the median is known well enough.",
    )
    max_seconds: float = Field(
        default=2.0,
        gt=0,
        le=3600,
        description="Time for one model; at least 20 runs are measured all the same.",
    )
    noise_limit: float = Field(
        default=0.05,
        gt=0,
        le=10,
        description="Half-width of the 95 % interval of the median, relative to it, that is narrow enough.",
    )
    usd_per_hour: float = Field(default=0.0, ge=0, le=10_000, description="Price of the device.")
    table: Path | None = Field(
        default=None,
        description="Latency table of the device, from `ziggurat profile --table`, that predicts candidates.",
    )

    launcher: AnyLauncher | None = Field(
        default=None,
        description="Where measuring runs; by default on the run's launcher, alone on its machine. A "
        "launcher of its own measures beside the training, which on this machine (local) disturbs a device "
        "that is this machine, and not one that commands reach.",
    )

    @model_validator(mode="after")
    def _has_machines(self) -> Self:
        refuse_simulated(self.launcher)
        return self

    def noisy(self, measurements: Sequence[Measurement]) -> bool:
        """Whether a profile's median is known less well than `noise_limit` asks."""
        # a value that is not finite must not pass for a narrow interval
        noises = [m.value for m in measurements if m.metric.partition("@")[0] == "latency_noise"]
        return any(not noise <= self.noise_limit for noise in noises)
