"""What a job's answer amounts to: derived metrics are added, and what a training did not tell is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ziggurat import derived
from ziggurat.domain import Failure, FailureKind, Job, JobKind, Measurement
from ziggurat.history import History
from ziggurat.spec import Spec
from ziggurat.trainers import Script


def derive(spec: Spec, history: History, job: Job, found: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """The derived metrics that a job's measurements give, together with what is known of its trial.

    A training gives them at the rung it has reached. A measurement on a device gives them anew at the rung
    of a trained model, since its own latency says more than that of another model of the same candidate.
    """
    trial = history.trials.get(job.trial)
    if not spec.derived or trial is None or job.kind not in {JobKind.TRAIN, JobKind.PROFILE}:
        return ()
    known = {**trial.static, **{m.metric: m for m in found}}
    if job.kind is JobKind.PROFILE:
        known = {**trial.results.get(trial.rung, {}), **known}
    lacking = {made.cost for made in spec.derived.values()} - set(known)
    if lacking:
        # a model that is trained anew is not measured yet, but the trial that it comes from was
        others = (t for t in history.trials.values() if t.candidate == trial.candidate)
        beside = {name: m for t in others for name, m in t.static.items() if name in lacking}
        known = {**beside, **known}
    return derived.measurements(spec.derived, {name: spec.goal(name) for name in spec.derived}, known)


def lacking(spec: Spec, found: Sequence[Measurement], payload: Any = None) -> Failure | None:  # noqa: ANN401 - JSON
    """Why a training that has ended tells too little of its trial; None if it tells enough.

    A cost that has to be measured on a device may come later, and so what is derived from it.

    Args:
        spec: The run's.
        found: What it has told, and what is derived of that.
        payload: What its worker has added.
    """
    names = {m.metric for m in found}
    measured = spec.metrics.measured
    missing = [metric for metric in spec.inputs() if metric not in names and metric not in measured]
    if missing:
        trainer = spec.search.trainer
        looked = f": {trainer.where(missing[0])}" if isinstance(trainer, Script) else ""
        said = payload.get("said") if isinstance(payload, Mapping) else None
        words = f"; its last words: {said}" if said else ""
        return Failure(FailureKind.NO_METRIC, f"the training reported no {missing[0]}{looked}{words}")
    values = {m.metric: m.value for m in found}
    for name in (o.metric for o in spec.objectives if o.metric not in names):
        made = spec.derived.get(name)
        if made is not None and made.cost in values:
            text = f"{made.metric} {values[made.metric]:g} and {made.cost} {values[made.cost]:g}"
            return Failure(FailureKind.NO_METRIC, f"no {name} can be made of {text}")
    return None
