"""Runs whose search is over, made by journalling events: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.real import create, plain
from ziggurat.domain import Candidate, Job, JobKind, Measurement
from ziggurat.events import Body, SegmentFinished, SegmentPlanned, StageFinished, StageStarted
from ziggurat.runs import Run
from ziggurat.stages import common

ACCURACY = {0: 0.9, 1: 0.95, 2: 0.8, 3: 0.7}
SIZE = {0: 1000.0, 1: 2000.0, 2: 500.0, 3: 1500.0}
"""Of trials 0 to 3: the front is 0, 1 and 2, and 3 is worse than 0 in both."""


def trained(run: Run, stage: str, number: int, candidate: Candidate, **fields: Any) -> list[Body]:
    """The events of a trial that is proposed and trained to its top rung."""
    ladder = fields.pop("ladder", run.spec.ladder())
    accuracy, size = fields.pop("accuracy"), fields.pop("size")
    index = len(run.history.of_stage(stage)) + fields.pop("offset", 0)
    proposed = common.proposed(
        run.history, stage, index, candidate, offset=0, seed=fields.get("seed", 0), ladder=ladder,
        static=(Measurement("parameters", size),), origin=fields.get("origin", ""),
    )  # fmt: skip
    job = Job(
        f"{number:05d}-train-1-0", JobKind.TRAIN, stage, number, candidate, ladder, to_rung=len(ladder) - 1
    )
    found = (Measurement("val_accuracy", accuracy, step=ladder[-1].epochs),)
    return [proposed, SegmentPlanned(job, 1.0, 0.0), SegmentFinished(job.key, number, 1.0, 0.1, None, found)]


def searched(folder: Path, ended: bool = True, **changes: Any) -> Run:
    """A run, taken, whose search has four trials at the top rung; 0.4 USD are spent."""
    run = create(folder / "runs", plain(**changes))
    run.record([StageStarted("search")])
    for number, accuracy in ACCURACY.items():
        candidate = Candidate({"width": number + 1})
        run.record(trained(run, "search", number, candidate, accuracy=accuracy, size=SIZE[number]))
    if ended:
        run.record([StageFinished("search", "ok")])
    return run


def settings(approval: Mapping[str, Any] | None = None, **retrain: Any) -> dict[str, Any]:
    """Settings of a retraining that has to be approved."""
    asked = {"wanted": True, **(approval or {})}
    return {"k": 2, "seeds": 2, "epochs": 2, "segment_epochs": 1, "approval": asked, **retrain}
