"""NSGA-II as a steady state: survival over all results so far, one child whenever a proposal is wanted.

Sorting, crowding and the operators of ordered choices are pymoo's, called as plain functions of arrays and of
a random generator. pymoo takes half a second to import, so it is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ziggurat import choices as space
from ziggurat.domain import Candidate, Proposal
from ziggurat.protocols import Context
from ziggurat.searchers import fresh, population
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from ziggurat.choices import Choices, Range, Values
    from ziggurat.pareto import IntArray
    from ziggurat.protocols import FloatArray
    from ziggurat.searchers.population import Individuals

MATINGS = 20
"""Children that are bred in place of one that is known or beyond a limit, before mutations of them."""
MUTANTS = 50
"""Candidates tried after that, further and further from a child."""
COARSE_ETA = 3.0
"""Distribution index of mutation of choices with steps: larger ones hardly ever reach the next step."""
EXCHANGE = 0.5
"""Probability that a choice takes part in a crossover, and that it comes from the other parent."""


class Nsga2(Setting):
    """Breeds from the best by non-domination rank and crowding; the state is the history and nothing else.

    The first `population` trials are random. Then the survivors are selected anew for every proposal, from
    all individuals of the rung that `population.compared` names: whole fronts, the last one by crowding
    distance. Two binary tournaments (rank, then crowding) give the parents of one child. Ordered choices
    cross by simulated binary crossover and mutate polynomially in the unit interval, unordered ones cross
    uniformly and mutate to another value. Trials beyond a reference or limit come behind all others. With
    one objective all of this is plain order.

    Source: Deb et al. 2002, A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC 6(2);
    operators: Deb and Agrawal 1995 (SBX), Deb and Goyal 1996 (polynomial mutation); steady state: Durillo
    et al. 2009, On the Effect of the Steady-State Selection Scheme in Multi-Objective Genetic Algorithms.
    """

    kind: Literal["nsga2"] = "nsga2"
    population: int = Field(
        default=20, ge=2, le=10_000, description="Survivors, from which parents are drawn."
    )
    crossover: float = Field(default=0.9, ge=0, le=1, description="Probability that a child has two parents.")
    mutations: float = Field(
        default=1.0, gt=0, le=1000, description="Choices of a child that mutate, on average."
    )
    eta_crossover: float = Field(
        default=15.0,
        ge=1,
        le=100,
        description="Distribution index of crossover: larger stays nearer to a parent.",
    )
    eta_mutation: float = Field(
        default=20.0, ge=1, le=100, description="Distribution index of mutation of continuous choices."
    )
    ahead: int = Field(default=1, ge=0, le=1000, description="Proposals that may be made ahead of need.")

    def warm(self) -> None:
        """Import pymoo ahead of the first child."""
        survival(np.zeros((1, 1)), np.zeros(1), 1)

    def propose(self, context: Context) -> Proposal | None:
        """A child of survivors, or a random draw; None if the space is used up or the draws run out."""
        alive = population.compared(context)
        if not alive.trials or population.hopeful(context) < self.population:
            return population.proposal(context, (), "random")
        children = self._offers(context, alive)
        return population.proposal(context, children, "nsga2")

    def propose_batch(self, context: Context, count: int) -> list[Proposal]:
        """One proposal however many are wanted, since each is drawn with the generator of its own trial."""
        proposal = self.propose(context) if count > 0 else None
        return [] if proposal is None else [proposal]

    def _offers(self, context: Context, alive: Individuals) -> Iterator[Candidate]:
        kept, rank, crowding = survival(alive.losses, alive.excess, self.population)
        parents = [alive.trials[i].candidate for i in kept]
        child = parents[0]
        for _ in range(MATINGS):
            first, second = (parents[tournament(rank, crowding, context.rng)] for _ in range(2))
            child = self._child(context.choices, first, second, context.rng)
            yield child
        yield from fresh.mutants(context, child, MUTANTS)

    def _child(
        self, choices: Choices, first: Candidate, second: Candidate, rng: np.random.Generator
    ) -> Candidate:
        a, b = (_point(choices, parent, rng) for parent in (first, second))
        if rng.random() < self.crossover:
            a = _cross(choices, a, b, self.eta_crossover, rng)
        a = _mutate(choices, a, self.mutations, self.eta_mutation, rng)
        return space.from_unit(choices, a)


def survival(losses: FloatArray, excess: FloatArray, size: int) -> tuple[IntArray, IntArray, FloatArray]:
    """The survivors among some individuals: their indices, ranks and crowding distances, each (<= size,).

    Individuals within the bounds come first, in fronts; each one beyond follows with a rank of its own, by
    excess. The front that does not fit as a whole is cut by crowding distance.

    Args:
        losses: (n, m) array, smaller is better, without NaN.
        excess: (n,) distance beyond the bounds, 0 within.
        size: How many survive at most.

    Source: Deb et al. 2002, sections III and VI.
    """
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    within = np.flatnonzero(excess == 0)
    beyond = np.flatnonzero(excess > 0)
    fronts = [within[f] for f in NonDominatedSorting().do(losses[within], n_stop_if_ranked=size)]
    _, level = np.unique(excess[beyond], return_inverse=True)
    fronts += [beyond[level == i] for i in range(int(level.max(initial=-1)) + 1)]
    parts: list[tuple[IntArray, IntArray, FloatArray]] = []
    room = size
    for rank, front in enumerate(fronts):
        if room <= 0:
            break
        distance = calc_crowding_distance(losses[front])
        best = np.argsort(-distance, kind="stable")[:room]
        parts.append((front[best], np.full(len(best), rank), distance[best]))
        room -= len(best)
    kept, ranks, distances = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return kept, ranks, distances


def tournament(rank: IntArray, crowding: FloatArray, rng: np.random.Generator) -> int:
    """Index of the better of two individuals drawn at random: lower rank, then larger crowding distance."""
    a, b = (int(i) for i in rng.choice(len(rank), size=min(2, len(rank)), replace=False)[[0, -1]])
    return a if (rank[a], -crowding[a]) <= (rank[b], -crowding[b]) else b


def _point(choices: Choices, candidate: Candidate, rng: np.random.Generator) -> FloatArray:
    """The point of a candidate, with drawn coordinates for choices that it does not have."""
    here = np.array([name in candidate.choices for name in choices])
    return np.where(here, space.to_unit(choices, candidate), rng.random(len(choices)))


def _cross(
    choices: Choices, a: FloatArray, b: FloatArray, eta: float, rng: np.random.Generator
) -> FloatArray:
    """The first child of two points; every choice is a mating of its own."""
    from pymoo.operators.crossover.sbx import cross_sbx

    count = len(a)
    pair = np.stack([a, b])[:, :, None]
    each = np.ones((count, 1))
    blended = cross_sbx(
        pair, np.zeros(1), np.ones(1), eta * each, EXCHANGE, EXCHANGE * each, random_state=rng
    )[0, :, 0]
    swapped = np.where(rng.random(count) < EXCHANGE, b, a)
    child: FloatArray = np.where([_unordered(c) for c in choices.values()], swapped, blended)
    return child


def _mutate(
    choices: Choices, point: FloatArray, mutations: float, eta: float, rng: np.random.Generator
) -> FloatArray:
    """A point with some coordinates changed; every choice is an individual of its own."""
    from pymoo.operators.mutation.pm import mut_pm

    free = np.array([c.size > 1 for c in choices.values()])
    share = np.where(free, min(1.0, mutations / max(1, free.sum())), 0.0)
    etas = np.array([eta if np.isinf(c.size) else min(eta, COARSE_ETA) for c in choices.values()])
    moved = mut_pm(point[:, None], np.zeros(1), np.ones(1), etas, share, False, random_state=rng)[:, 0]
    sizes = np.array([c.size if _unordered(c) else 1 for c in choices.values()])
    other = (point + rng.integers(1, np.maximum(sizes, 2)) / sizes) % 1.0
    reset = np.where(rng.random(len(point)) < share, other, point)
    mutant: FloatArray = np.where([_unordered(c) for c in choices.values()], reset, moved)
    return mutant


def _unordered(choice: Values | Range) -> bool:
    return not choice.ordered
