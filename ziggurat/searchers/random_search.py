"""Random search: the baseline that every searcher has to beat."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ziggurat.domain import Proposal
from ziggurat.protocols import Context
from ziggurat.searchers import fresh
from ziggurat.setting import Setting


class RandomSearch(Setting):
    """Draws candidates uniformly from the unit cube, without repetition.

    Source: Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization, JMLR 13.
    """

    kind: Literal["random"] = "random"
    ahead: int = Field(default=4, ge=0, le=1000, description="Proposals that may be made ahead of need.")

    def propose(self, context: Context) -> Proposal | None:
        """A new candidate within the static limits; None if the space is used up or the draws run out."""
        candidate = fresh.draw(context, fresh.proposed(context))
        return None if candidate is None else Proposal(candidate, origin="random")

    def propose_batch(self, context: Context, count: int) -> list[Proposal]:
        """One proposal however many are wanted, since each is drawn with the generator of its own trial."""
        proposal = self.propose(context) if count > 0 else None
        return [] if proposal is None else [proposal]
