"""What a run means: two or three plain sentences, and one more for each question that people ask first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.report import questions, words
from ziggurat.report.ending import ending
from ziggurat.report.pick import pick

if TYPE_CHECKING:
    from ziggurat.report.case import Case
    from ziggurat.report.findings import Findings
    from ziggurat.report.results import RetrainedRow, Statistic


@dataclass(frozen=True)
class Answer:
    """The answer to one question: a sentence, and how it is marked (`good`, `warn`, `bad` or not at all)."""

    question: str
    text: str
    mark: str = ""


def sentences(case: Case) -> list[str]:
    """How the run ended if not as planned, the best point, and what retraining confirmed."""
    end = ending(case)
    found = _retrained(case) if case.summary.retrained else ""
    if not end:
        return [_best(case), found or _no_retraining(case)]
    return [end, *(s for s in (_best(case), found) if s)]


def answers(case: Case, found: Findings) -> list[Answer]:
    """One sentence for each question, without those that have no answer."""
    model = pick(case.summary)
    cost = [Answer("What it cost", *questions.cost(case))] if case.history.started_utc else []
    if model is None:
        return cost
    kept, mark = questions.limits(case, model)
    rows = [
        Answer("Which model", questions.model(case, model)),
        Answer("How good", questions.quality(case, model)),
        Answer("How fast", questions.speed(case, model)),
        Answer("How large", questions.size(case, model)),
        Answer("Against the reference", questions.reference(case, model)),
        Answer("Against random search", questions.random_search(case, found)),
        Answer("Limits", kept, mark),
        *cost,
    ]
    return [row for row in rows if row.text]


def _best(case: Case) -> str:
    summary = case.summary
    if not summary.front:
        return _nothing(case)
    row, (first, *others) = summary.front[0], summary.objectives
    parts = [words.phrase(o.metric, row.metrics[o.metric], summary.units[o.metric]) for o in others]
    reached = words.phrase(first.metric, row.metrics[first.metric], summary.units[first.metric])
    chance = case.facts.chance.get(first.metric)
    skill = f" (chance: {words.shown(first.metric, chance)})" if chance is not None else ""
    front = (
        f"; the front offers {words.many(len(summary.front), 'trade-off')}" if len(summary.front) > 1 else ""
    )
    what = f" with {words.listing(parts)}" if parts else ""
    total = words.many(summary.counts.total, "trial")
    return f"The best of {total}, trial {row.trial}, reaches {reached}{skill}{what}{front}."


def _nothing(case: Case) -> str:
    counts = case.summary.counts
    if not counts.total:
        rejected = words.many(counts.rejected, "candidate")
        broke = f": {rejected} would have broken a limit" if counts.rejected else ""
        return f"No trial was started{broke}, so there is no front."
    ends = [(counts.completed, "reached the top rung outside a limit or without every objective known")]
    ends += [(counts.stopped, "stopped early"), (counts.failed, "failed"), (counts.open, "not finished")]
    listed = words.listing([f"{n:,} {what}" for n, what in ends if n])
    return f"None of the {words.many(counts.total, 'trial')} is an answer ({listed}), so there is no front."


def _retrained(case: Case) -> str:
    best = case.summary.front[0].trial if case.summary.front else None
    model = pick(case.summary)
    assert model is not None
    assert model.retrained is not None
    row = model.retrained
    if not row.metrics:
        return f"Trial {row.trial} was retrained with the full recipe, but reported no metric."
    metric, stat = judged(row, case)
    value = words.shown(metric, stat.mean, stat.unit)
    if stat.spread is not None:
        bare = words.spread(metric, stat.mean, stat.spread)
        unit = words.unit_of(metric, stat.unit)
        value = f"{bare} {unit}".strip()
    over = f"over {words.many(len(row.seeds), 'seed')}" if len(row.seeds) > 1 else "with one seed"
    sealed = " on the sealed test set" if metric.startswith("test_") else ""
    name = words.name_of(metric)
    who = "it" if row.trial == best else f"trial {row.trial}"
    return f"Retrained with the full recipe, {who} reaches {value} {name}{sealed} {over}."


def judged(row: RetrainedRow, case: Case) -> tuple[str, Statistic]:
    """The sealed test's metric if it was looked at, else the first objective's, else any."""
    first = case.summary.objectives[0].metric
    order = {"test_accuracy": 0, f"test_{first.removeprefix('val_')}": 0, first: 2}

    def place(name: str) -> int:
        # a script's test command may tell other metrics than an accuracy
        return order.get(name.partition("@")[0], 1 if name.startswith("test_") else 3)

    return min(row.metrics.items(), key=lambda pair: place(pair[0]))


def _no_retraining(case: Case) -> str:
    if not case.spec.retrain.enabled:
        return "Retraining was switched off, so nothing was checked on the sealed test set."
    return "No model was retrained, so nothing was checked on the sealed test set."
