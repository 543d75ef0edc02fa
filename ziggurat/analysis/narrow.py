"""A narrower space to go on in: what was tried and was hardly ever any good is left out.

Trials on the front, and the next non-dominated ranks up to a twentieth of the fully trained ones, are good:
all their values stay. A value that none of them has is dropped, and an end of a range beyond them is cut off,
if the best quarter has it so rarely that it is no luck (Fisher's exact test; Benjamini and Hochberg 1995 for
the number of questions). Trials that were stopped early or failed count as tried.

What is good was told by the same noisy results that are narrowed by, so the suggestion is optimistic: it is a
place for a further round to look, not a finding about the space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from ziggurat import choices as space
from ziggurat.analysis import cuts, evidence
from ziggurat.analysis.cuts import Cut
from ziggurat.analysis.places import DECLARED, Path, Place, Plain, never, places, replaced, written
from ziggurat.choices import Choices, Range, Values
from ziggurat.domain import Candidate, Objective, Trial
from ziggurat.errors import SpecError

if TYPE_CHECKING:
    from ziggurat.spaces import AnySpace

FEWEST = 24
"""Fully trained trials below which nothing is narrowed."""
GOOD = 0.05
"""Share of the fully trained trials whose values stay in any case, beside the front's."""
FEWEST_GOOD = 8
DRAWS = 2000
ENOUGH_HITS = 40
CELLS = ("nas_bench_201", "darts")
MADE = ("operations", "only")
"""Keys whose choices the space makes itself."""
BIAS = (
    "What is good was told by the same results that the space is narrowed by, so this is optimistic; "
    "repeat with the whole space if the answer matters."
)


@dataclass(frozen=True)
class Narrowing:
    """A suggested space.

    Attributes:
        space: The `space:` section of a spec; it validates.
        choices: Its choices.
        kept: Share of the candidates of the space before, by volume where there is no end of them.
        reasons: What was narrowed and why, or why nothing was, in sentences.
        lost: Numbers of trials of the front outside of it; by the reference they are worth nothing.
        changed: Whether it is narrower at all.
        allowed: By name of a choice of the space before, what is left of it, where less is left.
    """

    space: dict[str, Any]
    choices: Choices
    kept: float
    reasons: list[str]
    lost: tuple[int, ...] = ()
    changed: bool = False
    allowed: Mapping[str, Values | Range] = field(default_factory=dict)

    def holds(self, candidate: Candidate) -> bool:
        """Whether a candidate of the space before is still in this one."""
        left = ((self.allowed[n], v) for n, v in candidate.choices.items() if n in self.allowed)
        return all(cuts.allows(choice, value) for choice, value in left)

    def carried(self, candidate: Candidate) -> Candidate | None:
        """A candidate of the space before as one of this one, without what is fixed now; None if outside."""
        here = Candidate({n: v for n, v in candidate.choices.items() if n in self.choices})
        return here if self.holds(candidate) and space.contains(self.choices, here) else None


def plain(space_setting: AnySpace) -> Plain:
    """The `space:` section of a setting, choices as people write them."""
    found: Plain = space_setting.model_dump(mode="json", by_alias=True)
    for place in places(space_setting):
        if place.path[0] not in MADE:
            found = replaced(found, place.path, written(place.choice))
    return found


def narrower(
    space_setting: AnySpace,
    trials: Sequence[Trial],
    objectives: Sequence[Objective],
    *,
    wanted: int | None = None,
) -> Narrowing:
    """The space that a further round of a search should go on in; the same one if too little is known.

    Args:
        space_setting: Of the search so far.
        trials: Of the search so far, in any state.
        objectives: In the order of the spec.
        wanted: Candidates that stay at least; by default twice as many as there are trials.
    """
    groups = evidence.groups(trials, objectives)
    full, least = len(groups.trials), 2 * len(trials) if wanted is None else wanted
    if full < FEWEST:
        why = f"{full} trial{' is' if full == 1 else 's are'} trained in full, {FEWEST} are needed"
        return _unchanged(space_setting, f"Nothing is narrowed: {why}.")
    good = evidence.groups(trials, objectives, GOOD, FEWEST_GOOD)
    best, kept = ({t.number for t in g.top} for g in (groups, good))
    tried = evidence.tried(trials)
    chosen = cuts.significant([c for p in places(space_setting) for c in cuts.of(p, tried, best, kept)])
    if not chosen:
        why = "no value was tried so often, and was good so rarely, that it could not be luck"
        return _unchanged(space_setting, f"Nothing is narrowed: {why}.")
    while chosen:
        section, setting, chosen = _applied(space_setting, chosen)
        if space.count(setting.choices(), at_most=max(least, 1024)) >= least:
            break
        chosen = chosen[:-1]
    if not chosen:
        why = f"fewer than the {least} candidates that are wanted would stay"
        return _unchanged(space_setting, f"Nothing is narrowed: {why}.")
    outer = [t for t, on in zip(groups.trials, groups.outer, strict=True) if on]
    return _narrowing(space_setting, section, setting, chosen, outer)


def _unchanged(setting: AnySpace, reason: str) -> Narrowing:
    return Narrowing(plain(setting), setting.choices(), 1.0, [reason])


def _applied(before: AnySpace, chosen: Sequence[Cut]) -> tuple[Plain, AnySpace, list[Cut]]:
    """The section with what is left of each key, its setting, and the cuts that the space bears."""
    section, setting, taken = plain(before), before, list[Cut]()
    for place, mine in _by_place(chosen):
        changed = _validated(before, replaced(section, place.path, written(cuts.left(place.choice, mine))))
        if changed is not None:
            section, setting = changed
            taken += mine
    for path in _dead(setting, section):
        changed = _validated(before, _without(section, path))
        section, setting = changed or (section, setting)
    return section, setting, sorted(taken, key=lambda c: c.p)


def _by_place(chosen: Sequence[Cut]) -> list[tuple[Place, list[Cut]]]:
    found: dict[tuple[str | int, ...], tuple[Place, list[Cut]]] = {}
    for cut in chosen:
        found.setdefault(cut.place.path, (cut.place, []))[1].append(cut)
    return list(found.values())


def _validated(before: AnySpace, section: Plain) -> tuple[Plain, AnySpace] | None:
    """A section as a setting of the same kind; None if the kind does not bear it."""
    # some operations of a cell are in both sets, so the network around them must be named
    tries = [section]
    if before.kind == "cell" and section["skeleton"] is None:
        tries = [{**section, "skeleton": style} for style in (None, *CELLS)]
    for one in tries:
        try:
            setting = type(before).model_validate(one)
            if before.kind != "cell" or setting.choices().keys() == before.choices().keys():
                return one, setting
        except (ValidationError, SpecError):
            continue
    return None


def _dead(setting: AnySpace, section: Plain) -> list[Path]:
    """Declared choices that can no longer exist, and what names them."""
    gone = never(setting.choices())
    found: list[Path] = []
    # a choice goes before what it depends on
    for key in DECLARED:
        declared = section.get(key)
        if isinstance(declared, dict):
            found += [(key, name) for name in reversed(list(declared)) if name in gone]
    return found


def _without(section: Plain, path: Path) -> Plain:
    """A section without a declared choice, and without its name among the hyperparameters."""
    fewer = replaced(section, path, None)
    names = fewer.get("hyperparameters")
    return (
        {**fewer, "hyperparameters": [n for n in names if n != path[1]]} if isinstance(names, list) else fewer
    )


def _narrowing(
    before: AnySpace, section: Plain, setting: AnySpace, chosen: Sequence[Cut], outer: Sequence[Trial]
) -> Narrowing:
    pairs = _by_place(chosen)
    allowed = {name: cuts.left(place.choice, mine) for place, mine in pairs for name in place.names}
    reasons = [cuts.words(cut, place.choice) for place, mine in pairs for cut in mine]
    found = Narrowing(section, setting.choices(), 1.0, [*reasons, BIAS], (), True, allowed)
    lost = tuple(t.number for t in outer if not found.holds(t.candidate))
    return replace(found, kept=_share(before.choices(), found), lost=lost)


def _share(before: Choices, found: Narrowing) -> float:
    """Share of the candidates that stay: counted, else by volume."""
    counts = space.count(before), space.count(found.choices)
    if not any(math.isinf(c) for c in counts):
        return counts[1] / counts[0]
    rng = np.random.default_rng(0)
    hits = sum(found.holds(space.sample(before, rng)) for _ in range(DRAWS))
    if hits >= ENOUGH_HITS:
        return hits / DRAWS
    # too few to count: as if no choice depended on another
    return math.prod(_part(before[n], choice) for n, choice in found.allowed.items())


def _part(before: Values | Range, after: Values | Range) -> float:
    """Share of the unit interval that is left of a choice."""
    if math.isinf(before.size) and isinstance(after, Range):
        return before.unit(after.max) - before.unit(after.min)
    return after.size / before.size
