"""Which architectures are retrained, and which of their trainings are still missing; all of it pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ziggurat import amended, pareto
from ziggurat.answers import eligible
from ziggurat.contexts import seed_for
from ziggurat.domain import Candidate, Fidelity, Trial
from ziggurat.history import History
from ziggurat.lineage import replayed
from ziggurat.spec import Spec

STAGE = "retrain"


@dataclass(frozen=True)
class Training:
    """One full training that is to be done: of which search trial, with which seed, along which way."""

    trial: Trial
    seed: int
    ladder: tuple[Fidelity, ...]
    lineage: tuple[Candidate, ...]

    @property
    def identity(self) -> tuple[str, tuple[str, ...], int]:
        """What tells it from other trainings."""
        return _identity(self.trial.candidate, self.lineage, self.seed)


def candidates(spec: Spec, history: History) -> list[Trial]:
    """Search trials that can be retrained: at the top rung, within the limits, and not dropped."""
    dropped = amended.dropped(history)
    return [t for t in eligible(history, spec.goals()) if t.number not in dropped]


def selected(spec: Spec, history: History) -> list[Trial]:
    """The search trials to retrain, best first: those that somebody has named, or the K best of the front."""
    done = candidates(spec, history)
    chosen = amended.chosen(history)
    if chosen:
        known = {t.number: t for t in done}
        return [known[n] for n in chosen if n in known]
    if not done:
        return []
    settings, goals = spec.retrain, spec.goals()
    losses = [t.losses(goals) for t in done]
    reference = [o.loss(o.reference) for o in goals]
    return [done[i] for i in pareto.pick(losses, reference, min(settings.k, len(done)), settings.method)]


def missing(spec: Spec, history: History, trials: Sequence[Trial]) -> list[Training]:
    """The trainings of selected trials that are not proposed yet, seed by seed: each is trained once soon."""
    there = Counter(_identity(t.candidate, t.lineage, t.seed) for t in history.of_stage(STAGE))
    ways = [replayed(history, trial, spec.full_ladder()) for trial in trials]
    found = []
    for number in range(spec.retrain.seeds):
        seed = seed_for(spec, STAGE, number)
        for trial, (ladder, lineage) in zip(trials, ways, strict=True):
            training = Training(trial, seed, ladder, lineage)
            if there[training.identity]:
                there[training.identity] -= 1
            else:
                found.append(training)
    return found


def _identity(
    candidate: Candidate, lineage: Sequence[Candidate], seed: int
) -> tuple[str, tuple[str, ...], int]:
    return candidate.key, tuple(c.key for c in lineage), seed
