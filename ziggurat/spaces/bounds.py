"""What the choices of the built-in spaces may be, checked when a spec is read, before any trial begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ziggurat import choices as choice_rules
from ziggurat.choices import Between, Choices, Range, Values
from ziggurat.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ziggurat.domain import Candidate, Value
    from ziggurat.operations import Operation
    from ziggurat.protocols import Signature

_IMAGE_DIMENSIONS = 3
ACTIVATION_NAMES = ("relu", "gelu", "tanh", "silu")
MOST_OPERATIONS = 50_000
"""Beyond these a space is not taken apart: no one could measure them."""


def default_hyperparameters() -> dict[str, Values | Range]:
    """Learning rate and batch size."""
    return {"learning_rate": Range(min=1e-4, max=1e-2, log=True), "batch_size": Values(values=[32, 64, 128])}


def whole(name: str, choice: Values | Range, low: int, high: int) -> None:
    """Hold a choice of integers against bounds, both included.

    Raises:
        ValueError: It can be something else.
    """
    if not all(
        isinstance(v, int) and not isinstance(v, bool) and low <= v <= high for v in _extremes(choice)
    ):
        raise ValueError(
            f"{name} can be {_shown(choice)}, allowed are integers from {low} to {high}; change it"
        )


def number(name: str, choice: Values | Range, low: float, high: float, *, open_low: bool = False) -> None:
    """Hold a choice of numbers against bounds: the upper one excluded, the lower one too if asked.

    Raises:
        ValueError: It can be something else.
    """
    for value in _extremes(choice):
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value < high
        if not good or (open_low and value == low):
            above = f"above {low:g}" if open_low else f"from {low:g}"
            below = "" if math.isinf(high) else f" and below {high:g}"
            raise ValueError(f"{name} can be {_shown(choice)}, allowed are numbers {above}{below}; change it")


def among(name: str, choice: Values | Range, allowed: Collection[Value]) -> None:
    """Hold a choice against a list.

    Raises:
        ValueError: It can be something else.
    """
    same = {(type(v), v) for v in allowed}
    if isinstance(choice, Range) or any((type(v), v) not in same for v in choice.values):
        words = ", ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in allowed)
        raise ValueError(f"{name} can be {_shown(choice)}, allowed are {words}; change it")


def unconditional(architecture: Choices) -> None:
    """Refuse conditions on choices that a built-in space needs for every candidate.

    Raises:
        ValueError: One has a condition.
    """
    for name, choice in architecture.items():
        if choice.when:
            raise ValueError(
                f"{name} has the condition {choice.when}, but every candidate needs it; remove 'when'"
            )


def hyperparameters(declared: Choices) -> None:
    """Hold hyperparameters of well-known names against their bounds; others are left to the trainer.

    Raises:
        ValueError: One can be something that no training can use.
    """
    rules: dict[str, Callable[[str, Values | Range], None]] = {
        "learning_rate": lambda name, choice: number(name, choice, 0, math.inf, open_low=True),
        "batch_size": lambda name, choice: whole(name, choice, 1, 1_000_000),
        "weight_decay": lambda name, choice: number(name, choice, 0, math.inf),
        "momentum": lambda name, choice: number(name, choice, 0, 1),
        "label_smoothing": lambda name, choice: number(name, choice, 0, 1),
    }
    for name, choice in declared.items():
        if name in rules:
            rules[name](f"hyperparameters.{name}", choice)


def joined(architecture: Choices, declared: Choices) -> dict[str, Values | Range]:
    """Choices of the architecture, then the hyperparameters.

    Raises:
        ValueError: A name is on both sides, or the declaration breaks the rules of `choices.check`.
    """
    both = [name for name in architecture if name in declared]
    if both:
        raise ValueError(
            f"'{both[0]}' is a choice of the architecture and a hyperparameter; rename or remove one of them"
        )
    together = {**architecture, **declared}
    choice_rules.check(together)
    return together


def repeated(
    name: str, choice: Values | Range, depth: Values | Range, of: str = "depth"
) -> dict[str, Values | Range]:
    """One choice for each level, `name_1`, `name_2`, ..., that exists if the depth `of` reaches the level."""
    levels = [int(v) for v in _extremes(depth)]
    return {
        f"{name}_{level}": choice
        if level <= min(levels)
        else choice.model_copy(update={"when": {**choice.when, of: Between(min=level)}})
        for level in range(1, max(levels) + 1)
    }


def options(name: str, choice: Values | Range) -> list[Value]:
    """All values that a choice can take, in order.

    Raises:
        ValueError: There is no end of them.
    """
    if isinstance(choice, Values):
        return list(choice.values)
    if math.isinf(choice.size):
        raise ValueError(
            f"{name} can be {_shown(choice)}, but must have listed values; list them or add a step"
        )
    pace = choice.step or 1
    # a logarithmic range has steps of unequal share, so its values are counted, not read off
    values = (choice.at(choice.unit(choice.min + i * pace)) for i in range(int(choice.size)))
    return list(dict.fromkeys(values))


def images(kind: str, signature: Signature) -> None:
    """Refuse data that are no images.

    Raises:
        SpecError: An example has no shape of (channels, height, width).
    """
    if len(signature.shape) != _IMAGE_DIMENSIONS:
        raise SpecError(
            f"space.kind is '{kind}', which needs data of shape (channels, height, width), but an example "
            f"has shape {signature.shape}; use space.kind mlp, or images (for digits: data.image: true)"
        )


def distinct(kind: str, operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Each operation of a space once, in order.

    Raises:
        SpecError: There are more than `MOST_OPERATIONS`.
    """
    found: dict[Operation, None] = {}
    for operation in operations:
        found[operation] = None
        if len(found) > MOST_OPERATIONS:
            raise SpecError(
                f"space '{kind}' has more than {MOST_OPERATIONS} operations at all their shapes, too many to "
                "list; give widths and other choices as short lists"
            )
    return tuple(found)


def chosen(candidate: Candidate, name: str) -> Value:
    """A choice of a candidate.

    Raises:
        SpecError: The candidate is not of this space.
    """
    if name not in candidate.choices:
        raise SpecError(
            f"candidate {candidate.key} has no choice '{name}', only {', '.join(candidate.choices)}; "
            "give a candidate of this space"
        )
    return candidate.choices[name]


def levelled(candidate: Candidate, name: str, level: int) -> Value:
    """A choice of a candidate at a level if it is made for each level, else the one for all levels."""
    return candidate.choices[name] if name in candidate.choices else chosen(candidate, f"{name}_{level}")


def _extremes(choice: Values | Range) -> list[Value]:
    """All values of a list; the lowest and highest of a range."""
    return list(choice.values) if isinstance(choice, Values) else [choice.at(0.0), choice.at(1.0)]


def _shown(choice: Values | Range) -> str:
    if isinstance(choice, Values):
        return f"one of {choice.values}"
    return f"anything from {choice.min} to {choice.max}"
