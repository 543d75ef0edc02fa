"""What a report says beyond what the history knows; the caller fills in what it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ziggurat.domain import RunStatus


@dataclass(frozen=True)
class ReportFacts:
    """Facts from outside of the history; everything may be left out.

    Attributes:
        status: How the run ends; by default what the history says, or what its stages' verdicts amount to.
        reason: Why it ends like that, in words.
        limit_usd: Limit of the cost in force; by default the spec's or the latest amendment's.
        usd_per_hour: Price of one worker hour.
        needed_usd: What finishing would still cost; by default extrapolated from the run's own costs.
        test_looks: How often the sealed test part of this dataset has been looked at, over all runs.
        chance: Value that a model without any skill reaches, by metric.
        devices: Description of each measured device, by name.
        data: The dataset in a few words, such as its sizes.
        forecast_usd: Cost that was forecast for each stage before it began.
        forecast_s: Worker seconds that were forecast for each stage before it began.
        mlflow: Command that opens the tracked run.
        command: Command that repeats the run.
        resume: Command that continues it.
        spec_text: The resolved spec as YAML, secrets as variable names; by default a redacted copy.
        version: Version of the software.
        unchecked: What nobody has looked at of the retrained models, each with what would have been needed.
        cards: Address of the card of each retrained model, relative to the page, by number of its trial.
    """

    status: RunStatus | None = None
    reason: str = ""
    limit_usd: float | None = None
    usd_per_hour: float | None = None
    needed_usd: float | None = None
    test_looks: int | None = None
    chance: Mapping[str, float] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    data: str = ""
    forecast_usd: Mapping[str, float] = field(default_factory=dict)
    forecast_s: Mapping[str, float] = field(default_factory=dict)
    mlflow: str = ""
    command: str = "ziggurat run spec.yaml"
    resume: str = ""
    spec_text: str | None = None
    version: str = ""
    unchecked: tuple[str, ...] = ()
    cards: Mapping[int, str] = field(default_factory=dict)
