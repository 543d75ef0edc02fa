"""The spec: one YAML file that says what to search, on what data, for which device and for how much money.

Reading it is the only place, besides workers, where the environment is looked at. Unknown keys are refused, and
every error is one line that names the key, the value and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from ziggurat.budget import Budget
from ziggurat.datasets import AnyDataset, Digits
from ziggurat.domain import Fidelity, Goal, Objective
from ziggurat.errors import SpecError
from ziggurat.launchers import AnyLauncher, Local
from ziggurat.listeners import Alerts, Tracking
from ziggurat.profilers import AnyDevice, TorchDevice
from ziggurat.searchers import AnySearcher, Sobol
from ziggurat.setting import Setting
from ziggurat.spaces import AnySpace
from ziggurat.stoppers import AnyStopper, Never
from ziggurat.trainers import AnyTrainer, Lightning

LEARNED = ("val_accuracy", "val_loss", "train_loss")
"""Metrics that only training can tell."""
STATIC = ("parameters", "flops", "model_size_mb")
"""Metrics that follow from the architecture, exactly."""
MEASURED = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "peak_memory_mb")
"""Metrics that need no training but a measurement on the device."""
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

    @field_validator("metric")
    @classmethod
    def _known(cls, metric: str) -> str:
        if metric not in METRICS:
            raise ValueError(f"unknown metric '{metric}'; known metrics: {', '.join(METRICS)}")
        return metric

    @model_validator(mode="after")
    def _towards(self) -> Self:
        wanted = DEFAULT_GOAL.get(self.metric, Goal.MINIMIZE)
        if self.goal is not None and self.goal is not wanted:
            raise ValueError(f"goal of {self.metric} is '{self.goal}', it can only be '{wanted}'")
        return self

    def objective(self) -> Objective:
        """The noun."""
        goal = self.goal or DEFAULT_GOAL.get(self.metric, Goal.MINIMIZE)
        return Objective(self.metric, goal, self.reference, self.limit)


class FidelitySetting(Setting):
    """One rung of the ladder."""

    epochs: int = Field(ge=1, le=100_000, description="Epochs in total when this rung is reached.")
    data_fraction: float = Field(
        default=1.0, gt=0, le=1, description="Stratified fraction of the training part."
    )

    def fidelity(self) -> Fidelity:
        """The noun."""
        return Fidelity(self.epochs, self.data_fraction)


class Validate(Setting):
    """Subset validation and the proxy gate, before the search may spend."""

    enabled: bool = True
    candidates: int = Field(default=6, ge=3, le=200, description="Candidates that are probed.")
    seeds: int = Field(default=2, ge=1, le=10, description="Seeds for each candidate on the subset.")
    subset: float = Field(
        default=0.5, gt=0, le=1, description="Stratified fraction of the training part for the probes."
    )
    epochs: int | None = Field(
        default=None, ge=1, description="Epochs of a probe on the subset; by default those of the lowest rung."
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


class Search(Setting):
    """The proxy search."""

    searcher: AnySearcher = Field(default_factory=Sobol)
    stopper: AnyStopper = Field(default_factory=Never)
    trainer: AnyTrainer = Field(default_factory=Lightning)
    trials: int = Field(default=40, ge=1, le=100_000, description="Candidates that become trials.")
    workers: int = Field(default=2, ge=1, le=1024, description="Segments that run at the same time.")
    max_failures: float = Field(
        default=0.5, ge=0, le=1, description="Share of failed trials (after 10) above which the search stops."
    )
    retries: int = Field(
        default=2, ge=0, le=20, description="Further tries of a segment that was lost, timed out or ran out of memory."
    )


class Retrain(Setting):
    """Full training of the best architectures."""

    enabled: bool = True
    k: int = Field(default=3, ge=1, le=1000, description="Architectures from the front.")
    method: Literal["hypervolume", "spread", "knee"] = Field(
        default="hypervolume", description="How the K are picked from the front."
    )
    epochs: int = Field(default=60, ge=1, le=100_000, description="Epochs of the full recipe.")
    segment_epochs: int | None = Field(
        default=None, ge=1, description="Epochs between checkpoints; by default a third of the epochs."
    )
    seeds: int = Field(default=2, ge=1, le=100, description="Trainings of each architecture.")
    trainer: AnyTrainer | None = Field(
        default=None, description="The full recipe; by default the search's trainer."
    )

    def ladder(self) -> tuple[Fidelity, ...]:
        """Fidelities of the full training, a checkpoint at each."""
        pace = self.segment_epochs or max(1, -(-self.epochs // 3))
        return tuple(Fidelity(e) for e in [*range(pace, self.epochs, pace), self.epochs])


class Spec(Setting):
    """Everything a run needs to know, validated and immutable."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", description="Name of the project.")
    seed: int = Field(default=0, ge=0, lt=2**31)
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
    def _different(cls, objectives: list[ObjectiveSetting]) -> list[ObjectiveSetting]:
        names = [o.metric for o in objectives]
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"metric '{repeated[0]}' is named twice; name each metric once")
        if not set(names) & set(LEARNED):
            raise ValueError(f"no objective needs training; add one of {', '.join(LEARNED)}")
        return objectives

    @field_validator("fidelities")
    @classmethod
    def _growing(cls, ladder: list[FidelitySetting]) -> list[FidelitySetting]:
        epochs = [f.epochs for f in ladder]
        if any(b <= a for a, b in zip(epochs, epochs[1:], strict=False)):
            raise ValueError(f"epochs {epochs} must grow from rung to rung")
        fractions = [f.data_fraction for f in ladder]
        if any(b < a for a, b in zip(fractions, fractions[1:], strict=False)):
            raise ValueError(f"data_fraction {fractions} must not shrink from rung to rung")
        return ladder

    @field_validator("devices")
    @classmethod
    def _named(cls, devices: list[AnyDevice]) -> list[AnyDevice]:
        names = [d.name for d in devices]
        if len(set(names)) != len(names):
            raise ValueError(f"device names {names} repeat; give each device its own name")
        return devices

    @model_validator(mode="after")
    def _k_fits(self) -> Self:
        if self.retrain.enabled and self.retrain.k > self.search.trials:
            raise ValueError(
                f"retrain.k is {self.retrain.k}, but search.trials is {self.search.trials}; "
                "lower retrain.k or raise search.trials"
            )
        return self

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


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of YAML 1.2 (`1e-4` is a number) and without repeated keys."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)$|^[-+]?\d[\d_]*\.[\d_]*$|^[-+]?\.\d[\d_]*$"),
    list("-+0123456789."),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)  # type: ignore[no-untyped-call]
        if isinstance(key, list | dict):
            raise SpecError(f"line {key_node.start_mark.line + 1}: a key must be a word, not {key!r}")
        if key in seen:
            raise SpecError(f"line {key_node.start_mark.line + 1}: key '{key}' is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")


def parse_yaml(text: str, origin: str) -> Any:  # noqa: ANN401 - YAML is any plain value
    """The plain values of a YAML text.

    Raises:
        SpecError: It is no YAML; the message names the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpecError(f"{origin}:{where}: not valid YAML ({error.problem})") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{origin}: not valid YAML ({str(error).splitlines()[0]})") from None
    except SpecError as error:
        raise SpecError(f"{origin}: {error}") from None


def expand(plain: Any, environment: Mapping[str, str], path: str = "") -> Any:  # noqa: ANN401
    """Plain values with `${NAME}` and `${NAME:default}` replaced from the environment.

    A string that consists of one variable takes the type that YAML gives its value.

    Raises:
        SpecError: A variable without a default is not set.
    """
    if isinstance(plain, dict):
        return {k: expand(v, environment, f"{path}.{k}".strip(".")) for k, v in plain.items()}
    if isinstance(plain, list):
        return [expand(v, environment, f"{path}[{i}]") for i, v in enumerate(plain)]
    if not isinstance(plain, str):
        return plain

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if name in environment:
            return environment[name]
        if default is None:
            raise SpecError(
                f"{path}: environment variable {name} is not set; set it or write ${{{name}:default}}"
            )
        return default

    text = _VARIABLE.sub(value, plain)
    whole = _VARIABLE.fullmatch(plain)
    return parse_yaml(text, path) if whole and text else text


def override(plain: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Plain values with `a.b=c` assignments applied; `c` is YAML, list items are numbered from 0.

    Raises:
        SpecError: An assignment has no `=` or walks through something that is no mapping or list.
    """
    plain = json.loads(json.dumps(plain))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise SpecError(f"--set {assignment}: write KEY.KEY=VALUE, such as search.trials=20")
        here: Any = plain
        keys = path.split(".")
        for key in keys[:-1]:
            here = _step(here, key, assignment)
        last = keys[-1]
        new = parse_yaml(text, f"--set {path}")
        if isinstance(here, list):
            here[_index(here, last, assignment)] = new
        elif isinstance(here, dict):
            here[last] = new
        else:
            raise SpecError(f"--set {assignment}: '{keys[-2]}' is no mapping")
    return plain  # type: ignore[no-any-return]


def _index(items: list[Any], key: str, assignment: str) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise SpecError(f"--set {assignment}: '{key}' must be a number from 0 to {len(items) - 1}")
    return int(key)


def _step(here: Any, key: str, assignment: str) -> Any:  # noqa: ANN401
    if isinstance(here, list):
        return here[_index(here, key, assignment)]
    if not isinstance(here, dict):
        raise SpecError(f"--set {assignment}: '{key}' is not inside a mapping")
    if here.get(key) is None:
        here[key] = {}
    return here[key]


def _line(error: Any) -> str:  # noqa: ANN401 - pydantic's error dictionary
    """One validation error in words: key, value, what is allowed."""
    skip = {"values", "range", "function-after", "function-before"}
    place = ".".join(
        str(p) for i, p in enumerate(error["loc"]) if not (i > 0 and isinstance(p, str) and (p in skip or "[" in p))
    )
    given = error["input"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key (value {given!r}); remove it or see `ziggurat schema` for the known ones"
    if error["type"] == "missing":
        return f"{place}: missing; it must be given"
    if isinstance(given, (dict, list)) and error["type"] in {"value_error", "assertion_error"}:
        return f"{place}: {message}" if place else message
    shown = repr(given)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{place}: {message} (given: {shown})"


def parse(plain: object, origin: str) -> Spec:
    """A spec from plain values.

    Raises:
        SpecError: It is not valid; one line for each error.
    """
    if not isinstance(plain, dict):
        raise SpecError(f"{origin}: a spec is a mapping of keys, not {type(plain).__name__}")
    try:
        return Spec.model_validate(plain)
    except ValidationError as error:
        lines = [f"{origin}: {_line(e)}" for e in error.errors()]
        raise SpecError("\n".join(dict.fromkeys(lines))) from None


def read(path: Path, assignments: Sequence[str] = ()) -> tuple[Spec, dict[str, Any]]:
    """The spec of a file, and its plain values with overrides applied but variables not yet expanded.

    Raises:
        SpecError: The file cannot be read or is not valid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"{path}: cannot be read ({reason})") from None
    raw = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: a spec is a mapping of keys, not {type(raw).__name__}")
    raw = override(raw, assignments)
    return parse(expand(raw, os.environ), str(path)), raw


def schema() -> dict[str, Any]:
    """JSON Schema of a spec."""
    return Spec.model_json_schema(by_alias=True)
