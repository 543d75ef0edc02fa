"""Settings of the stages: the ladder of fidelities, subset validation, the proxy search, full retraining."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from ziggurat.domain import Fidelity
from ziggurat.launchers import AnyLauncher, refuse_simulated
from ziggurat.searchers import AnySearcher, Sobol
from ziggurat.setting import Setting
from ziggurat.stoppers import AnyStopper, Never
from ziggurat.strategies import AnyStrategy
from ziggurat.trainers import AnyTrainer, Lightning

REASONED = 3
"""Words that a reason has at least."""


class FidelitySetting(Setting):
    """One rung of the ladder."""

    epochs: int = Field(ge=1, le=100_000, description="Epochs in total when this rung is reached.")
    data_fraction: float = Field(
        default=1.0, gt=0, le=1, description="Stratified fraction of the training part."
    )
    resolution: float = Field(
        default=1.0, gt=0, le=1, description="Edge of the images as a share of their own (average pooling)."
    )

    def fidelity(self) -> Fidelity:
        """The noun."""
        return Fidelity(self.epochs, self.data_fraction, self.resolution)


class Validate(Setting):
    """Subset validation and the proxy gate, before the search may spend."""

    enabled: bool = Field(default=True, description="Whether the stage probes anything.")
    candidates: int = Field(default=6, ge=3, le=200, description="Candidates that are probed.")
    seeds: int = Field(default=2, ge=1, le=10, description="Seeds for each candidate on the subset.")
    subset: float = Field(
        default=0.5, gt=0, le=1, description="Stratified fraction of the training part for the probes."
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        description="Epochs of a probe on the subset; by default those of the lowest rung.",
    )
    proxy: bool = Field(
        default=True, description="Compare the lowest rung with the top rung and judge by the gate."
    )
    gate_tau: float = Field(
        default=0.2,
        ge=-1,
        le=1,
        description="The run stops if the upper end of the interval of Kendall's tau lies below.",
    )
    confidence: float = Field(default=0.9, gt=0.5, lt=1, description="Of the interval of Kendall's tau.")
    max_share: float = Field(
        default=0.1, gt=0, le=1, description="Share of the budget that comparing the proxy may take."
    )
    max_failures: float = Field(
        default=0.5, ge=0, le=1, description="Share of failing probes above which the run stops."
    )
    proxies: Literal["auto"] | list[FidelitySetting] = Field(
        default_factory=list,
        description="Settings that are tried in place of the lowest rung, the cheapest first, until one is "
        "proved to rank as the top rung does; `auto` tries fractions of its epochs and data.",
    )
    override: str | None = Field(
        default=None,
        min_length=10,
        max_length=500,
        description="Why the run goes on although this stage says stop; it is kept, alerted and reported.",
    )

    @field_validator("override")
    @classmethod
    def _worded(cls, override: str | None) -> str | None:
        if override is not None and len(override.split()) < REASONED:
            raise ValueError(f"'{override}' is no reason; say in words why the verdict does not hold")
        return override


class Search(Setting):
    """The proxy search."""

    searcher: AnySearcher = Field(default_factory=Sobol)
    stopper: AnyStopper = Field(default_factory=Never)
    strategy: AnyStrategy | None = Field(
        default=None, description="Decides both what is tried and how far, in place of searcher and stopper."
    )
    trainer: AnyTrainer = Field(default_factory=Lightning)
    trials: int = Field(default=40, ge=1, le=100_000, description="Candidates that become trials.")
    workers: int = Field(default=2, ge=1, le=1024, description="Segments that run at the same time.")
    max_failures: float = Field(
        default=0.5, ge=0, le=1, description="Share of failed trials (after 10) above which the search stops."
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=20,
        description="Further tries of a segment that was lost, timed out or ran out of memory.",
    )
    baseline: int = Field(
        default=0, ge=0, le=100_000, description="Random candidates trained to the top rung, to compare with."
    )
    narrow: bool = Field(
        default=True, description="Search only where the best of the round before lie; for a later round."
    )
    again: int = Field(
        default=3, ge=0, le=1000, description="Best candidates of the round before that come first in it."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        usual = {"searcher": Sobol(), "stopper": Never()}
        given = sorted(name for name, setting in usual.items() if getattr(self, name) != setting)
        if self.strategy is not None and given:
            raise ValueError(
                f"strategy '{self.strategy.kind}' decides what {' and '.join(given)} would; "
                f"remove {' and '.join(given)}, or strategy"
            )
        return self

    def check(self) -> None:
        """Hold what decides the search against what is installed.

        Raises:
            SpecError: Something that it needs is missing.
        """
        for setting in (self.proposer, self.decider):
            check = getattr(setting, "check", None)
            if check is not None:
                check()

    @property
    def proposer(self) -> AnySearcher | AnyStrategy:
        """What proposes."""
        return self.searcher if self.strategy is None else self.strategy

    @property
    def decider(self) -> AnyStopper | AnyStrategy:
        """What decides about a trial that has reached a rung."""
        return self.stopper if self.strategy is None else self.strategy


class Approval(Setting):
    """Whether somebody is asked before the full training begins."""

    wanted: bool = Field(default=False, description="Wait for an approval before anything is retrained.")
    timeout_hours: float | None = Field(
        default=72.0, gt=0, description="Hours to wait for an answer; null waits without an end."
    )
    on_timeout: Literal["stop", "go"] = Field(
        default="stop", description="Without an answer: `stop` for a later one, or `go` on as planned."
    )


class Retrain(Setting):
    """Full training of the best architectures."""

    enabled: bool = Field(default=True, description="Whether anything is retrained.")
    k: int = Field(default=3, ge=1, le=1000, description="Architectures from the front.")
    method: Literal["hypervolume", "spread", "knee"] = Field(
        default="hypervolume", description="How the K are picked from the front."
    )
    epochs: int = Field(default=60, ge=1, le=100_000, description="Epochs of the full recipe.")
    segment_epochs: int | None = Field(
        default=None, ge=1, description="Epochs between checkpoints; by default a third of the epochs."
    )
    seeds: int = Field(default=2, ge=1, le=100, description="Trainings of each architecture.")
    approval: Approval = Field(default_factory=Approval)
    trainer: AnyTrainer | None = Field(
        default=None, description="The full recipe; by default the search's trainer."
    )
    launcher: AnyLauncher | None = Field(
        default=None,
        description="Where the full training runs, such as a GPU cluster; by default on the run's launcher.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Trainings at the same time on retrain.launcher; by default search.workers.",
    )

    @model_validator(mode="after")
    def _has_machines(self) -> Self:
        refuse_simulated(self.launcher)
        if self.workers is not None and self.launcher is None:
            raise ValueError(
                f"workers is {self.workers}, but without retrain.launcher it is search.workers that counts; "
                "remove retrain.workers or give retrain.launcher"
            )
        return self

    @model_validator(mode="after")
    def _segment_fits(self) -> Self:
        if self.segment_epochs is not None and self.segment_epochs > self.epochs:
            raise ValueError(
                f"segment_epochs is {self.segment_epochs}, but epochs is {self.epochs}; "
                f"lower segment_epochs to at most {self.epochs} or leave it out"
            )
        return self

    def ladder(self) -> tuple[Fidelity, ...]:
        """Fidelities of the full training, a checkpoint at each."""
        pace = self.segment_epochs or max(1, -(-self.epochs // 3))
        return tuple(Fidelity(e) for e in [*range(pace, self.epochs, pace), self.epochs])
