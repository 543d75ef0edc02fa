"""Quasi-random search: points that fill the space evenly, the same ones whatever happens meanwhile."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ziggurat import choices as space
from ziggurat.domain import Proposal
from ziggurat.protocols import Context
from ziggurat.searchers import fresh
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Collection

    from ziggurat.domain import Candidate
    from ziggurat.protocols import FloatArray


class Sobol(Setting):
    """Takes the points of one scrambled Sobol sequence in turn.

    The point's number is the number of trials proposed before, so a proposal depends on the seeds and on
    earlier proposals, never on the results or on timing.

    Source: Sobol 1967; scrambling by Owen 1998, as in scipy.stats.qmc.
    """

    kind: Literal["sobol"] = "sobol"
    scramble_seed: int = Field(default=0, ge=0, lt=2**31, description="Which scrambling of the sequence.")
    ahead: int = Field(default=4, ge=0, le=1000, description="Proposals that may be made ahead of need.")

    def propose(self, context: Context) -> Proposal | None:
        """The next point; a random draw if that is known or beyond a limit; None if there is neither."""
        known = fresh.proposed(context)
        return at(context, len(context.mine()), self.scramble_seed, known)

    def propose_batch(self, context: Context, count: int) -> list[Proposal]:
        """One proposal however many are wanted, since each may need the generator of its own trial."""
        proposal = self.propose(context) if count > 0 else None
        return [] if proposal is None else [proposal]


def at(context: Context, number: int, scramble_seed: int, known: Collection[Candidate]) -> Proposal | None:
    """The proposal at a point of the sequence; a random draw where that is known or beyond a limit."""
    block = 1 << max(6, number.bit_length())
    point = _points(len(context.choices), scramble_seed, block)[number]
    candidate = fresh.first(context, known, [space.from_unit(context.choices, point)])
    if candidate is not None:
        return Proposal(candidate, origin="sobol")
    candidate = fresh.draw(context, known)
    return None if candidate is None else Proposal(candidate, origin="random")


@functools.lru_cache(maxsize=8)
def _points(dimensions: int, scramble_seed: int, count: int) -> FloatArray:
    """The first points of a sequence, shape (count, dimensions); a longer one begins with a shorter one."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(scramble_seed))
    points: FloatArray = sequence.random(count)
    points.setflags(write=False)
    return points
