"""Runs side by side, as plain numbers: what each found for which money, and which one is best.

All runs are measured by one yardstick: the loosest reference and the tightest limit that any of them has.
Runs whose specs differ in nothing but seed and name stand together, and are told by their median and range.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ziggurat.analysis import curves
from ziggurat.analysis.curves import CostPerPoint, Curve
from ziggurat.domain import Objective, Trial
from ziggurat.errors import SpecError
from ziggurat.report import compare_specs, summary
from ziggurat.report.words import ABSENT

if TYPE_CHECKING:
    from ziggurat.history import History
    from ziggurat.spec import Spec


@dataclass(frozen=True)
class Looked:
    """A run as it was read."""

    where: str
    spec: Spec
    history: History


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes:
        label: Unique among the runs.
        run_id: Its identity.
        seed: Of its spec.
        status: How it stands.
        trials: Search trials, those rejected before launch left out.
        curve: What the search had reached by which cost, by the common yardstick.
        points: What a point of accuracy cost; None without an answer.
        front: The front by the common limits, best first.
        total_usd: What the whole run cost.
    """

    label: str
    run_id: str
    seed: int
    status: str
    trials: int
    curve: Curve
    points: CostPerPoint | None
    front: tuple[Trial, ...]
    total_usd: float

    @property
    def volume(self) -> float:
        """Hypervolume in the end."""
        return self.curve.hypervolume[-1] if self.curve.hypervolume else 0.0

    @property
    def best(self) -> float:
        """Best value in the end; NaN without an answer."""
        return self.curve.best[-1] if self.curve.best else math.nan


@dataclass(frozen=True)
class Spread:
    """Median and range over the seeds of a group."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of some values, those that are no numbers left out; NaN without any."""
        found = [v for v in values if math.isfinite(v)] or [math.nan]
        return cls(statistics.median(found), min(found), max(found))


@dataclass(frozen=True)
class Group:
    """Runs whose specs differ in seed and name alone.

    Attributes:
        label: What tells the group from the others.
        strategy: Searcher and stopper, or the joint strategy.
        entries: Its runs, by seed.
        volume: Hypervolume at the cost at which all runs can be compared.
        best: Best value there.
    """

    label: str
    strategy: str
    entries: tuple[Entry, ...]
    volume: Spread
    best: Spread

    def spread(self, value: Callable[[Entry], float]) -> Spread:
        """Median and range of something over the runs."""
        return Spread.of([value(e) for e in self.entries])


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        objectives: With the common references and limits.
        units: Unit of each objective, by metric.
        metric: Whose best value is followed.
        priced: Whether costs are US dollars; else worker seconds.
        groups: The largest hypervolume first.
        equal_cost: What the cheapest run cost in all: there all runs can be compared.
        differences: Keys of the specs in which groups differ, with the value of each.
        notes: What must be known to read it, in sentences.
        names: Of the specs.
    """

    objectives: tuple[Objective, ...]
    units: Mapping[str, str]
    metric: str
    priced: bool
    groups: tuple[Group, ...]
    equal_cost: float
    differences: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def entries(self) -> list[Entry]:
        """All runs."""
        return [e for g in self.groups for e in g.entries]

    @property
    def leader(self) -> Group | None:
        """The group that is ahead at equal cost; None without any answer."""
        ahead = max(self.groups, key=lambda g: g.volume.median)
        return ahead if ahead.volume.median > 0 else None

    @property
    def second(self) -> Group | None:
        """The group behind the leader at equal cost."""
        others = [g for g in self.groups if g is not self.leader]
        return max(others, key=lambda g: g.volume.median) if others else None


def compare(looked: Sequence[Looked]) -> Comparison:
    """The comparison of at least two runs of the same objectives on the same data.

    Raises:
        SpecError: They cannot be compared.
    """
    _same(looked)
    objectives, notes = yardstick(looked)
    names = _labels(looked)
    entries = [_entry(one, objectives, name) for one, name in zip(looked, names, strict=True)]
    priced = all(e.curve.priced for e in entries if e.curve.seconds)
    if not priced:
        entries = [replace(e, curve=_unpriced(e.curve)) for e in entries]
    equal_cost = min((e.curve.total for e in entries if e.curve.total > 0), default=0.0)
    groups = _groups(looked, entries, equal_cost)
    metric = next((e.curve.metric for e in entries if e.curve.metric), objectives[0].metric)
    units: dict[str, str] = {}
    for one in looked:
        units |= summary.units(objectives, one.history)
    return Comparison(
        objectives=objectives,
        units=units,
        metric=metric,
        priced=priced,
        groups=tuple(groups),
        equal_cost=equal_cost,
        differences=differences(looked, groups),
        notes=(*notes, *_cautions(groups, entries, priced=priced)),
        names=tuple(dict.fromkeys(one.spec.name for one in looked)),
    )


def _same(looked: Sequence[Looked]) -> None:
    """Hold runs against what a comparison needs.

    Raises:
        SpecError: There are too few, one twice, or they differ in objectives or data.
    """
    if len(looked) < 2:  # noqa: PLR2004 - a comparison
        raise SpecError("--compare needs two runs or more; name further run directories or URLs")
    first = looked[0]
    for index, other in enumerate(looked):
        if any(other.history.run_id == one.history.run_id for one in looked[:index]):
            raise SpecError(f"{other.where}: given twice; name each run once")
        aims = [[f"{o.metric} ({o.goal})" for o in one.spec.goals()] for one in (first, other)]
        if sorted(aims[0]) != sorted(aims[1]):
            raise SpecError(
                f"{other.where}: has the objectives {', '.join(aims[1])}, but {first.where} has "
                f"{', '.join(aims[0])}; compare runs of the same objectives"
            )
        data = compare_specs.data(first.spec), compare_specs.data(other.spec)
        if data[0] != data[1]:
            raise SpecError(
                f"{other.where}: searches other data than {first.where} ({compare_specs.difference(*data)}); "
                "compare runs on the same data"
            )


def yardstick(looked: Sequence[Looked]) -> tuple[tuple[Objective, ...], list[str]]:
    """The objectives with the loosest reference and the tightest limit of all runs, and what that changes."""
    found, notes = [], []
    for objective in looked[0].spec.goals():
        same = [o for one in looked for o in one.spec.goals() if o.metric == objective.metric]
        reference = max((o.reference for o in same), key=objective.loss)
        limits = [o.limit for o in same if o.limit is not None]
        limit = min(limits, key=objective.loss) if limits else None
        found.append(replace(objective, reference=reference, limit=limit))
        if len({o.reference for o in same}) > 1:
            notes.append(
                f"The runs have different references for {objective.metric}; the loosest, {reference:g}, "
                "counts for all, so hypervolumes here differ from those of their own reports."
            )
        if len({o.limit for o in same}) > 1:
            notes.append(
                f"The runs have different limits for {objective.metric}; the tightest, {limit:g}, "
                "counts for all."
            )
    return tuple(found), notes


def _entry(one: Looked, objectives: tuple[Objective, ...], label: str) -> Entry:
    history = one.history
    counts = summary.count(history)
    return Entry(
        label=label,
        run_id=history.run_id,
        seed=one.spec.seed,
        status=str(summary.outcome(history)),
        trials=counts.total,
        curve=curves.curve(history, objectives, label),
        points=curves.cost_per_point(history, objectives),
        front=tuple(summary.front_of(summary.answers(history, objectives), objectives)),
        total_usd=history.spent_usd,
    )


def _unpriced(curve: Curve) -> Curve:
    """A curve along worker seconds, where some run has no price."""
    return replace(curve, total_usd=0.0, knee=curves.knee_of(curve.seconds, curve.hypervolume))


def _labels(looked: Sequence[Looked]) -> list[str]:
    """A unique name for each run: strategy and seed, or its identity."""
    names = [f"{compare_specs.strategy_of(one.spec)}, seed {one.spec.seed}" for one in looked]
    return [
        n if names.count(n) == 1 else f"{n}, {one.history.run_id[-8:]}"
        for n, one in zip(names, looked, strict=True)
    ]


def _groups(looked: Sequence[Looked], entries: Sequence[Entry], equal_cost: float) -> list[Group]:
    """Runs by their spec without its seed, the largest hypervolume first."""
    found: dict[str, list[tuple[Looked, Entry]]] = {}
    for one, entry in zip(looked, entries, strict=True):
        found.setdefault(compare_specs.core(one.spec), []).append((one, entry))
    specs = [part[0][0].spec for part in found.values()]
    groups = []
    for label, spec, part in zip(compare_specs.labels(specs), specs, found.values(), strict=True):
        mine = tuple(sorted((entry for _, entry in part), key=lambda e: e.seed))
        reached = [e.curve.at(equal_cost) for e in mine]
        volume, best = Spread.of([v for _, v in reached]), Spread.of([b for b, _ in reached])
        groups.append(Group(label, compare_specs.strategy_of(spec), mine, volume, best))
    return sorted(groups, key=lambda g: -g.spread(lambda e: e.volume).median)


def differences(looked: Sequence[Looked], groups: Sequence[Group]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Keys in which the specs of groups differ, with the value of each group, in their order."""
    by_id = {one.history.run_id: one.spec for one in looked}
    flat = [compare_specs.flat(by_id[g.entries[0].run_id]) for g in groups]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    rows = [(key, tuple(one.get(key, ABSENT) for one in flat)) for key in keys]
    return tuple(row for row in rows if len(set(row[1])) > 1)


def _cautions(groups: Sequence[Group], entries: Sequence[Entry], *, priced: bool) -> list[str]:
    notes = []
    if any(len(g.entries) == 1 for g in groups):
        notes.append("Where a strategy has one seed only, skill and luck cannot be told apart.")
    going = [e.label for e in entries if e.status not in {"completed", "stopped_by_budget"}]
    if going:
        notes.append(f"Not finished: {', '.join(going)}; they stand as they are now.")
    if not priced:
        notes.append("Not every run has a price, so worker time stands for cost.")
    return notes
