"""The spec: one YAML file that says what to search, on what data, for which device and for how much money.

Reading it is the only place, besides workers, where the environment is looked at. Unknown keys are refused,
and every error is one line that names the key, the value and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ziggurat import choices, spec_errors
from ziggurat.budget import Budget
from ziggurat.datasets import AnyDataset, Digits
from ziggurat.domain import Fidelity, Goal, Objective
from ziggurat.errors import SpecError
from ziggurat.launchers import AnyLauncher, Local, Simulated
from ziggurat.listeners import Alerts, Tracking
from ziggurat.profilers import AnyDevice, TorchDevice
from ziggurat.setting import Setting
from ziggurat.spaces import AnySpace, TableSpace
from ziggurat.spec_files import expand, override, parse_yaml, read_text, values_to_hide
from ziggurat.stage_settings import FidelitySetting, Retrain, Search, Validate
from ziggurat.strategies import Pbt
from ziggurat.trainers import HYPERPARAMETERS, TableTrainer

LEARNED = ("val_accuracy", "val_loss", "train_loss")
"""Metrics that only training can tell."""
STATIC = ("parameters", "flops", "model_size_mb")
"""Metrics that follow from the architecture, exactly."""
MEASURED = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "peak_memory_mb")
"""Metrics that need no training but a measurement on the device."""
SHARES = ("val_accuracy",)
"""Metrics that lie between 0 and 1."""
METRICS = LEARNED + STATIC + MEASURED
DEFAULT_GOAL = {"val_accuracy": Goal.MAXIMIZE}


class ObjectiveSetting(Setting):
    """One metric to optimise."""

    metric: str = Field(description=f"One of {', '.join(METRICS)}.")
    goal: Goal | None = Field(
        default=None, description="Direction; by default accuracy is maximised, all else minimised."
    )
    reference: float = Field(description="Value at which a trial is worth nothing, for the hypervolume.")
    limit: float | None = Field(default=None, description="Hard limit; a trial beyond it is no answer.")

    @model_validator(mode="after")
    def _towards(self) -> Self:
        wanted = DEFAULT_GOAL.get(self.metric, Goal.MINIMIZE)
        if self.goal is not None and self.goal is not wanted:
            raise ValueError(
                f"goal of {self.metric} is '{self.goal}', it can only be '{wanted}'; leave goal out"
            )
        share = self.metric in SHARES
        for name, value in (("reference", self.reference), ("limit", self.limit)):
            # a trial must be able to be better than the reference, and within the limit
            good = value is None or (0 <= value < 1 if share else value > 0)
            if not good:
                allowed = "from 0 to below 1, such as 0.9 for 90 %" if share else "above 0"
                raise ValueError(
                    f"{name} of {self.metric} is {value:g}, allowed are numbers {allowed}; change it"
                )
        return self

    def objective(self) -> Objective:
        """The noun."""
        goal = self.goal or DEFAULT_GOAL.get(self.metric, Goal.MINIMIZE)
        return Objective(self.metric, goal, self.reference, self.limit)


class Spec(Setting):
    """Everything a run needs to know, validated and immutable."""

    schema_version: Literal[1] = Field(default=1, description="Version of this format.")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="Name of the project.")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Decides what is proposed and how trainings begin."
    )
    data: AnyDataset = Field(default_factory=Digits)
    space: AnySpace
    objectives: list[ObjectiveSetting] = Field(min_length=1, max_length=4)
    fidelities: list[FidelitySetting] = Field(min_length=1, max_length=10)
    validation: Validate = Field(default_factory=Validate, alias="validate")
    search: Search = Field(default_factory=Search)
    retrain: Retrain = Field(default_factory=Retrain)
    devices: list[AnyDevice] = Field(default_factory=lambda: [TorchDevice()], min_length=1)
    launcher: AnyLauncher = Field(default_factory=Local)
    budget: Budget = Field(default_factory=Budget)
    tracking: Tracking = Field(default_factory=Tracking)
    alerts: Alerts = Field(default_factory=Alerts)

    @field_validator("objectives")
    @classmethod
    def _different(cls, objectives: list[ObjectiveSetting], info: ValidationInfo) -> list[ObjectiveSetting]:
        names = [o.metric for o in objectives]
        space = info.data.get("space")
        known = (*METRICS, *space.metrics()) if isinstance(space, TableSpace) else METRICS
        for i, name in enumerate(names):
            if name not in known:
                near = spec_errors.near(name, known)
                raise ValueError(f"objectives[{i}].metric: unknown metric '{name}'; {near}")
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"metric '{repeated[0]}' is named twice; name each metric once")
        if not set(names) & set(LEARNED):
            raise ValueError(f"no objective needs training; add one of {', '.join(LEARNED)}")
        return objectives

    @model_validator(mode="after")
    def _replayed(self) -> Self:
        parts = {
            "space": isinstance(self.space, TableSpace),
            "search.trainer": isinstance(self.search.trainer, TableTrainer),
            "launcher": isinstance(self.launcher, Simulated),
        }
        if any(parts.values()) and not all(parts.values()):
            raise ValueError(
                "a search of a table needs space.kind 'table', search.trainer.kind 'table' and launcher.kind "
                f"'simulated' together; set {' and '.join(k for k, v in parts.items() if not v)} as well"
            )
        if all(parts.values()) and (self.validation.enabled or self.retrain.enabled):
            raise ValueError(
                "a table has no models to probe or retrain; set validate.enabled and retrain.enabled to false"
            )
        return self

    @field_validator("fidelities")
    @classmethod
    def _growing(cls, ladder: list[FidelitySetting]) -> list[FidelitySetting]:
        epochs = [f.epochs for f in ladder]
        if any(b <= a for a, b in pairwise(epochs)):
            raise ValueError(f"epochs are {epochs}, but must grow from rung to rung; put them in order")
        fractions = [f.data_fraction for f in ladder]
        if any(b < a for a, b in pairwise(fractions)):
            raise ValueError(
                f"data_fraction is {fractions}, but must not shrink from rung to rung; raise the later ones"
            )
        return ladder

    @field_validator("devices")
    @classmethod
    def _named(cls, devices: list[AnyDevice]) -> list[AnyDevice]:
        names = [d.name for d in devices]
        if len(set(names)) != len(names):
            raise ValueError(f"device names {names} repeat; give each device its own name")
        return devices

    @model_validator(mode="after")
    def _known_hyperparameters(self) -> Self:
        for name in self.space.hyperparameters:
            if name not in HYPERPARAMETERS:
                known = spec_errors.near(name, HYPERPARAMETERS)
                raise ValueError(f"space.hyperparameters: the trainer knows no '{name}'; {known}")
        return self

    @model_validator(mode="after")
    def _trials_fit(self) -> Self:
        trials = self.search.trials
        if self.retrain.enabled and self.retrain.k > trials:
            raise ValueError(
                f"retrain.k is {self.retrain.k}, but search.trials is {trials}; "
                "lower retrain.k or raise search.trials"
            )
        strategy = self.search.strategy
        # only the beginnings of a population differ; who takes a place may have been there before
        key, many = "trials", trials
        if isinstance(strategy, Pbt):
            key, many = "strategy.population", strategy.population
        size = choices.count(self.space.choices(), at_most=max(many, 1024))
        if many > size:
            raise ValueError(
                f"search.{key} is {many}, but space '{self.space.kind}' has only {size:g} candidates; "
                f"lower search.{key} to at most {size:g} or widen the space"
            )
        return self

    @model_validator(mode="after")
    def _strategy_fits(self) -> Self:
        strategy = self.search.strategy
        if not isinstance(strategy, Pbt):
            return self
        reason = strategy.unfit(
            rungs=len(self.fidelities),
            trials=self.search.trials,
            hyperparameters=sum(c.size > 1 for c in self.space.hyperparameters.values()),
            inherits=self.resumable and self.search.trainer.inherits,
        )
        if reason:
            raise ValueError(f"search.strategy 'pbt' {reason}")
        return self

    @model_validator(mode="after")
    def _rungs_fit(self) -> Self:
        top, rungs = self.fidelities[-1].epochs, len(self.fidelities)
        epochs = self.validation.epochs
        if epochs is not None and epochs > top:
            raise ValueError(
                f"validate.epochs is {epochs}, but the top rung has {top} epochs; "
                f"lower validate.epochs to at most {top} or leave it out"
            )
        grace = getattr(self.search.decider, "grace", 0)
        brackets = getattr(self.search.decider, "brackets", 1)
        if grace >= rungs > 1:
            raise ValueError(
                f"search.stopper.grace is {grace}, but the rungs are 0 to {rungs - 1}, so nothing is ever "
                f"stopped; lower it to at most {rungs - 1} or use stopper kind never"
            )
        if brackets > 1 and grace + brackets > rungs:
            raise ValueError(
                f"search.stopper.brackets is {brackets} with grace {grace}, but there are {rungs} rungs; "
                f"lower brackets to at most {max(1, rungs - grace)}"
            )
        return self

    @property
    def resumable(self) -> bool:
        """Whether a training goes on from its last rung rather than starting again."""
        return not isinstance(self.space, TableSpace) or self.space.table.resumable

    def ladder(self) -> tuple[Fidelity, ...]:
        """Fidelities of the search."""
        return tuple(f.fidelity() for f in self.fidelities)

    def goals(self) -> tuple[Objective, ...]:
        """Objectives as nouns."""
        return tuple(o.objective() for o in self.objectives)

    def sha256(self) -> str:
        """Hash of the content."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()

    def plain(self) -> dict[str, Any]:
        """The spec as plain values, defaults included."""
        return self.model_dump(mode="json", by_alias=True)


def parse(plain: object, origin: str, hide: Mapping[str, str] | None = None) -> Spec:
    """A spec from plain values.

    Args:
        plain: Values without variables.
        origin: Where they come from, for messages.
        hide: Values of variables that no message may repeat, each with what stands in its place.

    Raises:
        SpecError: It is not valid; one line for each error.
    """
    if not isinstance(plain, dict):
        raise SpecError(
            f"{origin}: a spec is a mapping of keys, not {type(plain).__name__}; write KEY: VALUE"
        )
    try:
        return Spec.model_validate(plain)
    except ValidationError as error:
        found = spec_errors.lines(error, Spec, plain, hide)
        raise SpecError("\n".join(f"{origin}: {line}" for line in found)) from None


def read(path: Path, assignments: Sequence[str] = ()) -> tuple[Spec, dict[str, Any]]:
    """The spec of a file, and its plain values with overrides applied but variables not yet expanded.

    Raises:
        SpecError: The file cannot be read or is not valid.
    """
    raw = parse_yaml(read_text(path), str(path))
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: a spec is a mapping of keys, not {type(raw).__name__}; write KEY: VALUE")
    raw = override(raw, assignments)
    try:
        plain = expand(raw, os.environ)
    except RecursionError:
        raise SpecError(
            f"{path}: an alias (*NAME) refers to what it is part of; write the values out"
        ) from None
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    return parse(plain, str(path), values_to_hide(raw, os.environ)), raw


def schema() -> dict[str, Any]:
    """JSON Schema of a spec."""
    return Spec.model_json_schema(by_alias=True)
