"""Asynchronous successive halving, for one or several objectives, in its stopping and its promotion form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ziggurat import pareto
from ziggurat.domain import Decision, Trial, TrialStatus
from ziggurat.protocols import Context
from ziggurat.setting import Setting
from ziggurat.stoppers import rungs

ACTIVE = (TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.UNDECIDED, TrialStatus.READY)
"""States of a trial from which results may still come without a promotion."""
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""Its multiples fill [0, 1) evenly from the first on (Knuth, The Art of Computer Programming 3, 6.4)."""


class Asha(Setting):
    """Spends more on the best trials of every rung, without waiting for a rung to be full.

    `stopping` decides at once: of the n trials that have a result at a rung (this one included), the best
    ceil(n / reduction_factor) go on and the others end, so the first is never stopped by its rank.
    `promotion` pauses every trial, and a free worker takes the best paused one among the best floor(n /
    reduction_factor) of the highest rung that has one.

    Trials are ordered by non-dominated sorting over all objectives, within a front by an epsilon net; with
    one objective that is plain order. Trials with an unknown objective come last.

    With several objectives `keep` may spare the front of a rung besides (`either`), that is whoever no trial
    with all objectives known dominates, or judge by that alone (`front`). Where few trials have come far they
    nearly all lie on the front, and a share ends much of the answer: on measured tables of two objectives
    `either` loses less hypervolume for little more cost. With more objectives most trials lie on the front,
    and it saves less. Of equal trials only the first counts as the front; a promotion waits until a rung has
    reduction_factor trials or grows no more.

    With several `brackets` bracket b decides at rung grace + b for the first time, and its trials are
    compared among themselves only. A trial's index decides its bracket, in shares by which successive halving
    would spend as much on every bracket.

    Whatever its rank, a trial ends if it is worthless: on every objective that had to be learned it is no
    better than chance (or than the reference, see `floor`); or a metric known before training lies beyond its
    hard limit. Worthless trials count in n but rank behind all others, so a small network that learns nothing
    takes nobody's place.

    Source: Li et al. 2018, arXiv 1810.05934, algorithm 2 (promotion) and section 3.3; brackets from Li et al.
    2018, Hyperband, JMLR 18(185), algorithm 1; Schmucker et al. 2021, arXiv 2106.12639, for several
    objectives.
    """

    kind: Literal["asha"] = "asha"
    type: Literal["stopping", "promotion"] = Field(
        default="promotion",
        description="Whether a trial ends at once, or pauses until it earns the next rung.",
    )
    reduction_factor: float = Field(
        default=3.0, ge=2, le=100, description="One of so many trials of a rung reaches the next."
    )
    grace: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Rung (from 0) below which every trial continues, whatever its result.",
    )
    brackets: int = Field(
        default=1, ge=1, le=10, description="Groups of trials, each with its first decision a rung later."
    )
    keep: Literal["share", "front", "either"] = Field(
        default="share",
        description="Who goes on: the best 1 / reduction_factor of a rung, whoever none dominates, or both.",
    )
    floor: rungs.Floor = Field(
        default="chance",
        description="What a trial must beat at a rung: chance alone, or chance and the reference as well.",
    )

    def decide(self, trial: Trial, context: Context) -> Decision:
        """What happens to a trial that has just reached `trial.rung`, below the top."""
        bracket = self.bracket(trial, context)
        if trial.rung < self.grace + bracket:
            return Decision.CONTINUE
        if rungs.worthless(trial, trial.rung, context, self.floor):
            return Decision.STOP
        if self.type == "promotion":
            return Decision.PAUSE
        best = self._best(self._peers(trial.rung, bracket, context), trial.rung, context)
        return Decision.CONTINUE if any(t.number == trial.number for t in best) else Decision.STOP

    def promote(self, context: Context) -> Trial | None:
        """The paused trial that earns the next rung now.

        When all trials of the stage are proposed and nothing is under way, no rung grows any more. Then a
        front that is to be kept is promoted although its rung is small, and of each bracket without a result
        at the top rung the best paused trial of the highest rung: a small search, too, ends with trials
        trained in full.
        """
        waiting, settled = self._waiting(context), self._settled(context)
        for rung in range(context.top - 1, self.grace - 1, -1):
            for bracket in sorted({self.bracket(t, context) for t in waiting.get(rung, {}).values()}):
                peers = self._peers(rung, bracket, context)
                best = self._best(peers, rung, context, settled=settled)
                chosen = next((t for t in best if t.number in waiting[rung]), None)
                if chosen is not None:
                    return chosen
        return self._last_resort(waiting, context) if settled else None

    def bracket(self, trial: Trial, context: Context) -> int:
        """The bracket of a trial, from 0; a function of its index."""
        return self._bracket(trial, self.shares(context.top))

    def shares(self, top: int) -> list[float]:
        """Share of the trials for each bracket, given the highest rung.

        A bracket with s decisions before the top gets trials in proportion to reduction_factor ** s /
        (s + 1), so that all brackets train for about as long.
        """
        decisions = [top - self.grace - b for b in range(self.brackets) if self.grace + b <= top] or [0]
        weights = [self.reduction_factor**s / (s + 1) for s in decisions]
        return [w / sum(weights) for w in weights]

    def reach(self, top: int) -> list[float]:
        """Expected share of the trials that train towards each rung up to the top."""
        found = [0.0] * (top + 1)
        for bracket, share in enumerate(self.shares(top)):
            for rung in range(top + 1):
                decisions = max(0, rung - self.grace - bracket)
                found[rung] += share / self.reduction_factor**decisions
        return found

    def _bracket(self, trial: Trial, shares: Sequence[float]) -> int:
        place = (trial.index * GOLDEN) % 1.0
        return sum(place >= upto for upto in list(accumulate(shares))[:-1])

    def _settled(self, context: Context) -> bool:
        """Whether no result can come any more without a promotion."""
        mine = context.mine()
        return len(mine) >= context.trials and not any(t.status in ACTIVE for t in mine)

    def _last_resort(self, waiting: Mapping[int, Mapping[int, Trial]], context: Context) -> Trial | None:
        """The best paused trial of the highest rung, of the brackets without a result at the top rung."""
        at_top = context.history.at_rung(context.stage, context.top)
        served = {self.bracket(t, context) for t in at_top}
        for rung in sorted(waiting, reverse=True):
            left = [t for t in waiting[rung].values() if self.bracket(t, context) not in served]
            if left:
                table = rungs.losses(left, rung, context, self.floor)
                return left[int(pareto.order(table, 1)[0])]
        return None

    def _waiting(self, context: Context) -> dict[int, dict[int, Trial]]:
        """Paused trials that may be promoted, by number, for each rung that has one."""
        found: dict[int, dict[int, Trial]] = {}
        for trial in context.history.with_status(context.stage, TrialStatus.PAUSED):
            # a limit may have been found broken since the trial was paused
            if not rungs.worthless(trial, trial.rung, context, self.floor):
                found.setdefault(trial.rung, {})[trial.number] = trial
        return found

    def _peers(self, rung: int, bracket: int, context: Context) -> list[Trial]:
        """Trials of a bracket with a result at a rung."""
        trials = context.history.at_rung(context.stage, rung)
        if self.brackets == 1:
            return trials
        shares = self.shares(context.top)
        return [t for t in trials if self._bracket(t, shares) == bracket]

    def _best(
        self, peers: Sequence[Trial], rung: int, context: Context, *, settled: bool = True
    ) -> list[Trial]:
        """Those of the peers at a rung that go on, best first."""
        table = rungs.losses(peers, rung, context, self.floor)
        share = len(peers) / self.reduction_factor
        count = math.ceil(share) if self.type == "stopping" else math.floor(share)
        front = pareto.is_front(table)
        if self.keep == "share" or (len(peers) < self.reduction_factor and not settled):
            front[:] = False
        if self.keep == "front":
            count = 0
        ordered = pareto.order(table, max(count, int(front.sum())))
        front[_repeated(table, np.flatnonzero(front))] = False
        return [peers[i] for place, i in enumerate(ordered) if place < count or front[i]]


def _repeated(table: rungs.FloatArray, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of some rows, in growing order, that equal an earlier one of them."""
    _, first = np.unique(table[rows], axis=0, return_index=True)
    return np.delete(rows, first)
