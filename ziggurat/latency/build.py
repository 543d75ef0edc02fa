"""Building a latency table: every operation is measured alone, then some whole models for the fit.

An operation is measured as a model of its own, and what a model that does next to nothing takes is
subtracted: the call, the copy of the input. The difference of a chain of two and one alone would also be rid
of the change of layout at the borders of convolutions in ONNX Runtime; but it is noisier, and it predicted
whole models of inverted bottlenecks worse.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ziggurat import choices
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.latency.fit import FEWEST, Models, Overhead, Quality, fit, left_out, quality
from ziggurat.latency.part import Part
from ziggurat.latency.rounds import Round, Say, progress
from ziggurat.latency.subject import Subject
from ziggurat.latency.table import Entry, LatencyTable, Whole, decomposable, identity_of, settings_of
from ziggurat.operations import Operation
from ziggurat.protocols import FloatArray

DRAWN = 40
"""Candidates drawn for each model that is measured, so that the range of sums can be covered evenly."""
NOTHING = "nothing"
Task = Callable[[], Entry]


def build(subject: Subject, path: Path, models: int = 24, say: Say = progress) -> LatencyTable:
    """Measure whatever an earlier build has not, fit, and write the table.

    Args:
        subject: Device, space and data.
        path: File of the table; replaced when the new one is complete.
        models: Whole models for the fit.
        say: Told where it stands.

    Raises:
        SpecError: The space has no operations, something cannot be measured, or a file cannot be written.
    """
    space, signature = decomposable(subject.space), subject.signature
    operations = space.all_operations(signature)
    settings = settings_of(space, signature)
    table = LatencyTable(
        created_utc=time.time(),
        device=subject.device.name,
        fingerprint=dict(subject.device.fingerprint()),
        space=settings,
        identity=identity_of(settings),
        fixed_ms=0.0,
        entries={},
        overhead=Overhead(),
        quality=Quality(0, 0.0, 0.0, 0.0, 1.0),
        models=[],
    )
    with Part(path, {"identity": table.identity, "fingerprint": table.fingerprint}) as part:
        table = _measured(subject, table, operations, part, say)
        table = _fitted(subject, table, models, part, say)
        table.write(path)
        part.remove()
    return table


def _measured(
    subject: Subject, table: LatencyTable, operations: Sequence[Operation], part: Part, say: Say
) -> LatencyTable:
    """The table with all operations in it."""
    wanted: dict[str, Task] = {NOTHING: subject.nothing}
    wanted |= {o.key: partial(subject.operation, o) for o in operations}
    _round(subject, operations, "operations", wanted, say).measure(part, _rng(subject, 1))
    entries = {o.key: part.best(o.key) for o in operations}
    return replace(table, fixed_ms=part.best(NOTHING).p50_ms, entries=entries)


def _fitted(subject: Subject, table: LatencyTable, models: int, part: Part, say: Say) -> LatencyTable:
    """The table with what whole models taught."""
    chosen = spread_out(subject, table, models)
    operations = subject.space.all_operations(subject.signature)
    wanted: Mapping[str, Task] = {_name(c): partial(subject.candidate, c) for c in chosen}
    _round(subject, operations, "whole models", wanted, say).measure(part, _rng(subject, 2))
    measured = np.array([part.best(_name(c)).p50_ms for c in chosen])
    known = _models(subject, table, chosen, measured)
    predicted = left_out(known)
    rows = [
        Whole(dict(candidate.choices), float(took), float(said))
        for candidate, took, said in zip(chosen, measured, predicted, strict=True)
    ]
    found = quality(predicted, measured)
    return replace(table, created_utc=time.time(), overhead=fit(known), quality=found, models=rows)


def _models(
    subject: Subject, table: LatencyTable, chosen: Sequence[Candidate], measured: FloatArray
) -> Models:
    """Measured models as the fit wants them."""
    lists = [subject.space.operations(c, subject.signature) for c in chosen]
    kinds = tuple(dict.fromkeys(o.kind for operations in lists for o in operations))
    sums = np.zeros((len(chosen), len(kinds)))
    for row, operations in enumerate(lists):
        for o in operations:
            sums[row, kinds.index(o.kind)] += table.net_ms(o)
    return Models(kinds, sums, np.array([float(len(o)) for o in lists]), measured)


def _round(
    subject: Subject, operations: Sequence[Operation], what: str, wanted: Mapping[str, Task], say: Say
) -> Round:
    # any operation tells the state of the machine; one from the middle is neither tiny nor huge as a rule
    reference = partial(subject.operation, operations[len(operations) // 2])
    return Round(what, wanted, reference, subject.noisy, say)


def _name(candidate: Candidate) -> str:
    return f"model {candidate.key}"


def _rng(subject: Subject, purpose: int) -> np.random.Generator:
    return np.random.default_rng([subject.seed, purpose])


def spread_out(
    subject: Subject, table: LatencyTable, count: int, without: Collection[tuple[Operation, ...]] = ()
) -> list[Candidate]:
    """Different models whose predicted latencies cover the range of many draws evenly on a logarithmic scale.

    Args:
        subject: The seed decides the draws.
        table: Predicts.
        count: How many models.
        without: Models, as their operations, that are left out.

    Raises:
        SpecError: The space does not have so many.
    """
    rng, declared, space = _rng(subject, 3), subject.space.choices(), subject.space
    pool: dict[tuple[Operation, ...], Candidate] = {}
    for _ in range(DRAWN * count):
        candidate = choices.sample(declared, rng)
        pool.setdefault(space.operations(candidate, subject.signature), candidate)
    drawn = [candidate for operations, candidate in pool.items() if operations not in without]
    if len(drawn) < count:
        raise SpecError(
            f"only {len(drawn)} different models were drawn from the space, {count} are wanted; "
            "ask for fewer (--models, --count) or widen the space"
        )
    values, _ = table.predict(space, drawn, subject.signature)
    values = np.maximum(values, 1e-9)
    free = np.ones(len(drawn), dtype=bool)
    picked = []
    for mark in np.geomspace(values.min(), values.max(), count):
        away = np.where(free, np.abs(np.log(values / mark)), np.inf)
        picked.append(int(away.argmin()))
        free[picked[-1]] = False
    return [drawn[i] for i in picked]


def least(models: int) -> int:
    """The number of models for a fit, if it is enough.

    Raises:
        SpecError: It is not.
    """
    if models < FEWEST:
        raise SpecError(f"--models is {models}, but a fit needs at least {FEWEST}; ask for more")
    return models
