"""What a worker does when it is asked for candidates: it reads the journal on, and asks the searcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ziggurat import proxies
from ziggurat.contexts import make_context, seed_for
from ziggurat.domain import Candidate, Decision, Job, Measurement, Promotion, Proposal, Retirement
from ziggurat.events import Decided, Event, TrialProposed, to_plain
from ziggurat.history import History
from ziggurat.journal import read_events
from ziggurat.searchers import RandomSearch
from ziggurat.spec import Spec

BASELINE = "baseline"
Static = Callable[[Candidate], tuple[Measurement, ...]]


class Proposals:
    """Answers requests for candidates, on a history that it follows in the journal or is given."""

    def __init__(self, folder: Path, history: History | None = None) -> None:
        """Begin; a history that somebody else keeps up to date is not read again."""
        self._folder = folder
        self.history = history if history is not None else History()
        self._follows = history is None
        self._offset = 0

    def answer(self, spec: Spec, job: Job, static: Static) -> list[dict[str, Any]]:
        """What the searcher proposes on the journal as it is now, as plain events.

        Args:
            spec: The run's spec.
            job: How many are wanted, for which stage.
            static: What is known of a candidate without training.
        """
        self._catch_up()
        history = self.history.copy()
        seen = history.length
        searcher = RandomSearch() if job.stage == BASELINE else spec.at(job.stage).search.proposer

        def values(candidates: Sequence[Candidate]) -> list[Mapping[str, float]]:
            return [{m.metric: m.value for m in static(c)} for c in candidates]

        found: list[dict[str, Any]] = []
        while len(found) < job.count:
            context = make_context(spec, history, job.stage, static=values)
            proposals = searcher.propose_batch(context, job.count - len(found))
            if not proposals:
                break
            for proposal in proposals:
                body = (
                    _trial(spec, proposal, static, history, job.stage, seen)
                    if isinstance(proposal, Proposal)
                    else _verdict(proposal, history, seen)
                )
                history.apply(Event(history.length, history.last_utc, history.run_id, body))
                found.append(to_plain(body))
        return found

    def _catch_up(self) -> None:
        if not self._follows:
            return
        for event, end in read_events(self._folder / "journal.jsonl", self._offset, self.history.length):
            self.history.apply(event)
            self._offset = end


def _trial(
    spec: Spec, proposal: Proposal, static: Static, history: History, stage: str, seen: int
) -> TrialProposed:
    index = len(history.of_stage(stage))
    return TrialProposed(
        trial=max(history.trials, default=-1) + 1,
        index=index,
        stage=stage,
        candidate=proposal.candidate,
        seed=seed_for(spec, stage, index),
        ladder=proxies.ladder(spec, history, stage),
        static=proposal.static or static(proposal.candidate),
        parent=proposal.parent,
        origin=proposal.origin,
        seen=seen,
    )


def _verdict(about: Promotion | Retirement, history: History, seen: int) -> Decided:
    verdict = Decision.CONTINUE if isinstance(about, Promotion) else Decision.STOP
    rung = history.trials[about.trial].rung
    return Decided("stopper", verdict.value, about.trial, rung, seen, about.reason)
