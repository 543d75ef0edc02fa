"""What the preflight finds out about a space of models: whether they can be built and trained, and what fits.

Sampled candidates and the smallest and the largest one are built and pushed through a batch, forward and
backward; the memory that the largest one takes is forecast from what its layers keep for the way back.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ziggurat import choices
from ziggurat.checks import Check, Findings
from ziggurat.contexts import rng_for
from ziggurat.domain import Candidate
from ziggurat.errors import ZigguratError
from ziggurat.launchers import Local
from ziggurat.protocols import Signature

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ziggurat.choices import Choices
    from ziggurat.jobs import Desk

BUILDS = 12
TIMED = 5
QUARTILE = 0.75
EXTREMES_S = 3.0
"""Seconds for looking for the smallest and the largest candidate."""
ENDS = (0.0, 1.0 - 1e-9)
SIZE = "flops"
"""What makes a candidate small or large."""
STATES = 4
"""Numbers kept for every parameter: itself, its gradient and two moments of the optimiser."""
LIBRARIES_MB = 400.0
"""What a process of torch takes before it trains anything."""
USUAL_BATCH = 64


def check_space(desk: Desk, found: Findings) -> None:
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
        except Exception as error:  # noqa: BLE001 - counted and shown
            errors.append(_said(desk, error))
    if len(errors) > BUILDS // 2:
        raise ZigguratError(
            f"space: {len(errors)} of {BUILDS} sampled candidates fail, the last one: {errors[-1]}"
        )
    found.facts["epoch_s"] = float(np.quantile(seconds[:TIMED], QUARTILE))
    found.facts["epochs_s"] = [round(s, 6) for s in seconds[:TIMED]]
    text = f"{BUILDS - len(errors)} of {BUILDS} sampled candidates can be built and trained"
    if errors:
        found.warn("space", f"{text}; {errors[-1]}", "leave out what cannot be built; it is tried and fails")
    else:
        found.good("space", text)


def _said(desk: Desk, error: Exception) -> str:
    if isinstance(error, ZigguratError):
        return str(error)
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return f"{text}; take {desk.signature.shape} and give {desk.signature.classes} numbers an example"


def _batch_of(candidate: Candidate, examples: int) -> int:
    size = candidate.choices.get("batch_size", USUAL_BATCH)
    return min(int(size) if isinstance(size, (int, float)) else USUAL_BATCH, examples)


def _epoch_seconds(desk: Desk, candidate: Candidate, *, timed: bool) -> float:
    """Seconds of an epoch on the whole training part, from a few batches."""
    import torch
    from torch.nn.functional import cross_entropy

    data = desk.data
    batch = _batch_of(candidate, len(data.train_y))
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


def check_resolutions(desk: Desk, found: Findings, resolutions: Sequence[float]) -> None:
    """Whether models take the smaller images that some rungs are trained on."""
    import torch

    from ziggurat.datasets import shrunk

    rng = rng_for(desk.spec, "preflight", 0)
    sampled = [choices.sample(desk.spec.space.choices(), rng) for _ in range(BUILDS if resolutions else 0)]
    few = replace(desk.data, train_x=desk.data.train_x[:2], validation_x=desk.data.validation_x[:2])
    for resolution in resolutions:
        x = shrunk(few, resolution).train_x
        edges = "x".join(str(n) for n in x.shape[2:])
        errors = []
        for candidate in sampled:
            try:
                with torch.no_grad():
                    desk.build(candidate, 0).eval()(x)
            except Exception as error:  # noqa: BLE001 - whatever a model of the user raises
                errors.append(" ".join(str(error).split())[:120])
        _judge_resolution(
            f"{BUILDS - len(errors)} of {BUILDS} sampled candidates take images of {edges}", errors, found
        )


def _judge_resolution(text: str, errors: Sequence[str], found: Findings) -> None:
    if not errors:
        found.good("space", text)
        return
    told = f"{text}, others fail ({errors[-1]})"
    cure = "raise resolution or leave it out; models must pool over all pixels, and not too often before"
    found.checks.append(Check("space", False if len(errors) > BUILDS // 2 else None, told, cure))


@dataclass(frozen=True)
class Extremes:
    """The smallest and the largest candidate that were found, and their sizes."""

    smallest: Candidate
    largest: Candidate
    least: float
    most: float


def extremes(
    declared: Choices, size: Callable[[Candidate], float], until: Callable[[], bool]
) -> tuple[Candidate, Candidate] | None:
    """About the smallest and the largest candidate: choice by choice, what makes it smaller or larger.

    Two rounds over all choices, so that what another choice has switched on gets its turn.

    Args:
        declared: Choices of the space.
        size: What is made small or large; NaN for what cannot be built.
        until: Whether there is no time left.
    """
    found = _climbed(declared, lambda c: -size(c), until), _climbed(declared, size, until)
    return None if any(math.isnan(size(c)) for c in found) else found


def _climbed(declared: Choices, worth: Callable[[Candidate], float], until: Callable[[], bool]) -> Candidate:
    point = [0.5] * len(declared)
    best, reached = choices.from_unit(declared, point), math.nan
    for index, choice in [*enumerate(declared.values())] * 2:
        values = ENDS if choice.ordered else [(i + 0.5) / choice.size for i in range(int(choice.size))]
        for unit in values:
            if until():
                return best
            moved = [*point[:index], unit, *point[index + 1 :]]
            tried = choices.from_unit(declared, moved)
            value = worth(tried)
            if value > reached or (math.isnan(reached) and not math.isnan(value)):
                best, reached, point = tried, value, moved
    return best


def check_extremes(desk: Desk, found: Findings) -> Extremes | None:
    """Build and try the smallest and the largest candidate."""

    def size(candidate: Candidate) -> float:
        return static_value(desk, candidate, SIZE)

    declared = desk.spec.space.choices()
    size(choices.from_unit(declared, [0.5] * len(declared)))  # the first look imports what all need
    deadline = time.monotonic() + EXTREMES_S
    ends = extremes(declared, size, lambda: time.monotonic() > deadline)
    if ends is None:
        return None
    reached = Extremes(*ends, size(ends[0]), size(ends[1]))
    for word, candidate in (("smallest", reached.smallest), ("largest", reached.largest)):
        try:
            _epoch_seconds(desk, candidate, timed=False)
        except Exception as error:  # noqa: BLE001 - told
            told = f"the {word} candidate fails ({shown(candidate)}): {_said(desk, error)}"
            found.warn("space", told, "narrow the choices; until then such candidates are tried and fail")
            return None
    told = f"the smallest ({reached.least:.3g} {SIZE}) and the largest ({reached.most:.3g}) can be trained"
    found.good("space", told)
    return reached


def shown(candidate: Candidate) -> str:
    """The choices of a candidate, in at most 120 characters."""
    return ", ".join(f"{k}={v}" for k, v in candidate.choices.items())[:120]


def check_memory(desk: Desk, found: Findings, reached: Extremes) -> None:
    """Hold what training the largest candidate takes against what a worker has."""
    needs = {word: need_mb(desk, c) for word, c in (("", reached.smallest), ("largest", reached.largest))}
    need = needs["largest"]
    found.facts["checkpoint_mb"] = round(12 * static_value(desk, reached.largest, "parameters") / 1e6, 3)
    found.facts["memory_mb"] = round(need, 1)
    have, where = room_mb(desk)
    if have is None:
        found.good("memory", f"the largest candidate takes about {need:,.0f} MB; {where}")
        return
    text = f"the largest candidate takes about {need:,.0f} MB of the {have:,.0f} MB of {where}"
    if need <= have:
        found.good("memory", text)
        return
    cure = "lower the largest choices or batch_size, or give a worker more memory"
    if needs[""] > have:
        text = f"even the smallest candidate takes about {needs['']:,.0f} MB of the {have:,.0f} MB of {where}"
    found.checks.append(Check("memory", False if needs[""] > have else None, text, cure))


def static_value(desk: Desk, candidate: Candidate, metric: str) -> float:
    """A static metric of a candidate; NaN where nobody knows."""
    return next((m.value for m in desk.static(candidate) if m.metric == metric), math.nan)


def need_mb(desk: Desk, candidate: Candidate) -> float:
    """What training a candidate with the largest batch keeps in memory at the same time, in MB."""
    data = desk.data
    declared = desk.spec.space.choices().get("batch_size")
    largest = declared.at(ENDS[1]) if declared is not None and declared.ordered else None
    batch = _batch_of(candidate, len(data.train_y))
    if largest is not None:
        batch = min(int(largest), len(data.train_y))
    few = min(2, len(data.train_y))
    model = desk.build(candidate, 0).train()
    kept = kept_bytes(model, data.train_x[:few]) * batch / few
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    examples = data.train_x.nbytes + data.validation_x.nbytes
    return (STATES * weights + kept + examples) / 1e6 + LIBRARIES_MB


def kept_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes that a model keeps of a batch for the way back, its own parameters aside.

    Everything that autograd saves is counted once for each piece of memory (torch.autograd.graph's
    `saved_tensors_hooks`); the model is left as it is but for running statistics.
    """
    import torch

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(x)
    return sum(kept.values()) + int(out.nbytes)


def room_mb(desk: Desk) -> tuple[float | None, str]:
    """What a worker of the search has in MB, and where; None where that is not known here."""
    import psutil
    import torch

    launcher, spec = desk.spec.launcher, desk.spec
    if not isinstance(launcher, Local):
        asked = getattr(launcher, "resources", None)
        given: int | None = getattr(asked, "memory_mb", None)
        if given is None or bool(getattr(asked, "gpus", False)):
            return None, "what a job has there is not known from here"
        return float(given), "launcher.resources.memory_mb"
    if torch.cuda.is_available():
        each = spec.search.workers / max(1, torch.cuda.device_count())
        total = torch.cuda.get_device_properties(0).total_memory / 1e6
        return total / max(1.0, each), f"a worker's part of {torch.cuda.get_device_name(0)}"
    if launcher.memory_limit_mb is not None:
        return launcher.memory_limit_mb, "launcher.memory_limit_mb"
    return psutil.virtual_memory().available / 1e6 / spec.search.workers, "a worker's part of this machine"
