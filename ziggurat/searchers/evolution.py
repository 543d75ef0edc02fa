"""Ageing evolution: good parents by tournament, small changes, and death by age rather than by rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ziggurat import choices as space
from ziggurat import pareto
from ziggurat.domain import Candidate, Proposal
from ziggurat.protocols import Context
from ziggurat.searchers import fresh, population
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from ziggurat.pareto import IntArray
    from ziggurat.searchers.population import Individuals

MUTANTS = 50
"""Children tried, further and further from their parent, where one is known or beyond a limit."""


class Evolution(Setting):
    """Mutates the best of a sample of the youngest individuals; whoever is older dies, however good.

    The first `population` trials are random. From then on the last `population` individuals of the rung that
    `population.compared` names are alive, in the order of their index. The best of `sample` of them is the
    parent: by non-domination rank among the living, within a front by epsilon net, and behind them those
    beyond a reference or limit; with one objective that is plain order. A child differs from its parent, or
    from a uniform crossover of two parents, in one choice, and in more of them if it has been proposed
    before: unlike in the source no candidate is trained twice.

    Source: Real et al. 2019, Regularized Evolution for Image Classifier Architecture Search,
    arXiv 1802.01548, algorithm 1; several objectives: Schmucker et al. 2021, arXiv 2106.12639, section 3.
    """

    kind: Literal["evolution"] = "evolution"
    population: int = Field(
        default=20, ge=2, le=10_000, description="The youngest individuals, which alone can be parents."
    )
    sample: int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="Individuals of a tournament; the whole population if it is smaller.",
    )
    crossover: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Probability that a child has two parents; it mutates all the same.",
    )
    ahead: int = Field(default=1, ge=0, le=1000, description="Proposals that may be made ahead of need.")

    def propose(self, context: Context) -> Proposal | None:
        """A child of the living, or a random draw; None if the space is used up or the draws run out."""
        living = population.compared(context, self.population)
        if not living.trials or population.hopeful(context) < self.population:
            return population.proposal(context, (), "")
        place = places(living)
        parent = self._winner(context, living, place)
        if context.rng.random() >= self.crossover:
            return population.proposal(context, fresh.mutants(context, parent, MUTANTS), "mutation")
        other = self._winner(context, living, place)
        child = space.crossover(context.choices, parent, other, context.rng)
        return population.proposal(context, fresh.mutants(context, child, MUTANTS), "crossover")

    def propose_batch(self, context: Context, count: int) -> list[Proposal]:
        """One proposal however many are wanted, since each is drawn with the generator of its own trial."""
        proposal = self.propose(context) if count > 0 else None
        return [] if proposal is None else [proposal]

    def _winner(self, context: Context, living: Individuals, place: IntArray) -> Candidate:
        """The best of a random sample of the living."""
        size = min(self.sample, len(place))
        drawn = context.rng.choice(len(place), size=size, replace=False)
        return living.trials[int(drawn[np.argmin(place[drawn])])].candidate


def places(living: Individuals) -> IntArray:
    """Place of every individual, shape (n,), 0 for the best; those beyond the bounds come last, by excess."""
    within = np.flatnonzero(living.excess == 0)
    beyond = np.flatnonzero(living.excess > 0)
    inside = within[pareto.order(living.losses[within])]
    outside = beyond[np.argsort(living.excess[beyond], kind="stable")]
    found = np.empty(len(living.excess), dtype=np.int64)
    found[np.concatenate([inside, outside])] = np.arange(len(found))
    return found
