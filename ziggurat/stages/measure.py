"""Measurement of the retrained models: every device, the export, and the sealed test part, once.

Every opening of the sealed part is counted by the dataset's fingerprint, across runs, in a file beside the
runs.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

from ziggurat import plan
from ziggurat.contexts import measuring
from ziggurat.domain import JobKind, Recipe
from ziggurat.engine import Engine
from ziggurat.events import Decided
from ziggurat.plan import Step
from ziggurat.scripted import NOT_CHECKED, devices, kinds_after, unchecked
from ziggurat.stages import common

STAGE = "measure"
LOOKS = "test_looks.jsonl"


def measure(engine: Engine) -> None:
    """Evaluate, export and profile all retrained models."""
    if not common.begin(engine, STAGE):
        return
    run = engine.run
    models = [t for t in run.history.of_stage("retrain") if t.rung == t.top_rung]
    if not models:
        common.finish(engine, STAGE, common.SKIPPED)
        return
    kinds, there = kinds_after(run.spec), devices(run.spec, Recipe.RETRAIN)
    if JobKind.EVALUATE in kinds:
        _unseal(engine)
    alone = [d.name for d in run.spec.devices if d.launcher is not None]

    def planner(engine: Engine, free: int) -> Step:
        return plan.measure_jobs(
            run.history,
            "retrain",
            free,
            devices=there,
            free_devices=[d for d in there if engine.pool.free_on(d) > 0],
            alone=alone,
            forecast=partial(measuring, run.spec, run.history),
            rules=engine.context_rules(STAGE, reserve=False),
            kinds=kinds,
        )

    step = engine.drive(planner, STAGE)
    facts = {"models": len(models), "reason": step.blocked}
    if unknown := unchecked(run.spec):
        facts[NOT_CHECKED] = "; ".join(unknown)
    common.finish(engine, STAGE, common.verdict_of(step), facts)


def _unseal(engine: Engine) -> None:
    """Write down that this run looks at the sealed test part, before it does."""
    run = engine.run
    if run.history.decision("unsealed") is not None:
        return
    preflight = run.history.stages.get("preflight")
    fingerprint = str(preflight.summary.get("fingerprint", "")) if preflight is not None else ""
    path = run.folder.parent / LOOKS
    line = json.dumps({"fingerprint": fingerprint, "run_id": run.run_id})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    looks = count_looks(path, fingerprint)
    reason = f"look {looks} at the sealed test part of dataset {fingerprint} under {run.folder.parent}"
    run.record(
        [
            Decided(
                "unsealed",
                "open",
                seen=run.history.length,
                reason=reason,
                facts={"looks": looks, "fingerprint": fingerprint},
            )
        ]
    )


def count_looks(path: Path, fingerprint: str) -> int:
    """How many runs have looked at a dataset's sealed test part."""
    if not path.exists():
        return 0
    runs = set()
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(text)
        except ValueError:
            continue  # a torn line of a crash
        if row.get("fingerprint") == fingerprint:
            runs.add(row.get("run_id"))
    return len(runs)
