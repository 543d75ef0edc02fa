"""Which kinds of space, data and trainer go together, and which metrics a trial can have then.

A trainer of kind `script` reads its own data, may bring its own models, and names its own metrics; everything
else trains models of a space that builds them, on data that are loaded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ziggurat.datasets import AnyDataset, External
from ziggurat.derived import AnyDerived
from ziggurat.errors import SpecError, near
from ziggurat.launchers import AnyLauncher
from ziggurat.objectives import LEARNED, MEASURED, METRICS, STATIC, ObjectiveSetting
from ziggurat.profilers import AnyDevice
from ziggurat.spaces import AnySpace, Parameters, TableSpace
from ziggurat.stage_settings import Retrain, Search
from ziggurat.trainers import HYPERPARAMETERS, AnyTrainer, Script
from ziggurat.trainers.script_arguments import names, texts
from ziggurat.trainers.script_metrics import PROFILED

BUILDING = "mlp, cnn, cell, mbconv, backbone or python"
"""Kinds of spaces whose models are built here."""
TOLD_BY_FILE = ("epochs", "data_fraction", "seed")
"""What `${arch_file}` holds beside the choices."""


@dataclass(frozen=True)
class Metrics:
    """Metrics that a trial can have, by how they become known.

    Attributes:
        learned: Only training tells them.
        static: They follow from the architecture, or stand in a table.
        measured: They need no training but a measurement on a device.
    """

    learned: tuple[str, ...] = LEARNED
    static: tuple[str, ...] = STATIC
    measured: tuple[str, ...] = MEASURED

    @property
    def costs(self) -> tuple[str, ...]:
        """Those that need no training."""
        return (*self.static, *self.measured)

    @property
    def all(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.learned, *self.costs)


def builds(space: AnySpace) -> bool:
    """Whether there are models of a space here, to be looked at and measured."""
    return not isinstance(space, Parameters | TableSpace)


def metrics(space: AnySpace, trainer: AnyTrainer) -> Metrics:
    """The metrics of a space's candidates under a trainer."""
    if not isinstance(trainer, Script):
        columns = space.metrics() if isinstance(space, TableSpace) else ()
        return Metrics(static=(*STATIC, *columns))
    learned = tuple(trainer.sources)
    static = tuple(m for m in STATIC if builds(space) and m not in learned)
    measured: Iterable[str] = MEASURED if builds(space) else ()
    if trainer.profile_by is not None:
        measured = trainer.profile_by.metrics or PROFILED
    return Metrics(learned, static, tuple(m for m in measured if m not in (*learned, *static)))


def uses(script: Script, name: str) -> bool:
    """Whether a script is told something, on its command line, in its environment or in a file."""
    given = [*texts(script.command), *texts(script.resume), *script.environment.values()]
    found = names([*given, script.working_directory or ""])
    return name in found or (name in TOLD_BY_FILE and "arch_file" in found)


def needs_checkpoint(script: Script) -> bool:
    """Whether the profile command wants a trained model."""
    return script.profile_by is not None and "checkpoint_dir" in names(texts(script.profile_by.command))


def check_objectives(
    objectives: Sequence[ObjectiveSetting],
    derived: Mapping[str, AnyDerived],
    space: AnySpace,
    trainer: AnyTrainer,
) -> None:
    """Hold objectives against the metrics that there are.

    Raises:
        ValueError: One is unknown, named twice, or could never be reached; or none needs training.
    """
    if isinstance(space, Parameters) and not isinstance(trainer, Script):
        return  # `check` says what is wrong, and an unknown metric may follow from it
    found = metrics(space, trainer)
    known = (*found.all, *derived)
    for i, objective in enumerate(objectives):
        name, made = objective.metric, derived.get(objective.metric)
        if name not in known:
            raise ValueError(f"objectives[{i}].metric: {_unknown(name, trainer, known)}")
        base = name if made is None else made.metric
        objective.check(made, own=isinstance(trainer, Script) and base not in METRICS)
    given = [o.metric for o in objectives]
    repeated = sorted({n for n in given if given.count(n) > 1})
    if repeated:
        raise ValueError(f"metric '{repeated[0]}' is named twice; name each metric once")
    if not set(given) & {*found.learned, *derived}:
        raise ValueError(f"no objective needs training; add one of {', '.join(found.learned)}")


def _unknown(name: str, trainer: AnyTrainer, known: Sequence[str]) -> str:
    """What is wrong with an objective that nothing gives, and what to do."""
    if not isinstance(trainer, Script):
        return f"unknown metric '{name}'; {near(name, known)}"
    where = "name it under search.trainer.metrics"
    if name in PROFILED:
        where = f"give search.trainer.profile, a command that prints it, or {where}"
    return f"nothing tells '{name}' of a candidate; {where}; {near(name, known)}"


@dataclass(frozen=True)
class Parts:
    """The parts of a spec that have to fit one another."""

    data: AnyDataset
    space: AnySpace
    search: Search
    retrain: Retrain
    devices: Sequence[AnyDevice]
    launcher: AnyLauncher
    inputs: tuple[str, ...]


def check(parts: Parts) -> None:
    """Hold the parts of a spec against one another.

    Raises:
        ValueError: Two of them do not go together; the text says what to do.
    """
    trainer, full = parts.search.trainer, parts.retrain.trainer
    _both_scripts(trainer, full)
    if isinstance(trainer, Script):
        _script_fits(parts, trainer)
        _recipe_fits(parts, full if isinstance(full, Script) else trainer)
        _graces_fit(parts, trainer)
    else:
        _no_script(parts, trainer.kind)


def _both_scripts(trainer: AnyTrainer, full: AnyTrainer | None) -> None:
    if full is not None and isinstance(full, Script) != isinstance(trainer, Script):
        raise ValueError(
            f"retrain.trainer.kind is '{full.kind}' and search.trainer.kind '{trainer.kind}', but models and "
            "data of a script are its own; make both script, or neither"
        )


def _no_script(parts: Parts, kind: str) -> None:
    """What only a script can serve must have one."""
    if isinstance(parts.data, External):
        raise ValueError(
            f"data.kind 'external' is read by a script alone, and search.trainer.kind is '{kind}'; set that "
            "to script, or use data that can be loaded here (digits, idx, npz, python)"
        )
    if isinstance(parts.space, Parameters):
        raise ValueError(
            f"space.kind 'parameters' has no models, and search.trainer.kind is '{kind}', which needs some; "
            f"set that to script, or use a space with models ({BUILDING})"
        )
    for name in parts.space.hyperparameters:
        if name not in HYPERPARAMETERS:
            raise ValueError(
                f"space.hyperparameters: the trainer knows no '{name}'; {near(name, HYPERPARAMETERS)}"
            )


def _script_fits(parts: Parts, trainer: Script) -> None:
    data, space = parts.data, parts.space
    if not isinstance(data, External):
        raise ValueError(
            f"search.trainer.kind 'script' reads its own data, so data.kind '{data.kind}' would not be used; "
            "set data.kind to external, or leave data out"
        )
    if builds(space) and not data.told:
        raise ValueError(
            f"space.kind '{space.kind}' builds models, for which data.shape and data.classes are needed with "
            "a script; give them, such as shape: [1, 8, 8] and classes: 10"
        )
    for name in data.chance:
        if name not in trainer.sources:
            raise ValueError(f"data.chance: the script has no metric '{name}'; {near(name, trainer.sources)}")
    _names_fit(space, trainer, "search.trainer")
    _measurable(parts, trainer)


def _names_fit(space: AnySpace, trainer: Script, key: str) -> None:
    declared = space.choices()
    try:
        trainer.check_names(list(declared), [name for name, choice in declared.items() if choice.when])
    except SpecError as error:
        raise ValueError(re.sub(r"\btrainer\.", f"{key}.", str(error))) from None


def _measurable(parts: Parts, trainer: Script) -> None:
    """What must be measured of candidates before they are trained can be."""
    table = next((d for d in parts.devices if d.table is not None), None)
    if table is not None and not builds(parts.space):
        raise ValueError(
            f"devices: '{table.name}' has a latency table, but space.kind 'parameters' has no models that it "
            "could tell of; remove table"
        )
    wanted = [m for m in parts.inputs if m in metrics(parts.space, trainer).measured]
    if wanted and needs_checkpoint(trainer):
        raise ValueError(
            f"objectives need {wanted[0]} before training, but search.trainer.profile uses "
            "${checkpoint_dir}, which is filled later; have it do without (${args} or ${arch_file}), or have "
            f"the training print {wanted[0]} and name it under search.trainer.metrics"
        )


def _recipe_fits(parts: Parts, full: Script) -> None:
    _names_fit(parts.space, full, "retrain.trainer")
    learned = [m for m in parts.inputs if m in metrics(parts.space, parts.search.trainer).learned]
    for name in learned:
        if name not in full.sources:
            raise ValueError(
                f"retrain.trainer.metrics has no '{name}', which the objectives need; name it there as well"
            )
    if parts.retrain.segment_epochs is not None and not full.resumable:
        raise ValueError("retrain.segment_epochs cuts a training that its script cannot resume; remove it")


def _graces_fit(parts: Parts, trainer: Script) -> None:
    """A script must have ended, and its checkpoint be kept, before its launcher ends it by force."""
    trainings = [("launcher", parts.launcher, "search.trainer", trainer)]
    full, own = parts.retrain.trainer, parts.retrain.launcher
    if parts.retrain.enabled:
        where, launcher = ("launcher", parts.launcher) if own is None else ("retrain.launcher", own)
        key, script = ("retrain.trainer", full) if isinstance(full, Script) else ("search.trainer", trainer)
        trainings.append((where, launcher, key, script))
    for where, launcher, key, script in trainings:
        if launcher.grace_s <= script.grace_s:
            raise ValueError(
                f"{where}.grace_s is {launcher.grace_s:g}, {key}.grace_s {script.grace_s:g}, but the first "
                "must be longer, so that what the script leaves can still be kept; raise it by some seconds, "
                "or lower the second"
            )


def with_defaults(raw: Any) -> Any:  # noqa: ANN401 - plain YAML values, of any shape
    """A spec's plain values, with what a script makes the usual choice where nothing is said.

    Data are external; a script that cannot resume has its trials stopped rather than paused, as every
    promotion would cost a whole training.
    """
    search = raw.get("search") if isinstance(raw, Mapping) else None
    trainer = search.get("trainer") if isinstance(search, Mapping) else None
    if not isinstance(search, Mapping) or not isinstance(trainer, Mapping) or trainer.get("kind") != "script":
        return raw
    found = {"data": {"kind": "external"}, **raw}
    stopper = search.get("stopper")
    resumes = trainer.get("resumable", bool(trainer.get("resume")))
    if isinstance(stopper, Mapping) and stopper.get("kind") == "asha" and not resumes:
        found["search"] = {**search, "stopper": {"type": "stopping", **stopper}}
    return found
