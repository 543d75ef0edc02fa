"""What a version of a registered model carries, and reading it back: numbers with what makes them certain.

A version's tags are for people; one of them, `ziggurat.facts`, holds the same as JSON for whoever has to
decide about the version. Pure functions; nothing here imports MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from ziggurat.domain import JobKind, Measurement, Objective, Trial
from ziggurat.errors import ZigguratError
from ziggurat.events import to_plain
from ziggurat.history import History
from ziggurat.listeners import mlflow_words
from ziggurat.listeners.mlflow_client import CANDIDATE, RUN_ID, TRIAL

FACTS = "ziggurat.facts"
LONGEST = 60_000
"""Characters of facts that are read; a registry may hold more than anybody should parse."""
SHOWN = ("test_accuracy", "latency_p50_ms", "latency_p99_ms", "model_size_mb")
"""Beginnings of the metrics that people look for among a version's tags, beside the objectives."""


@dataclass(frozen=True)
class Facts:
    """What is known of a version of a registered model.

    Attributes:
        run_id: The run that it comes from.
        trial: Its trial there.
        judged: By which metric models are compared, and in which direction.
        metrics: Everything that is known of it, by name.
        objectives: In the order of the spec, with their limits.
        devices: Devices on which it should have been measured, the first one first.
        fingerprint: Of the dataset's sealed part.
        evaluations: How often this model was evaluated on the sealed part.
        looks: How many runs had looked at the sealed part when this one had.
        examples: How many examples the parts of the dataset have, as far as known.
        model_format: How its file is stored.
    """

    run_id: str
    trial: int
    judged: Objective
    metrics: Mapping[str, Measurement]
    objectives: tuple[Objective, ...] = ()
    devices: tuple[str, ...] = ()
    fingerprint: str = ""
    evaluations: int = 0
    looks: int = 0
    examples: Mapping[str, int] = field(default_factory=dict)
    model_format: str = ""


_FACTS: TypeAdapter[Facts] = TypeAdapter(Facts)


def of(
    history: History, trial: Trial, objectives: Sequence[Objective], judged: Objective, devices: Sequence[str]
) -> Facts:
    """What a history knows of a retrained model."""
    preflight = history.stages.get("preflight")
    found = preflight.summary if preflight is not None else {}
    unsealed = history.decision("unsealed")
    evaluations = [s for s in history.successes(JobKind.EVALUATE) if s.job.trial == trial.number]
    return Facts(
        run_id=history.run_id,
        trial=trial.number,
        judged=judged,
        metrics={**trial.static, **trial.results.get(trial.rung, {})},
        objectives=tuple(objectives),
        devices=tuple(devices),
        fingerprint=str(found.get("fingerprint") or ""),
        evaluations=len(evaluations),
        looks=int(str(unsealed.facts.get("looks", 1))) if unsealed is not None else 0,
        examples={p: int(str(found[p])) for p in ("train", "validation") if p in found},
    )


def tags(facts: Facts, trial: Trial, history: History, goals: Collection[str]) -> dict[str, str]:
    """The tags of a version: where it comes from, what it is worth, and the facts as JSON."""
    told = {
        mlflow_words.name(metric): f"{m.value:.6g}"
        for metric, m in facts.metrics.items()
        if metric in goals or metric.startswith(SHOWN)
    }
    return {
        **told,
        RUN_ID: facts.run_id,
        TRIAL: str(facts.trial),
        CANDIDATE: trial.candidate.key,
        "ziggurat.architecture": str(mlflow_words.architecture(trial, history)),
        "ziggurat.seed": str(trial.seed),
        FACTS: json.dumps(to_plain(facts), separators=(",", ":")),
    }


def description(facts: Facts, trial: Trial, history: History) -> str:
    """What a version is, in a sentence."""
    wanted = (facts.judged.metric, "test_accuracy", "latency_p50_ms", "latency_p99_ms")
    told = [f"{m} {facts.metrics[m].value:.5g}" for m in dict.fromkeys(wanted) if m in facts.metrics]
    return f"{mlflow_words.title(trial, history)} of {facts.run_id}: {', '.join(told)}"


def read(found: Mapping[str, str], what: str) -> Facts:
    """The facts of a version's tags.

    Raises:
        ZigguratError: There are none, or they make no sense.
    """
    text = found.get(FACTS)
    if text is None:
        raise ZigguratError(
            f"{what} has no tag {FACTS}, so nothing is known of it; register it by a run of this version"
        )
    try:
        if len(text) > LONGEST:
            raise ValueError("too long")
        return _FACTS.validate_python(json.loads(text))
    except (ValueError, ValidationError, RecursionError):
        raise ZigguratError(
            f"{what} has a tag {FACTS} that cannot be read; register it again with a further run"
        ) from None
