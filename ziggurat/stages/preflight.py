"""Preflight: everything that can be found wrong before money is spent.

Checks of data, space, trainer, devices and limits run inside a worker (`ziggurat.inspection`); beside it, and
side by side, others look at what surrounds the run (`surroundings`, `places`). What concerns money follows
from what these have found (`money`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ziggurat.checks import Check, Findings, line
from ziggurat.domain import FailureKind, Job, JobKind, Recipe
from ziggurat.engine import Engine
from ziggurat.errors import CallFailed, SpecError
from ziggurat.estimate import estimate, naive_usd
from ziggurat.events import Decided, candidate_from_plain
from ziggurat.scripted import devices, script_of
from ziggurat.spaces import TableSpace
from ziggurat.stages import common, money, places, script_trial, surroundings
from ziggurat.stores import Store

STAGE = "preflight"
TRY_S = 600.0
"""Seconds for trying a device, beside what its own settings allow: its machine has to start."""


@dataclass(frozen=True)
class Found:
    """Everything that a preflight has found.

    Attributes:
        checks: Verdicts, in the order in which they are shown.
        facts: What later stages may use.
        probes: Feasible candidates for probing, as plain JSON.
        seconds: How long all of it took.
    """

    checks: list[Check]
    facts: dict[str, Any]
    probes: list[dict[str, Any]]
    seconds: float

    @property
    def failed(self) -> list[Check]:
        """Checks that are a reason to stop."""
        return [c for c in self.checks if c.ok is False]


def preflight(engine: Engine) -> list[Check]:
    """Check everything and write the findings into the journal.

    Raises:
        SpecError: A check has failed; the message has one line for each.
    """
    if not common.begin(engine, STAGE):
        return []
    found = gather(engine, store=engine.run.store)
    if found.failed:
        raise SpecError("\n".join(line(c) for c in found.failed))
    summary = {
        **found.facts,
        "checks": len(found.checks),
        "warnings": [line(c) for c in found.checks if c.ok is None],
        "seconds": round(found.seconds, 2),
        "probes": json.dumps(found.probes),
    }
    common.finish(engine, STAGE, common.OK, summary)
    if script_of(engine.run.spec) is None or "epoch_s" in found.facts:
        forecast_facts(engine)
    return found.checks


def gather(engine: Engine, *, alone: bool = False, store: Store | None = None) -> Found:
    """Run all checks.

    Args:
        engine: Runs what has to run on machines.
        alone: No further stage follows, so a script is tried now in any case.
        store: The store of the spec, if it names one.
    """
    began, spec, folder = time.monotonic(), engine.run.spec, engine.run.folder
    looks: dict[str, surroundings.Look] = {
        "store": lambda: places.store(store),
        "tracking": lambda: surroundings.tracking(spec, Path.cwd() / "runs" if alone else folder.parent),
        "alerts": lambda: surroundings.alerts(spec),
        "prices": lambda: surroundings.prices(spec),
    }
    with surroundings.together(looks) as asked:
        first = Findings([money.criteria(spec), *money.limits(spec, engine.run.limit_usd)])
        with first.step("reproducibility"):
            same, versions = surroundings.reproducible(spec, Path.cwd())
            first.checks += same
        first.checks += places.launchers(spec)
        worker = _inspected(engine, alone=alone)
        first.checks += asked.found()
    last = Findings()
    with last.step("disk"):
        last.checks.append(_disk(engine, worker.facts))
    if not worker.failed and "epoch_s" in worker.facts and not isinstance(spec.space, TableSpace):
        with last.step("forecast"):
            last.checks += money.fits(spec, engine.run.history, worker.facts)
    checks = [*first.checks, *worker.checks, *last.checks]
    return Found(checks, {**worker.facts, **versions}, worker.probes, time.monotonic() - began)


def _inspected(engine: Engine, *, alone: bool) -> Findings:
    """What a worker finds out, and what trying devices and a script shows."""
    spec = engine.run.spec
    key = f"service-inspect-{engine.run.history.length}-{engine.run.mark[-8:]}"
    count = max(spec.validation.candidates, 1)
    try:
        told = engine.call(Job(key, JobKind.INSPECT, STAGE, count=count))
    except CallFailed as error:
        return Findings([_ended(error)])
    found = Findings([Check(**c) for c in told["checks"]], told["facts"], told["probes"])
    if not found.failed:
        _try_devices(engine, found)
    if (alone or not spec.validation.enabled) and not found.failed:
        with found.step("search.trainer", ours=True):
            found.checks += script_trial.try_script(engine, told)
    return found


def _ended(error: CallFailed) -> Check:
    """A failed check about a worker that came to its end while it looked."""
    text = f"the worker that looks at data and space has ended: {error}"
    cure = "see the log of the service in the run directory"
    if error.kind == FailureKind.OUT_OF_MEMORY.value:
        cure = "raise launcher.memory_limit_mb, or make data or models smaller"
    return Check("worker", ok=False, text=text, cure=cure)


def _disk(engine: Engine, facts: Mapping[str, Any]) -> Check:
    spec = engine.run.spec
    models = spec.search.trials + (spec.retrain.k * spec.retrain.seeds if spec.retrain.enabled else 0)
    return surroundings.disk(engine.run.folder, float(facts.get("checkpoint_mb", 0.0)), models)


def _try_devices(engine: Engine, found: Findings) -> None:
    """Measure one small candidate on every device that only measuring shows to work; note how long it takes.

    Those are devices behind commands or behind a launcher of their own; the worker that inspects has looked
    at the others.
    """
    smallest = min(found.probes, key=_flops, default=None)
    usable = set(devices(engine.run.spec, Recipe.SEARCH))
    for device in (d for d in engine.run.spec.devices if d.name in usable):
        patience = script_trial.patience_s(engine.run.spec) or getattr(device, "longest_s", None)
        if smallest is None or (patience is None and device.launcher is None):
            continue
        job = Job(
            key=f"service-try-{device.name}-{engine.run.history.length}-{engine.run.mark[-8:]}",
            kind=JobKind.PROFILE,
            stage=STAGE,
            candidate=candidate_from_plain(smallest["candidate"]),
            device=device.name,
            exclusive=True,
        )
        with found.step("devices", ours=True):
            took = float(engine.call(job, TRY_S + (patience or 0.0))["profile_s"])
            found.facts[f"measure_s.{device.name}"] = round(took, 3)
            found.good("devices", f"{device.name} measures a small model in {took:.1f} s")


def _flops(probe: dict[str, Any]) -> float:
    return next((float(m["value"]) for m in probe["static"] if m["metric"] == "flops"), float("inf"))


def forecast_facts(engine: Engine) -> None:
    """Write the forecast of all stages into the journal."""
    spec, history = engine.run.spec, engine.run.history
    facts = {row.stage: round(row.usd, 6) for row in estimate(spec, history)}
    seconds = {f"{row.stage}_s": round(row.seconds, 3) for row in estimate(spec, history)}
    total = sum(facts.values())
    limit = engine.run.limit_usd
    verdict = "fits" if limit is None or total <= limit else "exceeds"
    engine.run.record(
        [
            Decided(
                "forecast",
                verdict,
                seen=history.length,
                reason=f"{total:.4g} USD expected, {naive_usd(spec, history):.4g} USD without early stopping",
                facts={**facts, **seconds, "total_usd": round(total, 6)},
            )
        ]
    )
