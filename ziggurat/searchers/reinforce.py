"""REINFORCE: a controller that proposes candidates and learns from what became of them.

This module decides what an episode is and what it is worth. `controller` holds the network; it is imported
when it is needed, since importing torch takes a second.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ziggurat.answers import blameless
from ziggurat.domain import Candidate, JobKind, Proposal, Trial, TrialStatus
from ziggurat.protocols import Context, FloatArray
from ziggurat.searchers import fresh
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from ziggurat.searchers.controller import Controller
    from ziggurat.segments import Segment

BATCHES, BATCH = 4, 16
"""Candidates that are drawn from the policy before something else stands in for it."""
MUTATIONS = 50
"""Neighbours tried in place of a candidate that is known or beyond a limit."""
KEPT = 4
"""Controllers that are kept at most."""
DEFAULT_RATE = {"recurrent": 0.03, "independent": 0.1}
KEEPS_LIMITS, BREAKS_LIMITS, FAILED = range(3)


class Reinforce(Setting):
    """A policy over candidates, moved towards those that turned out better than usual.

    `recurrent` is a small LSTM that emits one choice after another, each given those before; a choice that
    does not exist is skipped. `independent` is one categorical distribution for each choice. A range of more
    than 16 values is cut into 16 equal parts of its unit interval, and a value is drawn within the part.

    Every result at a rung is an episode, in the order in which results came in; so is the failure of a
    trial, and its rejection for a measured metric, but not a trial that was lost or pre-empted. Its reward,
    from 0 to 1, is the share of the results at that rung so far that are dominated by more results than it
    is: with one objective the share that is worse. Results beyond a hard limit come after all that keep the
    limits, failures last. The advantage is the reward less a moving average of the rung's rewards.

    The controller is rebuilt from the history; between two questions it is kept, and learns only from what
    is new. A candidate that is known already or beyond a static limit is drawn again, then replaced by a
    mutation of it, then by a random draw.

    Source: Williams 1992, Simple statistical gradient-following algorithms; Zoph and Le 2017, arXiv
    1611.01578, section 3; Dong and Yang 2020, arXiv 2001.00326, for independent choices; Fonseca and Fleming
    1993 for counting dominating results.
    """

    kind: Literal["reinforce"] = "reinforce"
    controller: Literal["recurrent", "independent"] = Field(
        default="recurrent", description="Whether a choice depends on those made before it."
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Learning rate of Adam; by default 0.03 if recurrent, 0.1 if independent.",
    )
    entropy: float = Field(
        default=0.01,
        ge=0,
        le=10,
        description="Weight of the entropy bonus, which keeps it exploring.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Of the moving average of the rewards.")
    weights_seed: int = Field(default=0, ge=0, lt=2**31, description="Which initial weights.")
    ahead: int = Field(default=2, ge=0, le=1000, description="Proposals that may be made ahead of need.")

    def warm(self) -> None:
        """Import torch ahead of the first question."""
        from ziggurat.searchers import controller

        del controller

    def propose(self, context: Context) -> Proposal | None:
        """A new candidate from the policy; None if the space is used up or the draws run out."""
        if fresh.used_up(context):
            return None
        policy = _learned(self, context)
        known = fresh.proposed(context)
        if policy is not None:
            for origin, offers in _offers(context, policy):
                candidate = fresh.first(context, known, offers)
                if candidate is not None:
                    return Proposal(candidate, origin=origin)
        candidate = fresh.draw(context, known)
        return None if candidate is None else Proposal(candidate, origin="random")

    def propose_batch(self, context: Context, count: int) -> list[Proposal]:
        """One proposal however many are wanted, since each is drawn with the generator of its own trial."""
        proposal = self.propose(context) if count > 0 else None
        return [] if proposal is None else [proposal]


def _offers(context: Context, policy: Controller) -> Iterator[tuple[str, Iterator[Candidate]]]:
    """Candidates of the policy, then mutations of its last one, each with how they came about."""
    drawn: list[Candidate] = []
    for _ in range(BATCHES):
        drawn = policy.sample(BATCH, context.rng)
        yield "policy", iter(drawn)
    yield "mutation", fresh.mutants(context, drawn[-1], MUTATIONS)


@dataclass(frozen=True)
class Episode:
    """What became of a trial at a rung.

    Attributes:
        trial: Its number.
        candidate: What was trained.
        rung: The rung it reached, or failed to reach.
        standing: Whether it keeps all limits, breaks one, or has no result.
        losses: Its objectives; empty without a result.
    """

    trial: int
    candidate: Candidate
    rung: int
    standing: int
    losses: tuple[float, ...]


def episodes(context: Context) -> list[Episode]:
    """Episodes of a stage in the order in which they came to an end, ties in the order of planning."""
    trials = {t.number: t for t in context.mine()}
    found: dict[tuple[int, int], tuple[float, Episode]] = {}
    for segment in context.history.segments.values():
        trial = trials.get(segment.job.trial)
        episode = None if trial is None else _episode(context, trial, segment)
        if episode is not None and segment.finished_utc is not None:
            place = (episode.trial, episode.rung)
            found.pop(place, None)
            found[place] = (segment.finished_utc, episode)
    return [episode for _, episode in sorted(found.values(), key=lambda pair: pair[0])]


def _episode(context: Context, trial: Trial, segment: Segment) -> Episode | None:
    """What a segment tells about its trial; None if it tells nothing, or not yet."""
    job, end = segment.job, segment.end
    if end is None:
        return None
    if job.kind is JobKind.TRAIN and end.failure is None:
        losses = tuple(trial.losses(context.objectives, job.to_rung))
        if not np.isfinite(losses).all():
            return Episode(trial.number, trial.candidate, job.to_rung, FAILED, ())
        broken = any(o.breaks_limit(trial.value(o.metric, job.to_rung)) for o in context.objectives)
        standing = BREAKS_LIMITS if broken else KEEPS_LIMITS
        return Episode(trial.number, trial.candidate, job.to_rung, standing, losses)
    hopeless = trial.status is TrialStatus.REJECTED or (
        trial.status is TrialStatus.FAILED and not blameless(trial)
    )
    if not hopeless:
        return None
    return Episode(trial.number, trial.candidate, max(0, trial.rung + 1), FAILED, ())


class Standings:
    """Results at one rung, each with how many of the others dominate it, and the average of their rewards."""

    def __init__(self, objectives: int, momentum: float) -> None:
        """No results yet."""
        self._rows: FloatArray = np.zeros((0, objectives))
        self._standing = np.zeros(0, dtype=np.int64)
        self._dominators = np.zeros(0, dtype=np.int64)
        self._momentum = momentum
        self._sum = self._weight = 0.0

    def advantage(self, episode: Episode) -> float:
        """Take an episode in and tell its reward less the moving average, which already contains it."""
        reward = self.reward(episode)
        self._sum = self._momentum * self._sum + (1 - self._momentum) * reward
        self._weight = self._momentum * self._weight + (1 - self._momentum)
        return reward - self._sum / self._weight

    def reward(self, episode: Episode) -> float:
        """Take an episode in and tell the share of results that more others dominate; ties count half."""
        row = np.array(episode.losses or [0.0] * self._rows.shape[1])
        same = self._standing == episode.standing
        lower = (self._rows <= row).all(axis=1) & (self._rows < row).any(axis=1)
        higher = (self._rows >= row).all(axis=1) & (self._rows > row).any(axis=1)
        over = (self._standing < episode.standing) | (same & lower)
        under = (self._standing > episode.standing) | (same & higher)
        self._dominators = np.append(self._dominators + under, over.sum())
        self._rows = np.vstack([self._rows, row])
        self._standing = np.append(self._standing, episode.standing)
        mine = self._dominators[-1]
        return float((self._dominators > mine).mean() + (self._dominators == mine).mean() / 2)


class Learned:
    """A controller and the episodes it has learned from."""

    def __init__(self, setting: Reinforce, context: Context) -> None:
        """A controller that has seen nothing."""
        from ziggurat.searchers.controller import Controller

        self._setting = setting
        self._objectives = len(context.objectives)
        self.controller = Controller(
            context.choices,
            setting.controller,
            setting.learning_rate or DEFAULT_RATE[setting.controller],
            setting.entropy,
            np.random.default_rng(setting.weights_seed),
        )
        self.seen: list[Episode] = []
        self._standings: dict[int, Standings] = {}

    def follow(self, told: list[Episode]) -> None:
        """Learn from the episodes that come after those seen."""
        for episode in told[len(self.seen) :]:
            standings = self._standings.setdefault(
                episode.rung, Standings(self._objectives, self._setting.momentum)
            )
            self.controller.learn(episode.candidate, standings.advantage(episode))
            self.seen.append(episode)


_LEARNED: OrderedDict[str, Learned] = OrderedDict()
"""Controllers by what they are for; any of them may be dropped at any time."""


def _learned(setting: Reinforce, context: Context) -> Controller | None:
    """The controller that has seen all episodes of a history; None if nothing can be chosen."""
    if all(choice.size <= 1 for choice in context.choices.values()):
        return None
    told = episodes(context)
    key = f"{setting!r} {context.stage} {context.objectives} {dict(context.choices)!r}"
    learned = _LEARNED.pop(key, None)
    if learned is None or told[: len(learned.seen)] != learned.seen:
        learned = Learned(setting, context)
    learned.follow(told)
    _LEARNED[key] = learned
    while len(_LEARNED) > KEPT:
        _LEARNED.popitem(last=False)
    return learned.controller
