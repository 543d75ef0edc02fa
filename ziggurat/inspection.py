"""What the preflight finds out about data, space, trainer, devices and limits, inside a worker.

Every finding is a check with a name, a verdict, what was found and what to do about it. Nothing is trained
beyond a few batches.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ziggurat import choices
from ziggurat.contexts import rng_for
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.events import to_plain
from ziggurat.latency import METRIC
from ziggurat.scripted import script_of
from ziggurat.spaces import TableSpace
from ziggurat.spec import Spec

if TYPE_CHECKING:
    from ziggurat.jobs import Desk
    from ziggurat.protocols import Signature
    from ziggurat.tables import Table
    from ziggurat.trainers import AnyTrainer

SAMPLES = 1000
BUILDS = 12
TIMED = 5
QUARTILE = 0.75
MEASURED_SAMPLES = 8
SHOWN = 12


@dataclass(frozen=True)
class Check:
    """One line of the preflight; `ok` is None for what is only a warning."""

    name: str
    ok: bool | None
    text: str
    cure: str = ""


@dataclass
class Findings:
    """Everything an inspection found."""

    checks: list[Check] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    probes: list[Any] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, cure: str = "") -> Iterator[None]:
        """Turn an error of a block into a failed check; our own errors say themselves what to do."""
        try:
            yield
        except ZigguratError as error:
            self.checks.append(Check(name, ok=False, text=str(error)))
        except Exception as error:  # noqa: BLE001 - a failed check is a value
            print(f"inspection of {name}: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 - the log
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self.checks.append(Check(name, ok=False, text=text, cure=cure))

    def good(self, name: str, text: str) -> None:
        """Add a passed check."""
        self.checks.append(Check(name, ok=True, text=text))

    @property
    def failed(self) -> bool:
        """Whether a check has failed."""
        return any(c.ok is False for c in self.checks)


def inspect(desk: Desk, probes: int) -> dict[str, Any]:
    """Inspect everything and return checks, facts and feasible candidates for probing as plain JSON."""
    found = Findings()
    if isinstance(desk.spec.space, TableSpace):
        with found.step("space"):
            _table(desk.spec, desk.spec.space.table, found)
        return _plain(found)
    if script_of(desk.spec) is not None:
        from ziggurat.script_checks import inspect_script

        inspect_script(desk, found, probes)
        return _plain(found)
    with found.step("data", "see the keys under data: and `ziggurat schema`"):
        _data(desk, found)
    if not found.failed:
        with found.step("space"):
            _space(desk, found)
    trainers = {"search.trainer": desk.spec.search.trainer, "retrain.trainer": desk.spec.retrain.trainer}
    for key, trainer in trainers.items():
        if trainer is not None:
            with found.step(key):
                check_trainer(key, trainer)
                found.good(key, "optimiser and schedule can be used")
    check_devices(desk, found)
    if not found.failed:
        with found.step("devices"):
            check_measurable(desk, found)
    if not found.failed:
        with found.step("limits"):
            check_limits(desk, found, probes)
    return _plain(found)


def check_devices(desk: Desk, found: Findings) -> None:
    """Check that the devices of this machine are there, and that latency tables can be used."""
    for device in (d for d in desk.spec.devices if d.launcher is None):
        with found.step("devices"):
            device.check()
            found.good("devices", f"{device.name} is present: {device.describe()}")
    if found.failed:
        return
    for device in (d for d in desk.spec.devices if d.table is not None):
        with found.step("latency table"):
            told = desk.bench.tables[device.name].told(time.time())
            found.good("latency table", f"{device.table} for device '{device.name}': {told}")


def _plain(found: Findings) -> dict[str, Any]:
    return {"checks": [asdict(c) for c in found.checks], "facts": found.facts, "probes": found.probes}


def _table(spec: Spec, table: Table, found: Findings) -> None:
    """Check a table: the ladder's epochs are in it, and some row keeps all limits that are known of it."""
    lacking = [f.epochs for f in spec.ladder() if f.epochs not in table.scores]
    if lacking:
        known = ", ".join(str(e) for e in list(table.scores)[:SHOWN])
        raise SpecError(f"fidelities: epochs {lacking[0]} is not in the table; it has {known}")
    for o in spec.goals():
        values = table.static.get(o.metric)
        if o.limit is not None and values is not None and all(o.breaks_limit(float(v)) for v in values):
            raise SpecError(f"objectives: no row keeps the limit of {o.limit:g} on {o.metric}; raise it")
    found.facts["epoch_s"] = table.unit_s / table.top
    found.good("space", f"a table of {len(table.rows)} measured candidates")


def check_trainer(key: str, trainer: AnyTrainer) -> None:
    """Check a trainer; its errors name its keys without knowing under which key it stands itself."""
    try:
        trainer.check()
    except SpecError as error:
        raise SpecError(re.sub(r"\btrainer\.", f"{key}.", str(error))) from None


def _data(desk: Desk, found: Findings) -> None:
    from ziggurat.datasets import chance

    data = desk.data
    found.facts |= {
        "classes": data.signature.classes,
        "train": len(data.train_y),
        "validation": len(data.validation_y),
        "fingerprint": desk.spec.data.fingerprint(),
    }
    found.facts |= {f"chance.{name}": value for name, value in chance(data).items()}
    shape = "x".join(str(n) for n in data.signature.shape)
    found.good(
        "data",
        f"{len(data.train_y)} training and {len(data.validation_y)} validation examples of shape {shape}, "
        f"{data.signature.classes} classes, test part sealed",
    )


def _space(desk: Desk, found: Findings) -> None:
    """Build some candidates and push a batch through them, forward and backward."""
    desk.spec.space.check(desk.signature)
    notes: Callable[[Signature], list[str]] = getattr(desk.spec.space, "notes", lambda _: [])
    for text in notes(desk.signature):
        found.good("space", text)
    rng = rng_for(desk.spec, "preflight", 0)
    declared = desk.spec.space.choices()
    errors: list[str] = []
    seconds: list[float] = []
    for index in range(BUILDS):
        candidate = choices.sample(declared, rng)
        try:
            seconds.append(_epoch_seconds(desk, candidate, timed=index < TIMED))
        except ZigguratError as error:
            errors.append(str(error))
        except Exception as error:  # noqa: BLE001 - counted and shown
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            errors.append(
                f"{text}; take {desk.signature.shape} and give {desk.signature.classes} numbers an example"
            )
    if len(errors) > BUILDS // 2:
        raise ZigguratError(
            f"space: {len(errors)} of {BUILDS} sampled candidates fail, the last one: {errors[-1]}"
        )
    found.facts["epoch_s"] = float(np.quantile(seconds[:TIMED], QUARTILE))
    text = f"{BUILDS - len(errors)} of {BUILDS} sampled candidates can be built and trained"
    verdict = True if not errors else None
    found.checks.append(Check("space", verdict, text + (f"; {errors[-1]}" if errors else "")))


def _epoch_seconds(desk: Desk, candidate: Candidate, *, timed: bool) -> float:
    """Seconds of an epoch on the whole training part, from a few batches."""
    import torch
    from torch.nn.functional import cross_entropy

    data = desk.data
    size = candidate.choices.get("batch_size", 64)
    batch = min(int(size) if isinstance(size, (int, float)) else 64, len(data.train_y))
    model = desk.build(candidate, 0).train()
    x, y = data.train_x[:batch], data.train_y[:batch]
    best = float("inf")
    for _ in range(4 if timed else 1):
        began = time.perf_counter()
        loss = cross_entropy(model(x), y)
        loss.backward()
        best = min(best, time.perf_counter() - began)
    if not bool(torch.isfinite(loss)):
        raise ZigguratError("the loss of the first batch is not finite; check how the model is initialised")
    # optimiser, metrics and the trainer's own work are about as much again for small models
    return 2.0 * best * max(1.0, len(data.train_y) / batch) + 0.02


def check_measurable(desk: Desk, found: Findings) -> None:
    """Measure a candidate, if objectives need that: an operation or a metric may be beyond the device."""
    device = desk.spec.devices[0]
    if device.launcher is not None or not set(desk.spec.inputs()) & set(desk.spec.metrics.measured):
        return
    from ziggurat.profilers.sampling import verdict

    rng = rng_for(desk.spec, "preflight", 2)
    sampled = (choices.sample(desk.spec.space.choices(), rng) for _ in range(BUILDS))
    candidate = next((c for c in sampled if desk.static(c)), None)
    if candidate is None:
        return
    measured = desk.bench.profile(desk.build(candidate, 0), candidate, device.name)
    text = f"{device.name}: {verdict(measured, device)}"
    found.checks.append(Check("devices", None if device.noisy(measured) else True, text))


def check_limits(desk: Desk, found: Findings, probes: int) -> None:
    """Find candidates within the limits on static metrics; fail if none of many is."""
    limited = [o for o in desk.spec.goals() if o.limit is not None]
    predicted = [METRIC] if desk.spec.devices[0].table is not None else []
    known_of = desk.spec.metrics
    static = [o for o in limited if o.metric in (*known_of.static, *predicted)]
    measured = [o for o in limited if o.metric in known_of.measured and o.metric not in predicted]
    rng = rng_for(desk.spec, "preflight", 1)
    declared = desk.spec.space.choices()
    wanted = SAMPLES if static or measured else 4 * probes
    pool = {c.key: c for c in (choices.sample(declared, rng) for _ in range(wanted))}
    fits = list(pool.values())
    for o in static:
        # predictions alone take a fraction of the time of all that is known without training
        known = desk.bench.predicted if o.metric in predicted else desk.static
        values = [next((m.value for m in known(c) if m.metric == o.metric), float("nan")) for c in fits]
        kept = [c for c, v in zip(fits, values, strict=True) if not o.breaks_limit(v)]
        if not kept:
            raise ZigguratError(
                f"objectives: none of {SAMPLES} sampled candidates keeps the limit {o.metric} {o.limit:.6g} "
                f"(they range from {np.nanmin(values):.6g} to {np.nanmax(values):.6g}); "
                "raise the limit or widen the space"
            )
        fits = kept
    script = script_of(desk.spec)
    here = desk.spec.devices[0].launcher is None and (script is None or script.profile_by is None)
    for o in measured if here else []:
        _measured_limit(desk, o.metric, o.breaks_limit, o.limit or 0.0, fits)
    if limited:
        share = len(fits) / max(1, len(pool))
        found.facts["feasible_share"] = share
        found.good(
            "limits", f"{share:.0%} of {len(pool)} sampled candidates keep the limits that need no training"
        )
    found.probes = [{"candidate": to_plain(c), "static": to_plain(desk.static(c))} for c in fits[:probes]]


def _measured_limit(
    desk: Desk, metric: str, breaks: Callable[[float], bool], limit: float, fits: list[Candidate]
) -> None:
    """Measure the candidates with the fewest FLOPs; fail if even these break the limit."""
    import torch

    def flops(candidate: Candidate) -> float:
        return next((m.value for m in desk.static(candidate) if m.metric == "flops"), float("inf"))

    device = desk.spec.devices[0]
    best = float("inf")
    for candidate in sorted(fits, key=flops)[:MEASURED_SAMPLES]:
        example = torch.zeros(1, *desk.signature.shape)
        measurements = device.profile(desk.build(candidate, 0), example, candidate)
        value = next((m.value for m in measurements if m.metric == metric), float("nan"))
        best = min(best, value)
        if not breaks(value):
            return
    raise ZigguratError(
        f"objectives: none of {SAMPLES} sampled candidates keeps the limit {metric} {limit:.6g} "
        f"(the {MEASURED_SAMPLES} with the fewest FLOPs were measured, the best at {best:.6g}); "
        "raise the limit or widen the space"
    )
