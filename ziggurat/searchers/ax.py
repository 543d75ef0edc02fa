"""Bayesian optimisation with Ax: evenly spread points first, then those with the largest expected gain.

This module decides what to ask and what to do with the answer. `evidence` says what the model may learn
from, and `ax_client` talks to Ax; it is imported when it is needed, since importing Ax takes seconds.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Literal

from pydantic import Field

from ziggurat import choices as space
from ziggurat.domain import Candidate, Proposal
from ziggurat.errors import SpecError
from ziggurat.protocols import Context, FloatArray
from ziggurat.searchers import evidence, fresh, sobol
from ziggurat.setting import Setting

LOG = logging.getLogger(__name__)
MUTATIONS = 50
"""Neighbours tried in place of a point that is known or beyond a limit."""
EXTRA = ("jax", "numpyro")
"""Packages of the extra that only the fully Bayesian model needs."""


class AxSearcher(Setting):
    """Sobol points, then the points that noisy expected hypervolume improvement rates best.

    With one objective it is noisy expected improvement. The model sees the unit cube, one coordinate for
    each choice with several values, and the results of the highest rung that has enough of them; trials
    under way are known to it as pending. Objective thresholds are the reference points, or the limits where
    those are tighter. All of it is rebuilt from the history, so a resumed run goes on where it was. An
    answer that is known already or beyond a static limit is replaced by a mutation of it, then by a random
    draw; if Ax fails, a random draw stands in and the log says why.

    Source: Ament et al. 2023, arXiv 2310.20708 (qLogNEHVI, qLogNEI); Daulton et al. 2021, arXiv 2105.08195;
    the rung to model: Falkner et al. 2018, BOHB, arXiv 1807.01774; the sparse prior: Eriksson and Jankowiak
    2021, arXiv 2103.00349.
    """

    kind: Literal["ax"] = "ax"
    method: Literal["fast", "quality"] = Field(
        default="fast",
        description="How hard the next points are searched for: fast, or with Ax's own effort, which takes "
        "several times as long.",
    )
    saas: Literal["off", "map", "full"] = Field(
        default="off",
        description="Prior that only few choices matter, for a dozen choices and more: map fits it, full "
        'samples it (minutes an ask; needs the extra, pip install -e ".[saas]").',
    )
    initial: int | None = Field(
        default=None,
        ge=2,
        le=10_000,
        description="Sobol points before the model; by default 2 (d + 1) for d choices, at most 32 "
        "and at most a third of the trials, but at least 4.",
    )
    scramble_seed: int = Field(default=0, ge=0, lt=2**31, description="Which scrambling of the sequence.")
    batch: int = Field(default=4, ge=1, le=64, description="Points that are generated jointly.")
    ahead: int = Field(default=8, ge=0, le=1000, description="Proposals that may be made ahead of need.")

    def propose(self, context: Context) -> Proposal | None:
        """One proposal; None if the space is used up or the draws run out."""
        return next(iter(self.propose_batch(context, 1)), None)

    def warm(self) -> None:
        """Import Ax ahead of the first question to it."""
        from ziggurat.searchers import ax_client

        del ax_client

    def check(self) -> None:
        """Hold the setting against what is installed, without importing it.

        Raises:
            SpecError: The extra that it needs is not installed.
        """
        missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
        if self.saas == "full" and missing:
            raise SpecError(
                f"search.searcher.saas: 'full' needs {' and '.join(missing)}, not installed here; "
                'install the extra with pip install -e ".[saas]" or use saas: map'
            )

    def propose_batch(self, context: Context, count: int) -> list[Proposal]:
        """Up to `count` different proposals, those of the model generated jointly."""
        number, initial = len(context.mine()), self.first_points(context)
        if fresh.used_up(context):
            return []
        if number < initial:
            return self._sobol(context, min(count, initial - number), "")
        seen = evidence.gather(context)
        gap = evidence.gap(seen, initial)
        if gap:
            return self._sobol(context, count, gap)
        return self._model(context, seen, count)

    def first_points(self, context: Context) -> int:
        """Number of Sobol points before the model is asked."""
        if self.initial is not None:
            return self.initial
        dimensions = len(evidence.free_axes(context.choices))
        return max(4, min(2 * (dimensions + 1), 32, context.trials // 3))

    def _sobol(self, context: Context, count: int, reason: str) -> list[Proposal]:
        number = len(context.mine())

        def make(known: set[Candidate], i: int) -> Proposal | None:
            proposal = sobol.at(context, number + i, self.scramble_seed, known)
            if proposal is None or not reason:
                return proposal
            return Proposal(proposal.candidate, origin=f"{proposal.origin} ({reason})")

        return _collect(context, count, make)

    def _model(self, context: Context, seen: evidence.Evidence, count: int) -> list[Proposal]:
        self.check()  # a run may be resumed where the extra is missing
        seed = int(context.rng.integers(2**31))
        try:
            points = self._ask(seen, count, seed)
        except Exception as error:  # noqa: BLE001 - Ax and BoTorch raise whatever they like
            LOG.warning("Ax failed (%s: %s); a random candidate stands in", type(error).__name__, error)
            points = []
        origin = "qlognehvi" if len(seen.objectives) > 1 else "qlognei"

        def make(known: set[Candidate], i: int) -> Proposal | None:
            if i < len(points):
                return _near(context, known, points[i], origin)
            candidate = fresh.draw(context, known)
            return None if candidate is None else Proposal(candidate, origin="fallback")

        return _collect(context, count, make)

    def _ask(self, seen: evidence.Evidence, count: int, seed: int) -> list[FloatArray]:
        """Points from Ax, without its messages below an error and its warnings."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ax.utils.common.logger import set_ax_logger_levels

            set_ax_logger_levels(logging.ERROR)
            from ziggurat.searchers import ax_client

            return ax_client.ask(seen, count, seed, ax_client.Style(self.method, self.saas))


def _collect(
    context: Context, count: int, make: Callable[[set[Candidate], int], Proposal | None]
) -> list[Proposal]:
    """Up to `count` proposals, each made with all earlier candidates known."""
    return list(_proposals(fresh.proposed(context), count, make))


def _proposals(
    known: set[Candidate], count: int, make: Callable[[set[Candidate], int], Proposal | None]
) -> Iterator[Proposal]:
    for i in range(count):
        proposal = make(known, i)
        if proposal is None:
            return
        known.add(proposal.candidate)
        yield proposal


def _near(context: Context, known: set[Candidate], point: FloatArray, origin: str) -> Proposal | None:
    """The candidate at a point; a mutation of it, then a random draw, where it is known or beyond a limit."""
    wanted = space.from_unit(context.choices, point)
    candidate = fresh.first(context, known, [wanted])
    if candidate is not None:
        return Proposal(candidate, origin=origin)
    candidate = fresh.first(context, known, fresh.mutants(context, wanted, MUTATIONS))
    if candidate is not None:
        return Proposal(candidate, origin="mutation")
    candidate = fresh.draw(context, known)
    return None if candidate is None else Proposal(candidate, origin="random")
