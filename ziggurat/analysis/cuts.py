"""What may be left out of a space: values, and ends of ranges, that were tried and were hardly any good."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ziggurat.analysis.places import Place
from ziggurat.choices import Range, Values
from ziggurat.domain import Trial, Value

RATE = 0.05
MARGIN = 0.1
"""Share of an ordered choice that stays beyond the outermost good value, where it has so many values."""
DIGITS = 2


@dataclass(frozen=True)
class Cut:
    """Something that may be left out.

    Attributes:
        place: Of which key.
        side: A single value, or everything below or above a value that stays.
        value: The value that goes, or the new end.
        tries: Trials that had what goes.
        hits: How many of them are among the best.
        expected: How many would be, were they as good as all that had any value of the key.
        p: How likely so few hits are then; 1 where a good trial has what would go.
    """

    place: Place
    side: Literal["value", "below", "above"]
    value: Value
    tries: int
    hits: int
    expected: float
    p: float


@dataclass(frozen=True)
class Record:
    """What trials had of a key, each with all of its values, and whether they are among the best and good."""

    held: Sequence[Sequence[Value]]
    best: Sequence[bool]
    good: Sequence[bool]

    @classmethod
    def of(cls, place: Place, tried: Sequence[Trial], best: Collection[int], good: Collection[int]) -> Record:
        """Those trials for which the key exists; `best` and `good` are numbers of trials."""
        rows = [(h, t.number in best, t.number in good) for t in tried if (h := place.values(t.candidate))]
        return cls([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])

    def cut(
        self,
        place: Place,
        side: Literal["value", "below", "above"],
        value: Value,
        goes: Callable[[Value], bool],
    ) -> Cut:
        """The question whether what a rule describes can go."""
        has = [any(goes(v) for v in held) for held in self.held]
        tries = sum(has)
        hits = sum(h and b for h, b in zip(has, self.best, strict=True))
        clear = any(h and g for h, g in zip(has, self.good, strict=True))
        total, best = len(has), sum(self.best)
        p = 1.0 if clear or not tries else _luck(total, best, tries, hits)
        return Cut(place, side, value, tries, hits, tries * best / max(1, total), p)


def of(place: Place, tried: Sequence[Trial], best: Collection[int], good: Collection[int]) -> list[Cut]:
    """All questions about a key: one for each unordered value, two for what is ordered.

    Args:
        place: The key.
        tried: Trials that had their chance.
        best: Numbers of the best.
        good: Numbers of those whose values stay in any case, the best of the best.
    """
    choice, record = place.choice, Record.of(place, tried, best, good)
    if choice.size <= 1:
        return []
    if isinstance(choice, Values) and not choice.ordered:
        seen = {v for held in record.held for v in held}
        untried = [Cut(place, "value", v, 0, 0, 0.0, 1.0) for v in choice.values if v not in seen]
        return [
            *(record.cut(place, "value", v, partial(operator.eq, v)) for v in choice.values if v in seen),
            *untried,
        ]
    numbers = [float(v) for held, g in zip(record.held, record.good, strict=True) if g for v in held]
    if not numbers:
        return []
    low, high = _ends(choice, min(numbers), max(numbers))
    return [
        record.cut(place, "below", low, lambda v: float(v) < float(low)),
        record.cut(place, "above", high, lambda v: float(v) > float(high)),
    ]


def _luck(total: int, best: int, tries: int, hits: int) -> float:
    """Probability of so few hits: Fisher's exact test, one-sided."""
    from scipy.stats import hypergeom

    return float(hypergeom.cdf(hits, total, best, tries))


def _ends(choice: Values | Range, low: float, high: float) -> tuple[Value, Value]:
    """New ends of an ordered choice: the outermost good values, with a margin if it has many values."""
    if isinstance(choice, Values):
        numbers = [float(v) for v in choice.values]
        beyond = int(MARGIN * len(numbers))
        first_at = max(0, numbers.index(low) - beyond)
        last_at = min(len(numbers) - 1, numbers.index(high) + beyond)
        return choice.values[first_at], choice.values[last_at]
    margin = MARGIN if choice.size >= 1 / MARGIN else 0.0
    first = float(choice.at(max(0.0, choice.unit(low) - margin)))
    last = float(choice.at(min(1.0, choice.unit(high) + margin)))
    if math.isinf(choice.size):
        first, last = _rounded(first, down=True), _rounded(last, down=False)
    first = max(choice.min, min(first, low))
    last = min(float(choice.at(1.0)), max(last, high))
    return (round(first), round(last)) if choice.whole else (first, last)


def _rounded(value: float, *, down: bool) -> float:
    """A number to two digits, outwards."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1)
    steps = math.floor(value / unit) if down else math.ceil(value / unit)
    return float(f"{steps * unit:.12g}")


def significant(questions: Sequence[Cut]) -> list[Cut]:
    """What is no luck, the clearest first.

    Source: Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57, 289-300.
    """
    ordered = sorted(questions, key=lambda c: c.p)
    passing = [i for i, c in enumerate(ordered) if c.p <= RATE * (i + 1) / len(ordered)]
    return ordered[: passing[-1] + 1] if passing else []


def left(choice: Values | Range, cuts: Sequence[Cut]) -> Values | Range:
    """What stays of a choice."""
    gone = {c.value for c in cuts if c.side == "value"}
    low = next((float(c.value) for c in cuts if c.side == "below"), -math.inf)
    high = next((float(c.value) for c in cuts if c.side == "above"), math.inf)
    if isinstance(choice, Values):
        ordered = choice.ordered
        kept = [v for v in choice.values if v not in gone and (not ordered or low <= float(v) <= high)]
        return choice.model_copy(update={"values": kept})
    ends = [c.value for c in cuts if c.side == "below"], [c.value for c in cuts if c.side == "above"]
    first, last = (ends[0] or [choice.min])[0], (ends[1] or [choice.max])[0]
    if first == last:
        return Values(values=[first], when=choice.when)
    if choice.step is not None and float(last) - float(first) < 1.5 * choice.step:
        # rounded, two steps may lie closer than a step
        return Values(values=[first, last], when=choice.when)
    return Range(min=first, max=last, log=choice.log, step=choice.step, when=choice.when)


def allows(choice: Values | Range, value: Value) -> bool:
    """Whether a value is among what stays of a choice."""
    if isinstance(choice, Values):
        return any(value == v for v in choice.values)
    return not isinstance(value, str) and choice.min <= value <= choice.max


def words(cut: Cut, choice: Values | Range) -> str:
    """What is left out and why, in a sentence."""
    shown = _shown(cut.value)
    what = {
        "value": f"{cut.place.key}: without {shown}",
        "below": f"{cut.place.key}: from {shown} instead of {_shown(_end(choice, 0))}",
        "above": f"{cut.place.key}: up to {shown} instead of {_shown(_end(choice, -1))}",
    }[cut.side]
    where = "with" if cut.side == "value" else cut.side
    hits = "none is" if not cut.hits else "1 is" if cut.hits == 1 else f"{cut.hits} are"
    return (
        f"{what}; of the {cut.tries} trials {where} it, {hits} among the best quarter, "
        f"where {cut.expected:.3g} would be expected."
    )


def _end(choice: Values | Range, which: int) -> Value:
    if isinstance(choice, Values):
        return choice.values[which]
    return choice.min if which == 0 else choice.max


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
