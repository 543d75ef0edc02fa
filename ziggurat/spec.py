"""The spec: one YAML file that says what to search, on what data, for which device and for how much money.

Reading it is the only place, besides workers, where the environment is looked at. Unknown keys are refused,
and every error is one line that names the key, the value and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ziggurat import choices, spec_errors
from ziggurat.budget import Budget
from ziggurat.datasets import AnyDataset, Digits
from ziggurat.derived import AnyDerived
from ziggurat.derived import check as check_derived
from ziggurat.domain import Fidelity, Goal, Objective
from ziggurat.errors import SpecError, near
from ziggurat.launchers import AnyLauncher, Local, Simulated
from ziggurat.listeners import Alerts, Tracking
from ziggurat.objectives import LEARNED, ObjectiveSetting, costs, goal_of
from ziggurat.profilers import AnyDevice, TorchDevice
from ziggurat.profilers.command import is_placeholder
from ziggurat.setting import Setting
from ziggurat.spaces import AnySpace, TableSpace
from ziggurat.spec_files import expand, override, parse_yaml, read_text, values_to_hide
from ziggurat.stage_settings import FidelitySetting, Retrain, Search, Validate
from ziggurat.strategies import Pbt
from ziggurat.trainers import HYPERPARAMETERS, TableTrainer


def _this_machine() -> list[AnyDevice]:
    return [TorchDevice()]


class Spec(Setting):
    """Everything a run needs to know, validated and immutable."""

    schema_version: Literal[1] = Field(default=1, description="Version of this format.")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="Name of the project.")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Decides what is proposed and how trainings begin."
    )
    data: AnyDataset = Field(default_factory=Digits)
    space: AnySpace
    derived: dict[str, AnyDerived] = Field(
        default_factory=dict, description="Metrics made of a learned one and a cost, for objectives."
    )
    objectives: list[ObjectiveSetting] = Field(min_length=1, max_length=4)
    fidelities: list[FidelitySetting] = Field(min_length=1, max_length=10)
    validation: Validate = Field(default_factory=Validate, alias="validate")
    search: Search = Field(default_factory=Search)
    retrain: Retrain = Field(default_factory=Retrain)
    devices: list[AnyDevice] = Field(default_factory=_this_machine, min_length=1)
    launcher: AnyLauncher = Field(default_factory=Local)
    budget: Budget = Field(default_factory=Budget)
    tracking: Tracking = Field(default_factory=Tracking)
    alerts: Alerts = Field(default_factory=Alerts)

    @field_validator("derived")
    @classmethod
    def _made(cls, derived: dict[str, AnyDerived], info: ValidationInfo) -> dict[str, AnyDerived]:
        check_derived(derived, LEARNED, costs(_columns(info)))
        return derived

    @field_validator("objectives")
    @classmethod
    def _different(cls, objectives: list[ObjectiveSetting], info: ValidationInfo) -> list[ObjectiveSetting]:
        names = [o.metric for o in objectives]
        derived: dict[str, AnyDerived] | None = info.data.get("derived")
        if derived is None:
            return objectives  # what is wrong there comes first
        known = (*LEARNED, *costs(_columns(info)), *derived)
        for i, (name, objective) in enumerate(zip(names, objectives, strict=True)):
            if name not in known:
                raise ValueError(f"objectives[{i}].metric: unknown metric '{name}'; {near(name, known)}")
            objective.check(derived.get(name))
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"metric '{repeated[0]}' is named twice; name each metric once")
        if not set(names) & {*LEARNED, *derived}:
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
                raise ValueError(
                    f"space.hyperparameters: the trainer knows no '{name}'; {near(name, HYPERPARAMETERS)}"
                )
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
        return tuple(Objective(o.metric, self.goal(o.metric), o.reference, o.limit) for o in self.objectives)

    def goal(self, metric: str) -> Goal:
        """Direction of a metric; a derived one has that of what it is made of."""
        made = self.derived.get(metric)
        return goal_of(made.metric if made is not None else metric)

    def inputs(self) -> tuple[str, ...]:
        """Metrics that must be known of a trial for all of its objectives to be known."""
        found: list[str] = []
        for metric in (o.metric for o in self.objectives):
            made = self.derived.get(metric)
            found += [metric] if made is None else [made.metric, made.cost]
        return tuple(dict.fromkeys(found))

    def judged(self) -> Objective:
        """The first objective that training tells."""
        return next(o for o in self.goals() if o.metric in (*LEARNED, *self.derived))

    def learned(self) -> Objective:
        """What training itself tells of that objective: the metric, or what the derived one is made of."""
        judged = self.judged()
        made = self.derived.get(judged.metric)
        return judged if made is None else replace(judged, metric=made.metric)

    def sha256(self) -> str:
        """Hash of the content."""
        return hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()

    def plain(self) -> dict[str, Any]:
        """The spec as plain values, defaults included."""
        return self.model_dump(mode="json", by_alias=True)


def _columns(info: ValidationInfo) -> tuple[str, ...]:
    """Metrics that only a table knows."""
    space = info.data.get("space")
    return space.metrics() if isinstance(space, TableSpace) else ()


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
        plain = expand(raw, os.environ, leave=is_placeholder)
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
