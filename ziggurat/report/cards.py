"""The card of a retrained model: what it is, how good, how fast where, made of what and for how much.

Pure functions of a spec and a history; `card_text` turns a card into words. Numbers stay raw, in the metrics'
own units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ziggurat.history import History
from ziggurat.report.devices import failures, of_devices
from ziggurat.report.plain import finite
from ziggurat.report.summary import SEARCH, known, over_seeds, retrained_rows
from ziggurat.report.tables import measured
from ziggurat.trainers import Script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ziggurat.domain import Measurement, Trial
    from ziggurat.events import Decided
    from ziggurat.report.facts import ReportFacts
    from ziggurat.report.results import RetrainedRow
    from ziggurat.spec import Spec

Card = dict[str, Any]
RATE = "learning_rate"
"""A metric of a training's last step that says nothing of the model."""
BEFORE = ("preflight", "validate", "proxy", SEARCH)
"""Stages whose trials find the architectures."""


def cards(spec: Spec, history: History, facts: ReportFacts) -> dict[int, Card]:
    """The card of each model that was trained with the full recipe, by number of its trial."""
    rows = retrained_rows(spec.goals(), history)
    return {number: card(spec, history, facts, row, number) for row in rows for number in row.trials}


def card(spec: Spec, history: History, facts: ReportFacts, row: RetrainedRow, number: int) -> Card:
    """The card of one model."""
    trial = history.trials[number]
    exported = next(
        (d for d in reversed(history.decisions) if d.kind == "exported" and d.trial == number), None
    )
    return {
        "name": f"{spec.name}-{number:05d}",
        "run": history.run_id,
        "trial": number,
        "found_as_trial": row.trial,
        **_made_of(spec, trial),
        "seed": trial.seed,
        "seeds": list(row.seeds),
        "metrics": _metrics(history, row, trial),
        "test_looks": facts.test_looks,
        "devices": _devices(spec, history, facts, row, trial),
        "data": _data(spec, history, facts),
        "cost": _cost(history, trial, len(retrained_rows(spec.goals(), history))),
        "files": _files(exported),
        "not_exported": _not_exported(spec, exported),
        "not_checked": list(facts.unchecked),
        "versions": _versions(facts, exported),
        "checkpoint": trial.checkpoint,
    }


def _made_of(spec: Spec, trial: Trial) -> Card:
    choices = trial.candidate.choices
    hyper = {n: v for n, v in choices.items() if n in spec.space.hyperparameters}
    full = spec.retrain.trainer or spec.search.trainer
    # what a script is given may hold the values of secret variables; the spec has their names
    trainer = {"kind": full.kind} if isinstance(full, Script) else full.model_dump(mode="json")
    return {
        "space": spec.space.kind,
        "architecture": {n: v for n, v in choices.items() if n not in hyper},
        "hyperparameters": hyper,
        # what the candidate chooses takes the place of the trainer's own value
        "recipe": {
            **{n: hyper.get(n, value) for n, value in trainer.items()},
            "epochs": trial.ladder[-1].epochs,
        },
    }


def _not_exported(spec: Spec, exported: Decided | None) -> str:
    if exported is not None:
        return exported.reason
    if isinstance(spec.search.trainer, Script):
        return "the model is the script's own, and so is its checkpoint"
    return "the model has not been exported"


def _metrics(history: History, row: RetrainedRow, trial: Trial) -> Card:
    """Everything that is no device's: this model's value, and mean and spread over the seeds."""
    found: Card = {}
    for name, mine in known(trial).items():
        if measured(name) or name == RATE:
            continue
        over = row.metrics.get(name) or over_seeds([mine])
        found[name] = {
            "value": finite(mine.value),
            "unit": mine.unit,
            "mean": finite(over.mean),
            "spread": finite(over.spread),
            "seeds": len(over.values),
            **({"examples": mine.samples} if mine.samples is not None else {}),
        }
    return found


def _devices(spec: Spec, history: History, facts: ReportFacts, row: RetrainedRow, trial: Trial) -> Card:
    """What this model costs on each device, and over the seeds; a failed measurement has its reason."""
    reasons = failures(history, row)
    over = of_devices(row)
    found: Card = {}
    for index, device in enumerate(spec.devices):
        mine: dict[str, Measurement] = {}
        for name, m in known(trial).items():
            base, _, where = name.partition("@")
            if measured(name) and where == ("" if index == 0 else device.name):
                mine[base] = m
        noise = mine["latency_noise"].value if "latency_noise" in mine else None
        statistics = over.get("" if index == 0 else device.name, {})
        found[device.name] = {
            "description": facts.devices.get(device.name, device.kind),
            "batch_size": device.batch_size,
            "metrics": {
                base: {
                    "value": finite(m.value),
                    "unit": m.unit,
                    "spread": finite(m.spread),
                    "samples": m.samples,
                    "mean_of_seeds": finite(statistics[base].mean) if base in statistics else None,
                }
                for base, m in mine.items()
            },
            "noise_limit": device.noise_limit,
            "steady": None if noise is None else noise <= device.noise_limit,
            **({} if mine else {"not_measured": reasons.get(device.name, "it was not measured")}),
        }
    return found


def _data(spec: Spec, history: History, facts: ReportFacts) -> Card:
    preflight = history.stages.get("preflight")
    summary: Mapping[str, Any] = preflight.summary if preflight is not None else {}
    names = ("fingerprint", "train", "validation", "classes")
    return {
        "kind": spec.data.kind,
        **{n: summary[n] for n in names if n in summary},
        "chance": dict(facts.chance),
    }


def _cost(history: History, trial: Trial, architectures: int) -> Card:
    """What this model took, and its share of what finding the architectures took."""
    before = [t for t in history.trials.values() if t.stage in BEFORE]
    share = max(1, architectures)
    return {
        "model_usd": trial.cost_usd,
        "model_s": trial.seconds,
        "search_usd": sum(t.cost_usd for t in before),
        "search_s": sum(t.seconds for t in before),
        "search_share_usd": sum(t.cost_usd for t in before) / share,
        "search_share_s": sum(t.seconds for t in before) / share,
        "architectures": architectures,
    }


def _files(exported: Decided | None) -> list[Card]:
    if exported is None:
        return []
    facts = exported.facts
    kinds = [k.removesuffix("_file") for k in facts if k.endswith("_file")]
    return [
        {
            "kind": kind,
            "path": facts[f"{kind}_file"],
            "bytes": facts[f"{kind}_bytes"],
            "sha256": facts[f"{kind}_sha256"],
            **{
                n: finite(float(str(facts[f"{kind}_{n}"])))
                for n in ("difference", "agreement")
                if f"{kind}_{n}" in facts
            },
            "examples": facts.get("examples"),
        }
        for kind in kinds
    ]


def _versions(facts: ReportFacts, exported: Decided | None) -> Card:
    known_ = exported.facts if exported is not None else {}
    names = ("python", "torch", "onnx", "onnxruntime")
    return {"ziggurat": facts.version, **{n: known_[n] for n in names if n in known_}}
