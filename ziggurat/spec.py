"""The spec: one YAML file that says what to search, on what data, for which device and for how much money.

Reading it is the only place, besides workers, where the environment is looked at. Unknown keys are refused,
and every error is one line that names the key, the value and what is allowed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator as op
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from ziggurat import combinations, proxies, round_settings, spec_errors
from ziggurat.budget import Budget
from ziggurat.datasets import AnyDataset, Digits
from ziggurat.derived import AnyDerived
from ziggurat.derived import check as check_derived
from ziggurat.domain import Fidelity, Goal, Objective
from ziggurat.errors import SpecError, near
from ziggurat.launcher_prices import replaced, settled
from ziggurat.launchers import AnyLauncher, Local, Simulated
from ziggurat.listeners import Alerts, Tracking
from ziggurat.objectives import ObjectiveSetting, goal_of
from ziggurat.pricing.table import load
from ziggurat.profilers import AnyDevice, TorchDevice
from ziggurat.profilers import command as device_command
from ziggurat.round_settings import Round
from ziggurat.setting import Setting
from ziggurat.spaces import AnySpace, TableSpace
from ziggurat.spec_files import expand, override, parse_yaml, read_text, values_to_hide
from ziggurat.stage_settings import FidelitySetting, Retrain, Search, Validate
from ziggurat.stores import AnyStore, Checkpoints, Store
from ziggurat.trainers import Script, TableTrainer, script_arguments


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
    search: Search = Field(default_factory=Search)  # tells which metrics there are to derive and optimise
    rounds: list[Round] = Field(
        default_factory=list,
        max_length=5,
        description="Rounds before the search; as a list, `search` holds them all, the last one last.",
    )
    derived: dict[str, AnyDerived] = Field(
        default_factory=dict, description="Metrics made of a learned one and a cost, for objectives."
    )
    objectives: list[ObjectiveSetting] = Field(min_length=1, max_length=4)
    fidelities: list[FidelitySetting] = Field(min_length=1, max_length=10)
    validation: Validate = Field(default_factory=Validate, alias="validate")
    retrain: Retrain = Field(default_factory=Retrain)
    devices: list[AnyDevice] = Field(default_factory=_this_machine, min_length=1)
    launcher: AnyLauncher = Field(default_factory=Local)
    prices: Path | None = Field(
        default=None,
        description="Price table for launcher.price and the estimate, as `ziggurat prices refresh` writes "
        "it; what it lacks is taken from the one that comes with Ziggurat.",
    )
    store: AnyStore | None = Field(
        default=None, description="Where journal and artifacts are kept beside the run directory."
    )
    checkpoints: Checkpoints = Field(default_factory=Checkpoints)
    budget: Budget = Field(default_factory=Budget)
    tracking: Tracking = Field(default_factory=Tracking)
    alerts: Alerts = Field(default_factory=Alerts)

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, raw: Any) -> Any:  # noqa: ANN401 - plain values of any shape
        return combinations.with_defaults(round_settings.unfold(raw))

    @field_validator("derived")
    @classmethod
    def _made(cls, derived: dict[str, AnyDerived], info: ValidationInfo) -> dict[str, AnyDerived]:
        if {"space", "search"} <= info.data.keys():
            known = combinations.metrics(info.data["space"], info.data["search"].trainer)
            check_derived(derived, known.learned, known.costs)
        return derived

    @field_validator("objectives")
    @classmethod
    def _different(cls, objectives: list[ObjectiveSetting], info: ValidationInfo) -> list[ObjectiveSetting]:
        if {"space", "search", "derived"} <= info.data.keys():  # what is wrong there comes first
            space, trainer = info.data["space"], info.data["search"].trainer
            combinations.check_objectives(objectives, info.data["derived"], space, trainer)
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
        round_settings.check_ladder(ladder)
        return ladder

    @field_validator("devices")
    @classmethod
    def _named(cls, devices: list[AnyDevice]) -> list[AnyDevice]:
        names = [d.name for d in devices]
        if len(set(names)) != len(names):
            raise ValueError(f"device names {names} repeat; give each device its own name")
        return devices

    @model_validator(mode="after")
    def _together(self) -> Self:
        parts = combinations.Parts(
            self.data, self.space, self.search, self.retrain, self.devices, self.launcher, self.inputs()
        )
        combinations.check(parts)
        return self

    @model_validator(mode="after")
    def _limits_stages(self) -> Self:
        for name in self.budget.stages:
            if name not in self.priced:
                said = near(name, self.priced)
                raise ValueError(f"budget.stages: '{name}' is no stage that costs money; {said}")
        return self

    @property
    def priced(self) -> tuple[str, ...]:
        """The stages that cost money, in order."""
        return ("validate", *self.searching, "baseline", "retrain", "measure")

    @model_validator(mode="after")
    def _searches_fit(self) -> Self:
        round_settings.check(self)
        proxies.check(self)
        return self

    def at(self, stage: str) -> Spec:
        """The spec as a stage sees it: in a round before the last, the search is that round."""
        found = next((r for r in self.rounds if r.name == stage), None)
        if found is None:
            return self
        return self.model_copy(update={"search": found, "fidelities": found.fidelities})

    @property
    def searching(self) -> tuple[str, ...]:
        """The stages that search, in order; the last is the search proper."""
        return (*(r.name for r in self.rounds), "search")

    @property
    def resumable(self) -> bool:
        """Whether a training goes on from its last rung rather than starting again."""
        if isinstance(self.search.trainer, Script):
            return self.search.trainer.resumable
        return not isinstance(self.space, TableSpace) or self.space.table.resumable

    def open_store(self, run_id: str) -> Store | None:
        """Where a run's artifacts are kept beside its directory, if anywhere."""
        return None if self.store is None else self.store.open(run_id)

    def ladder(self) -> tuple[Fidelity, ...]:
        """Fidelities of the search."""
        return tuple(f.fidelity() for f in self.fidelities)

    def full_ladder(self) -> tuple[Fidelity, ...]:
        """Fidelities of the full training: one where every further one would begin it anew."""
        full = self.retrain.trainer or self.search.trainer
        if isinstance(full, Script) and not full.resumable:
            return (Fidelity(self.retrain.epochs),)
        return self.retrain.ladder()

    @property
    def metrics(self) -> combinations.Metrics:
        """Metrics that a trial can have, by how they become known."""
        return combinations.metrics(self.space, self.search.trainer)

    def goals(self) -> tuple[Objective, ...]:
        """Objectives as nouns."""
        return tuple(Objective(o.metric, self.goal(o.metric), o.reference, o.limit) for o in self.objectives)

    def goal(self, metric: str) -> Goal:
        """Direction of a metric; a derived one has that of what it is made of."""
        made = self.derived.get(metric)
        base = metric if made is None else made.metric
        given = {o.metric: o.goal for o in self.objectives if o.goal is not None}
        return given.get(metric) or given.get(base) or goal_of(base)

    def inputs(self) -> tuple[str, ...]:
        """Metrics that must be known of a trial for all of its objectives to be known."""
        found: list[str] = []
        for metric in (o.metric for o in self.objectives):
            made = self.derived.get(metric)
            found += [metric] if made is None else [made.metric, made.cost]
        return tuple(dict.fromkeys(found))

    def judged(self) -> Objective:
        """The first objective that training tells."""
        return next(o for o in self.goals() if o.metric in (*self.metrics.learned, *self.derived))

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
        plain = round_settings.unfold(plain)
    except ValueError as error:
        raise SpecError(f"{origin}: {error}") from None
    try:
        return _settled(Spec.model_validate(plain))
    except ValidationError as error:
        found = spec_errors.lines(error, Spec, plain, hide)
        raise SpecError("\n".join(f"{origin}: {line}" for line in found)) from None
    except SpecError as error:
        raise SpecError(f"{origin}: {error}") from None


def _settled(spec: Spec) -> Spec:
    """The spec with the prices of its launchers as numbers.

    Raises:
        SpecError: The price table cannot be read, or lacks a price.
    """
    table = partial(load, spec.prices)
    workers = spec.search.workers
    main = settled(spec.launcher, "launcher", workers, table)
    full, found = spec.retrain.launcher, spec.devices
    if full is not None:
        full = settled(full, "retrain.launcher", spec.retrain.workers or workers, table)
    devices = [
        d if d.launcher is None else replaced(d, settled(d.launcher, f"devices[{i}].launcher", 1, table))
        for i, d in enumerate(found)
    ]
    changes = {"launcher": main, "retrain": replaced(spec.retrain, full), "devices": devices}
    same = main is spec.launcher and full is spec.retrain.launcher and all(map(op.is_, devices, found))
    return spec if same else spec.model_copy(update=changes)


def read(
    path: Path, assignments: Sequence[str] = (), *, lenient: bool = False
) -> tuple[Spec, dict[str, Any]]:
    """The spec of a file, and its plain values with overrides applied but variables not yet expanded.

    Args:
        path: The file.
        assignments: Overrides, each as KEY=VALUE.
        lenient: Leave variables that are not set as they are: a worker needs not all of them.

    Raises:
        SpecError: The file cannot be read or is not valid.
    """
    raw = parse_yaml(read_text(path), str(path))
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: a spec is a mapping of keys, not {type(raw).__name__}; write KEY: VALUE")
    with contextlib.suppress(ValueError):  # it is said when the values are parsed
        raw = round_settings.unfold(raw)
    raw = override(raw, assignments)
    try:
        plain = expand(raw, os.environ, leave=left_alone if lenient else waits)
    except RecursionError:
        raise SpecError(
            f"{path}: an alias (*NAME) refers to what it is part of; write the values out"
        ) from None
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    return parse(plain, str(path), values_to_hide(raw, os.environ)), raw


def waits(path: str, name: str, environment: Mapping[str, str]) -> bool:
    """Whether `${name}` is filled in later: for each measurement on a device, or each start of a script."""
    return any(part.is_placeholder(path, name, environment) for part in (device_command, script_arguments))


def left_alone(path: str, name: str, environment: Mapping[str, str]) -> bool:
    """Whether a variable stays as it is on a machine that need not know it."""
    return name not in environment or waits(path, name, environment)


def schema() -> dict[str, Any]:
    """JSON Schema of a spec."""
    return round_settings.listed(Spec.model_json_schema(by_alias=True))
