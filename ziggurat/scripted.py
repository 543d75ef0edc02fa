"""What a run does otherwise where trainings are a user's script: pure functions of its spec.

A script's model is its own. So it is neither exported nor registered, and what it is worth on the test part
or on a device only the script's own commands can tell; without them that stays unknown, and is said to be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ziggurat.combinations import builds, uses
from ziggurat.domain import Fidelity, JobKind, Measurement, Recipe
from ziggurat.trainers import Script

if TYPE_CHECKING:
    from ziggurat.spec import Spec

NOT_CHECKED = "not checked"


def script_of(spec: Spec, recipe: Recipe = Recipe.SEARCH) -> Script | None:
    """The script that trains by a recipe; None where trainings are no script's."""
    full = spec.retrain.trainer
    trainer = full if recipe is Recipe.RETRAIN and full is not None else spec.search.trainer
    return trainer if isinstance(trainer, Script) else None


def kinds_after(spec: Spec) -> tuple[JobKind, ...]:
    """What is done with every finished model beside measuring it on devices."""
    full = script_of(spec, Recipe.RETRAIN)
    if full is None:
        return (JobKind.EVALUATE, JobKind.EXPORT)
    return () if full.test_by is None else (JobKind.EVALUATE,)


def devices(spec: Spec, recipe: Recipe) -> list[str]:
    """Names of the devices on which models of a recipe can be measured; none of a script without `profile`.

    Models of a space that builds them are measured here, as they are built.
    """
    script = script_of(spec, recipe)
    here = script is None or script.profile_by is not None or builds(spec.space)
    return [d.name for d in spec.devices] if here else []


def probe(spec: Spec) -> Fidelity:
    """The fidelity of a probe in subset validation; a script that takes no fraction of its data uses all."""
    settings, script = spec.validation, script_of(spec)
    whole = script is not None and not uses(script, "data_fraction")
    return Fidelity(settings.epochs or spec.ladder()[0].epochs, 1.0 if whole else settings.subset)


def shortcomings(spec: Spec) -> list[str]:
    """How far the script's command cannot do what the stages before retraining ask for, in words."""
    script = script_of(spec)
    if script is None:
        return []
    found = []
    if not uses(script, "data_fraction") and (
        spec.validation.enabled or any(f.data_fraction < 1 for f in spec.fidelities)
    ):
        found.append(
            "the command does not use ${data_fraction}, so all of the data are trained on throughout"
        )
    if not uses(script, "epochs") and (len(spec.fidelities) > 1 or spec.validation.enabled):
        found.append(
            "the command does not use ${epochs}, so every rung is the same whole training, unless the script "
            "reads ZIGGURAT_EPOCHS"
        )
    if not script.resumable and len(spec.fidelities) > 1:
        found.append("the script cannot resume, so every rung is trained from the beginning")
    return found


def unchecked(spec: Spec) -> list[str]:
    """What nobody will know of a script's finished models, with what would tell it."""
    full = script_of(spec, Recipe.RETRAIN)
    if full is None:
        return []
    key = "search.trainer" if spec.retrain.trainer is None else "retrain.trainer"
    found = [] if full.test_by is not None else [f"the sealed test part ({key} has no test command)"]
    if full.profile_by is None:
        found += (
            ["latency with trained weights (the space's models are measured untrained)"]
            if builds(spec.space)
            else [f"latency, memory and energy ({key} has no profile command)"]
        )
    return [*found, "files for other runtimes (the model is the script's own; its checkpoint is kept)"]


def named_for(spec: Spec, device: str, found: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """Measurements on a device; metrics of all but the first carry the device's name."""
    first = device == spec.devices[0].name
    return tuple(m if first or m.device is None else replace(m, metric=f"{m.metric}@{device}") for m in found)


def test_fingerprint(spec: Spec) -> str:
    """What stands for the test part of data without a path: the command that reads it; empty without one."""
    full = script_of(spec, Recipe.RETRAIN)
    if full is None or full.test_by is None:
        return ""
    return hashlib.sha256(json.dumps(full.test_by.command).encode()).hexdigest()[:16]
