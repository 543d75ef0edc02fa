"""Candidates that are worth a trial: not proposed before, and within the limits on static metrics.

Shared by all searchers. Every loop here ends: drawing is bounded, and a small space is listed instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ziggurat import choices as space
from ziggurat.domain import Candidate, Value

if TYPE_CHECKING:
    from ziggurat.choices import Choices, Range, Values
    from ziggurat.protocols import Context

REDRAWS = 100
"""Draws after which a searcher stops drawing."""
SMALL = 1024
"""Number of candidates up to which a space is listed when drawing finds nothing."""


def proposed(context: Context) -> set[Candidate]:
    """Candidates of all trials of the stage, whatever became of them."""
    return {trial.candidate for trial in context.mine()}


def used_up(context: Context) -> bool:
    """Whether a space of at most 1024 candidates has been proposed as a whole."""
    return space.count(context.choices, at_most=SMALL) <= len(proposed(context))


def within_limits(context: Context, candidate: Candidate) -> bool:
    """Whether no metric that is known before training lies beyond its hard limit."""
    if all(o.limit is None for o in context.objectives):
        return True
    known = context.static([candidate])[0]
    return not any(o.breaks_limit(known[o.metric]) for o in context.objectives if o.metric in known)


def first(context: Context, known: Collection[Candidate], offers: Iterable[Candidate]) -> Candidate | None:
    """The first of some candidates that is neither known nor beyond a limit; None if there is none."""
    refused = set(known)
    for candidate in offers:
        if candidate in refused:
            continue
        if within_limits(context, candidate):
            return candidate
        refused.add(candidate)
    return None


def draw(context: Context, known: Collection[Candidate]) -> Candidate | None:
    """A new candidate drawn uniformly; None if there is none, or a hundred draws found none.

    A space of at most 1024 candidates is listed when the draws run out, so it is used up to its last
    candidate.
    """
    found = first(context, known, (space.sample(context.choices, context.rng) for _ in range(REDRAWS)))
    if found is not None or space.count(context.choices, at_most=SMALL) > SMALL:
        return found
    rest = [candidate for candidate in every(context.choices) if candidate not in set(known)]
    return first(context, (), (rest[i] for i in context.rng.permutation(len(rest))))


def mutants(context: Context, candidate: Candidate, count: int) -> Iterator[Candidate]:
    """Candidates that lie further and further from one candidate, one changed choice at a time."""
    for i in range(count):
        mutant = candidate
        for _ in range(1 + i // 10):
            mutant = space.mutate(context.choices, mutant, context.rng)
        yield mutant


def every(choices: Choices) -> Iterator[Candidate]:
    """All candidates of a finite space, in the order of declaration."""
    partial: list[Mapping[str, Value]] = [{}]
    for name, choice in choices.items():
        partial = [
            {**chosen, **extra}
            for chosen in partial
            for extra in (_options(name, choice) if space.active(choice, chosen) else [{}])
        ]
    yield from map(Candidate, partial)


def _options(name: str, choice: Values | Range) -> list[dict[str, Value]]:
    if isinstance(choice, space.Values):
        return [{name: choice.at((i + 0.5) / choice.size)} for i in range(int(choice.size))]
    # a logarithmic range has steps of unequal share, so its values are counted, not read off
    pace = choice.step or 1
    values = (choice.at(choice.unit(choice.min + i * pace)) for i in range(int(choice.size)))
    return [{name: value} for value in dict.fromkeys(values)]
