"""Preflight: everything that can be found wrong before money is spent.

Checks of data, space, trainer, devices and limits run inside a worker (`ziggurat.inspection`); this module
adds what concerns the run as a whole: disk, tracking, alerts, the budget and the forecast.
"""

from __future__ import annotations

import json
import shutil
import socket
from typing import Any
from urllib.parse import urlsplit

from ziggurat.domain import Job, JobKind, Recipe
from ziggurat.engine import Engine
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.estimate import estimate, naive_usd
from ziggurat.events import Decided, candidate_from_plain
from ziggurat.inspection import Check
from ziggurat.scripted import devices, script_of
from ziggurat.stages import common, places, script_trial

STAGE = "preflight"
FREE_MB = 200
TRY_S = 600.0
"""Seconds for trying a device, beside what its own settings allow: its machine has to start."""


def preflight(engine: Engine) -> list[Check]:
    """Check everything and write the findings into the journal.

    Raises:
        SpecError: A check has failed; the message has one line for each.
    """
    if not common.begin(engine, STAGE):
        return []
    checks, facts, probes = gather(engine)
    bad = [c for c in checks if c.ok is False]
    if bad:
        raise SpecError("\n".join(line(c) for c in bad))
    warnings = [line(c) for c in checks if c.ok is None]
    summary = {**facts, "checks": len(checks), "warnings": warnings, "probes": json.dumps(probes)}
    common.finish(engine, STAGE, common.OK, summary)
    if script_of(engine.run.spec) is None or "epoch_s" in facts:
        forecast_facts(engine)
    return checks


def line(check: Check) -> str:
    """A failed check as one line."""
    return f"{check.text}; {check.cure}" if check.cure and check.cure not in check.text else check.text


def gather(
    engine: Engine, *, alone: bool = False
) -> tuple[list[Check], dict[str, Any], list[dict[str, Any]]]:
    """Run all checks: their verdicts, facts for later stages, and feasible candidates for probing.

    Args:
        engine: Runs what has to run on machines.
        alone: No further stage follows, so a script is tried now in any case.
    """
    spec = engine.run.spec
    checks = [_disk(engine), _tracking(engine), *_strategy(engine)]
    checks += [*places.store(engine.run.store), *places.launchers(spec)]
    try:
        spec.alerts.check()
        checks.append(Check("alerts", ok=True, text=f"{len(spec.alerts.urls)} channels"))
    except ZigguratError as error:
        checks.append(Check("alerts", ok=False, text=str(error)))
    key = f"service-inspect-{engine.run.history.length}-{engine.run.mark[-8:]}"
    count = max(spec.validation.candidates, 1)
    found = engine.call(Job(key, JobKind.INSPECT, STAGE, count=count))
    checks += [Check(**c) for c in found["checks"]]
    if not any(c.ok is False for c in checks):
        checks += _devices(engine, found)
    if (alone or not spec.validation.enabled) and not any(c.ok is False for c in checks):
        checks += script_trial.try_script(engine, found)
    return checks, found["facts"], found["probes"]


def _devices(engine: Engine, found: dict[str, Any]) -> list[Check]:
    """Measure one small candidate on every device that only measuring shows to work; note how long it takes.

    Those are devices behind commands or behind a launcher of their own; the worker that inspects has looked
    at the others.
    """
    smallest = min(found["probes"], key=_flops, default=None)
    checks: list[Check] = []
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
        try:
            took = float(engine.call(job, TRY_S + (patience or 0.0))["profile_s"])
        except ZigguratError as error:
            checks.append(Check("devices", ok=False, text=str(error)))
            continue
        found["facts"][f"measure_s.{device.name}"] = round(took, 3)
        checks.append(Check("devices", ok=True, text=f"{device.name} measures a small model in {took:.1f} s"))
    return checks


def _flops(probe: dict[str, Any]) -> float:
    return next((float(m["value"]) for m in probe["static"] if m["metric"] == "flops"), float("inf"))


def _disk(engine: Engine) -> Check:
    free = shutil.disk_usage(engine.run.folder).free / 1e6
    text = f"{free:.0f} MB free for checkpoints in {engine.run.folder}"
    return Check("disk", ok=free > FREE_MB, text=text, cure=f"make at least {FREE_MB} MB free")


def _tracking(engine: Engine) -> Check:
    """A tracking server that does not answer is a warning: it never stops a run."""
    tracking = engine.run.spec.tracking
    if not tracking.enabled:
        return Check("tracking", ok=True, text="switched off")
    parts = urlsplit(tracking.address(engine.run.folder.parent))
    if parts.scheme not in {"http", "https"}:
        return Check("tracking", ok=True, text=f"MLflow in a {parts.scheme.partition('+')[0]} database")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=3).close()
    except OSError as error:
        text = f"tracking.uri: {parts.hostname}:{port} does not answer ({error})"
        return Check("tracking", None, text, "start the server; until then events are kept and replayed")
    return Check("tracking", ok=True, text=f"{parts.hostname}:{port} answers")


def _strategy(engine: Engine) -> list[Check]:
    """Whether the budget, the objectives and the strategy fit together."""
    spec = engine.run.spec
    limit = (
        "no limit: set budget.limit_usd"
        if spec.budget.limit_usd is None
        else f"{spec.budget.limit_usd:g} USD"
    )
    priced = spec.launcher.usd_per_hour > 0
    if spec.budget.limit_usd is not None and not priced:
        cure = "set launcher.usd_per_hour to the price of an hour of a worker"
        return [Check("budget", None, f"a limit of {limit}, but launcher.usd_per_hour is 0", cure)]
    goals = ", ".join(
        f"{o.metric} {o.goal.value}d from {o.reference:g}"
        + (f" within {o.limit:g}" if o.limit is not None else "")
        for o in spec.goals()
    )
    return [Check("budget", ok=True, text=limit), Check("success criteria", ok=True, text=goals)]


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
