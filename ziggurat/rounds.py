"""What a round of a search takes from those before it: the space it begins in, read from the history.

How the space is narrowed is decided once, by the stage, and journalled; here it is only read again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from ziggurat.history import History
from ziggurat.spaces import AnySpace

if TYPE_CHECKING:
    from ziggurat.events import Decided
    from ziggurat.spec import Spec

DECISION = "narrowed"
_SPACE: TypeAdapter[AnySpace] = TypeAdapter(AnySpace)


def before(spec: Spec, stage: str) -> str | None:
    """The round before a stage that searches; None for the first, and for other stages."""
    names = spec.searching
    return names[names.index(stage) - 1] if stage in names[1:] else None


def decided(history: History, stage: str) -> Decided | None:
    """In which space a round begins, if that has been decided."""
    found = (d for d in history.decisions if d.kind == DECISION and d.facts.get("stage") == stage)
    return next(found, None)


def space_of(spec: Spec, history: History, stage: str) -> AnySpace:
    """The space that a stage searches: the spec's, or the part of it that the rounds before have left."""
    found = decided(history, stage)
    if found is None or not found.facts.get("space"):
        return spec.space
    return _SPACE.validate_python(json.loads(str(found.facts["space"])))
