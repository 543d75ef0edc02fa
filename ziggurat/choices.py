"""Choices of a search space and everything that is done with them, written once for all spaces.

A choice is declared in YAML in the shapes people know: `values:`, or `min/max` with `log` and `step`,
and `when:` for a choice that exists only if others have certain values. A point of the unit cube has one
coordinate for each choice, conditional ones included, in the order of declaration; a `Candidate` holds the
active choices only, so two points that differ in inactive coordinates are one candidate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    model_validator,
)

from ziggurat.domain import Candidate, Value
from ziggurat.setting import Setting

FloatArray = npt.NDArray[np.float64]
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr


class Between(Setting):
    """A condition on a number: it lies between two bounds, both included."""

    min: float | None = None
    max: float | None = None

    def holds(self, value: Value) -> bool:
        """Whether a value is a number within the bounds."""
        if isinstance(value, (bool, str)):
            return False
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        return low <= value <= high


When = dict[str, Scalar | list[Scalar] | Between]
"""Other choices by name, each with the value, the values or the bounds under which this choice exists."""


class Values(Setting):
    """One of some listed values; numbers in growing order count as ordered."""

    values: list[Scalar] = Field(min_length=1)
    when: When = Field(default_factory=dict)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({(type(v), v) for v in self.values}) != len(self.values):
            raise ValueError(f"values {self.values} repeat; list each value once")
        return self

    @property
    def ordered(self) -> bool:
        """Whether neighbours in the list are neighbours in meaning."""
        numbers = [v for v in self.values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        return len(numbers) == len(self.values) and numbers == sorted(numbers)

    @property
    def size(self) -> float:
        """How many different values it can take."""
        return len(self.values)

    def at(self, unit: float) -> Value:
        """The value at a coordinate of the unit interval."""
        return self.values[min(int(unit * len(self.values)), len(self.values) - 1)]

    def unit(self, value: Value) -> float:
        """The coordinate of a value: the middle of its share of the unit interval."""
        return (self.values.index(value) + 0.5) / len(self.values)


class Range(Setting):
    """A number between two bounds, both included; whole if both bounds and the step are whole."""

    min: StrictInt | StrictFloat
    max: StrictInt | StrictFloat
    log: bool = False
    step: StrictInt | StrictFloat | None = Field(default=None, gt=0)
    when: When = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.min >= self.max:
            raise ValueError(f"min {self.min} must be below max {self.max}")
        if self.log and self.min <= 0:
            raise ValueError(f"min {self.min} must be above 0 for a logarithmic range")
        if self.step is not None and self.step > self.max - self.min:
            raise ValueError(f"step {self.step} must be at most max - min = {self.max - self.min}")
        return self

    @property
    def ordered(self) -> bool:
        """A range is ordered."""
        return True

    @property
    def whole(self) -> bool:
        """Whether its values are integers."""
        return all(isinstance(v, int) for v in (self.min, self.max, self.step or 1))

    @property
    def _pace(self) -> float | None:
        return 1 if self.step is None and self.whole else self.step

    @property
    def size(self) -> float:
        """How many different values it can take; infinite for a continuous range."""
        pace = self._pace
        return math.inf if pace is None else math.floor((self.max - self.min) / pace + 1e-9) + 1

    def at(self, unit: float) -> Value:
        """The value at a coordinate of the unit interval."""
        pace = self._pace
        low, high = float(self.min), float(self.max)
        if pace is not None:
            # every step gets an equal share, so that the bounds are as likely as the rest
            low, high = low - pace / 2, low + (self.size - 0.5) * pace
        if self.log:
            low = max(low, float(self.min) / 2)
            value = math.exp(math.log(low) + unit * (math.log(high) - math.log(low)))
        else:
            value = low + unit * (high - low)
        if pace is not None:
            value = self.min + round((value - self.min) / pace) * pace
        value = min(max(value, self.min), self.min + (self.size - 1) * pace if pace else self.max)
        return round(value) if self.whole else float(f"{value:.12g}")

    def unit(self, value: Value) -> float:
        """The coordinate of a value in the unit interval."""
        pace = self._pace
        low, high, x = float(self.min), float(self.max), float(value)
        if pace is not None:
            low, high = low - pace / 2, low + (self.size - 0.5) * pace
        if self.log:
            low = max(low, float(self.min) / 2)
            low, high, x = math.log(low), math.log(high), math.log(max(x, low))
        return min(max((x - low) / (high - low), 0.0), 1.0)


def _shape(raw: object) -> str:
    if isinstance(raw, (Values, Range)):
        return "values" if isinstance(raw, Values) else "range"
    return "range" if isinstance(raw, Mapping) and "values" not in raw else "values"


def _listed(raw: object) -> object:
    """A bare list or a single value is short for `values:`."""
    if isinstance(raw, list):
        return {"values": raw}
    if isinstance(raw, (bool, int, float, str)):
        return {"values": [raw]}
    return raw


Choice = Annotated[
    Annotated[Values, Tag("values")] | Annotated[Range, Tag("range")],
    Discriminator(_shape),
    BeforeValidator(_listed, json_schema_input_type=Values | Range | list[Scalar] | Scalar),
]
Choices = Mapping[str, Values | Range]
"""Choices by name, in the order of declaration; a condition may refer to earlier names only."""


def check(choices: Choices) -> None:
    """Hold a declaration against its rules.

    Raises:
        ValueError: There is no choice, or a condition names a choice that is not declared before.
    """
    if not choices:
        raise ValueError("the space is empty; declare at least one choice")
    before: set[str] = set()
    for name, choice in choices.items():
        for other in choice.when:
            if other not in before:
                raise ValueError(
                    f"choice '{name}' depends on '{other}', which is not declared before it; "
                    f"declared before: {', '.join(sorted(before)) or 'nothing'}"
                )
        before.add(name)


def active(choice: Values | Range, chosen: Mapping[str, Value]) -> bool:
    """Whether a choice exists, given the values chosen before it."""
    for name, wanted in choice.when.items():
        if name not in chosen:
            return False
        value = chosen[name]
        if isinstance(wanted, Between):
            if not wanted.holds(value):
                return False
        elif value not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


def from_unit(choices: Choices, point: Sequence[float] | FloatArray) -> Candidate:
    """The candidate at a point of the unit cube, shape (number of choices,)."""
    chosen: dict[str, Value] = {}
    for (name, choice), unit in zip(choices.items(), point, strict=True):
        if active(choice, chosen):
            chosen[name] = choice.at(float(unit))
    return Candidate(chosen)


def to_unit(choices: Choices, candidate: Candidate) -> FloatArray:
    """A point of the unit cube for a candidate; inactive choices lie at 0.5."""
    return np.array(
        [
            choice.unit(candidate.choices[name]) if name in candidate.choices else 0.5
            for name, choice in choices.items()
        ]
    )


def contains(choices: Choices, candidate: Candidate) -> bool:
    """Whether a candidate consists of exactly the active choices, each at an allowed value."""
    chosen: dict[str, Value] = {}
    for name, choice in choices.items():
        if not active(choice, chosen):
            continue
        if name not in candidate.choices or not _allows(choice, candidate.choices[name]):
            return False
        chosen[name] = candidate.choices[name]
    return len(chosen) == len(candidate.choices)


def _allows(choice: Values | Range, value: Value) -> bool:
    if isinstance(choice, Values):
        return any(value == v and type(value) is type(v) for v in choice.values)
    if isinstance(value, (bool, str)) or not choice.min <= value <= choice.max:
        return False
    return math.isclose(float(choice.at(choice.unit(value))), float(value), rel_tol=1e-6)


def sample(choices: Choices, rng: np.random.Generator) -> Candidate:
    """A candidate drawn uniformly from the unit cube."""
    return from_unit(choices, rng.random(len(choices)))


def complete(choices: Choices, wanted: Mapping[str, Value], rng: np.random.Generator) -> Candidate:
    """The candidate with the wanted values where they are active, and drawn values where one is missing."""
    chosen: dict[str, Value] = {}
    for name, choice in choices.items():
        if active(choice, chosen):
            chosen[name] = wanted[name] if name in wanted else choice.at(rng.random())
    return Candidate(chosen)


def mutate(choices: Choices, candidate: Candidate, rng: np.random.Generator) -> Candidate:
    """A candidate that differs in one active choice.

    Ordered choices move to a near value half of the time and anywhere otherwise. Choices that become active
    by the change are drawn. The candidate itself comes back only if no choice can be changed.
    """
    names = [n for n in candidate.choices if choices[n].size > 1]
    if not names:
        return candidate
    name = str(rng.choice(names))
    choice, old = choices[name], candidate.choices[name]
    unit = choice.unit(old)
    new = old
    for _ in range(100):
        near = choice.ordered and rng.random() < 0.5
        reach = max(0.1, 1.5 / choice.size)
        draw = unit + rng.normal(0, reach) if near else rng.random()
        new = choice.at(min(max(draw, 0.0), 1.0 - 1e-12))
        if new != old:
            break
    return complete(choices, {**candidate.choices, name: new}, rng)


def crossover(choices: Choices, first: Candidate, second: Candidate, rng: np.random.Generator) -> Candidate:
    """A candidate that takes every choice from one of two parents, uniformly; missing ones are drawn."""
    wanted: dict[str, Value] = {}
    for name in choices:
        order = (first, second) if rng.random() < 0.5 else (second, first)
        for parent in order:
            if name in parent.choices:
                wanted[name] = parent.choices[name]
                break
    return complete(choices, wanted, rng)


def distance(choices: Choices, first: Candidate, second: Candidate) -> int:
    """Edit distance: the number of choices in which two candidates differ, existence included."""
    missing = object()
    return sum(first.choices.get(name, missing) != second.choices.get(name, missing) for name in choices)


def encode(choices: Choices, candidates: Sequence[Candidate]) -> FloatArray:
    """Features for a model, shape (len(candidates), features), all within [0, 1].

    An ordered choice gives its unit coordinate, an unordered one a column for each value, and a conditional
    one a further column that says whether it is active.
    """
    rows = [[x for name in choices for x in _features(choices[name], name, c)] for c in candidates]
    return np.array(rows, dtype=float).reshape(len(candidates), -1)


def _features(choice: Values | Range, name: str, candidate: Candidate) -> list[float]:
    here = name in candidate.choices
    flag = [float(here)] if choice.when else []
    if choice.ordered or not isinstance(choice, Values):
        return [choice.unit(candidate.choices[name]) if here else 0.5, *flag]
    return [float(here and candidate.choices[name] == v) for v in choice.values] + flag


def count(choices: Choices, at_most: int = 1_000_000) -> float:
    """How many different candidates there are; infinite if a choice is continuous or beyond `at_most`."""
    if any(math.isinf(c.size) for c in choices.values()):
        return math.inf
    needed = {other for c in choices.values() for other in c.when}
    free, partial = 1.0, [dict[str, Value]()]
    for name, choice in choices.items():
        if name not in needed and not choice.when:
            free *= choice.size
            continue
        if sum(choice.size if active(choice, p) else 1 for p in partial) * free > at_most:
            return math.inf
        partial = [extended for p in partial for extended in _extensions(name, choice, p)]
    return len(partial) * free


def _extensions(name: str, choice: Values | Range, chosen: dict[str, Value]) -> list[dict[str, Value]]:
    """All ways to go on from some chosen values by one more choice."""
    if not active(choice, chosen):
        return [chosen]
    return [{**chosen, name: choice.at((i + 0.5) / choice.size)} for i in range(int(choice.size))]
