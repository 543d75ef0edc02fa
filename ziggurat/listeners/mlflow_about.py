"""What the mirror in MLflow is told of a run beside its events: objectives, spec, dataset, forecast.

Whoever has the spec puts it together; nothing here knows a spec or imports MLflow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ziggurat.domain import Objective, RunStatus, Trial
from ziggurat.history import History
from ziggurat.listeners.mlflow_words import RETRAIN, Point, name

LONGEST_VALUE = 500
"""Characters of a parameter; MLflow allows 6,000, and nobody reads them."""
MOST_PARAMS = 800
"""Parameters of a run, so that a spec that lists a thousand choices stays one page."""
REPEATED = "repeated"
"""Kind of the decision that says which run in MLflow this one repeats."""
SPEC = "spec.yaml"
"""Name of the spec among the artifacts of the parent run."""


@dataclass(frozen=True)
class About:
    """A run beside its events.

    Attributes:
        objectives: In the order of the spec.
        judged: By which of them retrained models are ordered; by default the first.
        spec: The spec as YAML that can be run again, without secrets; empty if it is not to be kept.
        settings: The same as plain values.
        dataset: What the dataset is called.
        source: Where it comes from: the settings of `data`, without secrets.
        projected: What the run will have cost at its end, in USD, as far as a history tells.
    """

    objectives: tuple[Objective, ...]
    judged: Objective | None = None
    spec: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    projected: Callable[[History], float] | None = None

    def rank(self, point: Point) -> int:
        """Sorts points: those of objectives before the others."""
        names = [name(o.metric) for o in self.objectives]
        return names.index(point.name) if point.name in names else len(names)

    def order(self, trial: Trial) -> tuple[bool, float, int]:
        """Sorts retrained models, best first; those of which nothing is known come last."""
        goal = self.judged or self.objectives[0]
        loss = goal.loss(trial.value(goal.metric))
        return math.isnan(loss), 0.0 if math.isnan(loss) else loss, trial.number


def finalists(history: History, about: About) -> list[Trial]:
    """The best seed of each retrained architecture, best first."""
    best: dict[str, Trial] = {}
    for trial in history.of_stage(RETRAIN):
        known = best.get(trial.candidate.key, trial)
        if trial.rung == trial.top_rung and about.order(trial) <= about.order(known):
            best[trial.candidate.key] = trial
    return sorted(best.values(), key=about.order)


@dataclass(frozen=True)
class Part:
    """A part of the dataset, as MLflow lists it.

    Attributes:
        name: The dataset's, with the part's.
        digest: The fingerprint of the whole dataset.
        context: What it is used for: training, validation or test.
        source_type: `local` for what lies under a path, else `code`: our own settings.
        source: Where it comes from, as JSON.
        schema: Of inputs and targets, as JSON; empty if nobody knows.
        profile: How many examples it has, as JSON.
    """

    name: str
    digest: str
    context: str
    source_type: str
    source: str
    schema: str
    profile: str


def params(settings: Mapping[str, Any]) -> dict[str, str]:
    """A spec as parameters: `search.trials`, `objectives.0.metric`; what is null or empty is left out."""
    found: dict[str, str] = {}
    for key, value in _flat(settings, ""):
        if len(found) == MOST_PARAMS:
            break
        found.setdefault(name(key), value[:LONGEST_VALUE])
    return found


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any plain value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{index}")
    elif isinstance(value, list):
        if value:
            yield path, json.dumps(value, ensure_ascii=False)
    elif value is not None and value != "":
        yield path, json.dumps(value) if isinstance(value, bool) else str(value)


def parts(about: About, history: History) -> list[Part]:
    """The parts of the dataset, once the preflight has looked at it; the sealed one once it was opened."""
    preflight = history.stages.get("preflight")
    found = preflight.summary if preflight is not None else {}
    digest = str(found.get("fingerprint") or "")
    if not digest or not about.dataset:
        return []
    contexts = {"train": "training", "validation": "validation"}
    if history.decision("unsealed") is not None:
        contexts["test"] = "test"
    schema = _schema(str(found.get("shape") or ""))
    path = about.source.get("path")
    plain = {"uri": str(path)} if path else {"tags": {k: str(v) for k, v in about.source.items()}}
    return [
        Part(
            name=f"{about.dataset} {part}",
            digest=digest[:36],
            context=context,
            source_type="local" if path else "code",
            source=json.dumps(plain)[:60_000],
            schema=schema,
            profile=json.dumps({"num_rows": found[part]} if part in found else {}),
        )
        for part, context in contexts.items()
    ]


def _schema(shape: str) -> str:
    """MLflow's words for examples of a shape such as `1x8x8`, as they reach a model."""
    if not shape:
        return ""
    sizes = [-1, *(int(n) for n in shape.split("x"))]
    return json.dumps(
        {
            "mlflow_tensorspec": {
                "features": json.dumps([_tensor("float32", sizes)]),
                "targets": json.dumps([_tensor("int64", [-1])]),
            }
        }
    )


def _tensor(kind: str, sizes: list[int]) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": kind, "shape": sizes}}


def tags(history: History) -> dict[str, str]:
    """Tags of the parent run that change while it goes on."""
    found = {"ziggurat.status": history.status.value}
    begun = [stage for stage, end in history.stages.items() if end is None]
    going = history.status is RunStatus.RUNNING
    found["ziggurat.current_stage"] = begun[-1] if begun and going else "none"
    raised = sorted(key for key, alert in history.alerts.items() if alert.state == "raised")
    if raised or history.alerts:
        found["ziggurat.alerts"] = ", ".join(raised)[:LONGEST_VALUE]
    repeated = history.decision(REPEATED)
    if repeated is not None:
        found["ziggurat.repeated_from"] = repeated.verdict
    return found


def note(history: History, about: About, page: str) -> str:
    """What the parent run is described with: Markdown."""
    best = finalists(history, about)
    lines = [
        f"**{history.run_id}**: {history.status.value}, {len(history.trials)} trials, "
        f"{history.spent_usd:.4g} USD."
    ]
    for trial in best[:1]:
        known = {**trial.static, **trial.results.get(trial.rung, {})}
        wanted = dict.fromkeys([*(o.metric for o in about.objectives), "test_accuracy", "latency_p50_ms"])
        told = [f"{m} {known[m].value:.5g}" for m in wanted if m in known]
        lines.append(f"Best retrained model: trial {trial.number} ({', '.join(told)}).")
    if page and best:
        lines.append(f"[Compare the {len(best)} finalists]({page})" if best[1:] else f"[The model]({page})")
    return "\n\n".join(lines)
