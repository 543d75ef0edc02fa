"""Approval before full retraining: the question, its answers, and waiting for the first one.

Whoever waits reads `approval.json`, which `ziggurat approve` writes whole into the run directory or its
store, and asks any further desk, such as the pages of Prefect. The journal keeps the question, the answer,
who gave it and how; what it changes are amendments. Knows no Prefect.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ziggurat import amended, pareto
from ziggurat.budget import limit_usd
from ziggurat.contexts import reserve_usd
from ziggurat.engine import Engine
from ziggurat.events import Amended, Body, Decided, Facts
from ziggurat.history import History
from ziggurat.runs import Interrupted, Run
from ziggurat.spec import Spec
from ziggurat.stages import selection
from ziggurat.stages.answering import Answer, Drawer

log = logging.getLogger(__name__)

KIND = "approval"
WANTED, APPROVED, REJECTED, EXPIRED = "wanted", "approved", "rejected", "expired"
SHOWN = 20
"""Most candidates that a question shows."""
LOOK_S = 0.5
"""Seconds between two looks whether there is an answer."""


@dataclass(frozen=True)
class Row:
    """One candidate of a question."""

    trial: int
    picked: bool
    values: dict[str, float]


@dataclass(frozen=True)
class Question:
    """What somebody is asked to approve.

    Attributes:
        run_id: Of the run.
        where: Its directory, or its place in a store.
        rows: Candidates, those first that would be retrained; not more than can be read.
        numbers: Trial numbers of all candidates.
        k: How many would be retrained.
        seeds: With how many seeds each.
        usd: What retraining and measuring them is expected to cost.
        spent_usd: What has been spent.
        limit_usd: Never passed; None for no limit.
    """

    run_id: str
    where: str
    rows: tuple[Row, ...]
    numbers: tuple[int, ...]
    k: int
    seeds: int
    usd: float
    spent_usd: float
    limit_usd: float | None

    @property
    def title(self) -> str:
        """It in one line."""
        limit = "no limit" if self.limit_usd is None else f"limit {self.limit_usd:.4g} USD"
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return (
            f"Retrain {self.k} of {len(self.numbers)} candidates with {seeds} each, for about "
            f"{self.usd:.4g} USD? ({self.spent_usd:.4g} USD spent, {limit})"
        )

    def table(self) -> str:
        """Its candidates as a table in Markdown."""
        metrics = list(self.rows[0].values) if self.rows else []
        lines = [f"| trial | retrain | {' | '.join(metrics)} |", "| --- " * (len(metrics) + 2) + "|"]
        for row in self.rows:
            values = " | ".join(f"{value:.5g}" for value in row.values.values())
            lines.append(f"| {row.trial} | {'yes' if row.picked else ''} | {values} |")
        return "\n".join(lines)

    def problem(self, answer: Answer) -> str:
        """Why an answer cannot be used, in one line; empty if it can."""
        if not answer.approve:
            return ""
        known = ", ".join(str(n) for n in self.numbers[:SHOWN]) + (
            " ..." if len(self.numbers) > SHOWN else ""
        )
        unknown = [n for n in answer.drop if n not in self.numbers]
        if unknown:
            return f"drop: trial {unknown[0]} is no candidate; the candidates are {known}"
        left = len(set(self.numbers) - set(answer.drop))
        if not left:
            return "drop: no candidate is left; drop fewer, or reject"
        if answer.k is not None and answer.k > left:
            return f"k: {answer.k} is more than the {left} that are left; lower it to at most {left}"
        if answer.add_usd and self.limit_usd is None:
            return "add_usd: the run has no limit to raise (budget.limit_usd); leave it out"
        return ""


class Desk(Protocol):
    """Somewhere an answer can come from."""

    def ask(self, question: Question) -> None: ...

    def answers(self) -> Sequence[Answer]: ...

    def refuse(self, answer: Answer, problem: str) -> None: ...

    def close(self, answer: Answer | None) -> None: ...


def question(spec: Spec, history: History, where: str) -> Question:
    """What there is to approve now."""
    goals = spec.goals()
    found = selection.candidates(spec, history)
    picked = [t.number for t in selection.selected(spec, history)]
    front = pareto.is_front([t.losses(goals) for t in found])
    best = {t.number for t, there in zip(found, front, strict=True) if there}
    order = sorted((t for t in found if t.number in picked), key=lambda t: picked.index(t.number))
    order += sorted(
        (t for t in found if t.number in best and t.number not in picked), key=lambda t: t.losses(goals)[0]
    )
    rows = tuple(
        Row(t.number, t.number in picked, {o.metric: t.value(o.metric) for o in goals}) for t in order
    )
    return Question(
        run_id=history.run_id,
        where=where,
        rows=rows[:SHOWN],
        numbers=tuple(t.number for t in found),
        k=len(picked),
        seeds=spec.retrain.seeds,
        usd=reserve_usd(spec, history),
        spent_usd=history.spent_usd,
        limit_usd=limit_usd(spec.budget, history),
    )


def due(run: Run) -> bool:
    """Whether somebody has to be asked before the run goes on."""
    settings = run.spec.retrain
    if not (settings.enabled and settings.approval.wanted) or "retrain" in run.history.stages:
        return False
    last = run.history.decision(KIND)
    settled = last is not None and (last.verdict in {APPROVED, REJECTED} or bool(last.facts.get("go")))
    return not settled and bool(selection.candidates(run.spec, run.history))


def refusal(history: History) -> str:
    """Why nothing may be retrained, if somebody has said so; empty otherwise."""
    last = history.decision(KIND)
    return last.reason if last is not None and last.verdict == REJECTED else ""


def waits(history: History) -> bool:
    """Whether the run waits for an answer, or would if it were resumed."""
    last = history.decision(KIND)
    return last is not None and last.verdict in {WANTED, EXPIRED} and not last.facts.get("go")


@dataclass
class _Wait:
    """One sitting of waiting for an answer."""

    engine: Engine
    desks: list[Desk]
    used: set[str] = field(default_factory=set)

    def first(self, question: Question, deadline: float) -> Answer | None:
        """The first answer that can be used; None if there is none in time."""
        run = self.engine.run
        while True:
            for desk, answer in [(d, a) for d in self.desks for a in d.answers()]:
                if answer.key in self.used:
                    continue
                self.used.add(answer.key)
                problem = question.problem(answer)
                if not problem:
                    return answer
                log.warning("approval: %s", problem)
                desk.refuse(answer, problem)
            if run.clock() >= deadline:
                return None
            self.engine.attend(LOOK_S)


def approve(engine: Engine, desks: Sequence[Desk] = ()) -> None:
    """Ask, if that is wanted, and wait for an answer; no machine is held meanwhile.

    Raises:
        Interrupted: Somebody asked the run to stop, or nobody has answered in time; it asks again on resume.
    """
    run = engine.run
    if not due(run):
        return
    settings = run.spec.retrain.approval
    engine.rest()
    asked = question(run.spec, run.history, str(run.folder))
    begun = run.clock()
    run.record([_decided(run.history, WANTED, asked.title, {"k": asked.k, "usd": asked.usd})])
    hours = settings.timeout_hours
    deadline = float("inf") if hours is None else begun + 3600 * hours
    past = {str(d.facts.get("key", "")) for d in run.history.decisions if d.kind == KIND}
    wait = _Wait(engine, [Drawer(run.folder, run.store), *desks], past)
    answer: Answer | None = None
    try:
        for desk in wait.desks:
            desk.ask(asked)
        answer = wait.first(asked, deadline)
        waited_s = round(run.clock() - begun, 3)
        run.record(_answered(run, answer, waited_s) if answer else [_expired(run, waited_s)])
    finally:
        for desk in wait.desks:
            desk.close(answer)
    if answer is None and settings.on_timeout == "stop":
        raise Interrupted(f"nobody approved within {hours:g} h; `ziggurat approve {run.folder}`")


def granted(spec: Spec, history: History, who: str) -> list[Body]:
    """What the journal says of an approval that nobody had to be asked for; nothing if none is wanted."""
    if not spec.retrain.approval.wanted and not refusal(history):
        return []
    reason = f"approved by {who}, who asked for it"
    return [_decided(history, APPROVED, reason, {"who": who, "how": "retrain"})]


def changes(run: Run, answer: Answer) -> dict[str, object]:
    """What an answer changes of the run's settings."""
    found: dict[str, object] = {}
    if answer.k is not None:
        found["retrain.k"] = answer.k
    if answer.drop:
        found[amended.DROP] = sorted({*amended.dropped(run.history), *answer.drop})
    if answer.add_usd and run.limit_usd is not None:
        found["budget.limit_usd"] = round(run.limit_usd + answer.add_usd, 9)
    return found


def _answered(run: Run, answer: Answer, waited_s: float) -> list[Body]:
    verdict = APPROVED if answer.approve else REJECTED
    said = f": {answer.comment}" if answer.comment else ""
    reason = f"{verdict} by {answer.who} ({answer.how}){said}"
    facts: Facts = {
        "key": answer.key,
        "who": answer.who,
        "how": answer.how,
        "comment": answer.comment,
        "waited_s": waited_s,
    }
    found = changes(run, answer) if answer.approve else {}
    # the changes come first: a decision without them would be acted on
    amendment: list[Body] = [Amended(found, reason)] if found else []  # type: ignore[arg-type]
    return [*amendment, _decided(run.history, verdict, reason, facts)]


def _expired(run: Run, waited_s: float) -> Body:
    settings = run.spec.retrain.approval
    go = settings.on_timeout == "go"
    then = "goes on as planned" if go else "stops until somebody answers"
    reason = f"nobody answered within {settings.timeout_hours or 0:g} h; the run {then}"
    return _decided(run.history, EXPIRED, reason, {"go": go, "waited_s": waited_s})


def _decided(history: History, verdict: str, reason: str, facts: Facts) -> Decided:
    return Decided(KIND, verdict, seen=history.length, reason=reason, facts=facts)
