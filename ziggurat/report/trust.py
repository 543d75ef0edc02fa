"""The section on what the numbers rest on: gate, agreement of cheap and dear, surrogate, rungs, diversity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ziggurat.report import fit_charts, progress_charts, verdicts, words
from ziggurat.report.blocks import Block, Figure, Heading, Section, plain_table
from ziggurat.report.blocks import Words as Text
from ziggurat.report.findings import window_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.analysis.crossval import Fit
    from ziggurat.report.agreement import Agreement
    from ziggurat.report.case import Case
    from ziggurat.report.findings import Findings
    from ziggurat.report.progress import RungBar
    from ziggurat.report.tables import Table

PROMISED = 0.95
GOOD, POOR = 0.6, 0.3
"""Kendall's tau above which rankings agree well, and below which they hardly do."""


def section(case: Case, found: Findings, bars: Sequence[RungBar]) -> Section:
    """How far the numbers can be trusted."""
    blocks: list[Block] = [*_agreement(case, found), *_surrogate(case, found)]
    blocks += [*_rungs(bars), *_diversity(case, found)]
    if found.broken:
        parts = [f"{name} ({error})" for name, error in found.broken.items()]
        blocks.append(Text(f"Could not be worked out: {'; '.join(parts)}.", "warning"))
    return Section("trust", "How far to trust it", _lead(found), tuple(blocks))


def _lead(found: Findings) -> str:
    told = next((a for a in found.agreements if math.isfinite(a.tau)), None)
    if told is None:
        return ""
    how = "well" if told.tau >= GOOD else ("somewhat" if told.tau >= POOR else "hardly")
    what = "The lowest rung and the top rung" if told.id == "rungs" else "Search and full training"
    return f"{what} agree {how} on which trials are better (Kendall's tau {_signed(told.tau)})."


def _agreement(case: Case, found: Findings) -> list[Block]:
    blocks: list[Block] = [Heading("Does the cheap setting rank as the dear one?")]
    gate = verdicts.gate(case)
    if gate is not None:
        blocks.append(Text(f"{gate.text} Verdict: {gate.verdict}.", "warning" if gate.overridden else ""))
    blocks += [Text(text) for text in verdicts.before(case)]
    choice = case.history.decision("proxy_choice")
    if choice is not None:
        blocks.append(Text(f"{choice.reason}."))
    for each in found.agreements:
        unit = case.summary.units.get(each.metric, "1")
        label = {
            "rungs": "Lowest rung against top rung",
            "retrained": "Search against full training",
        }[each.id]
        chart = fit_charts.ranked(each, unit)
        figure = Figure(f"agreement-{each.id}", label, chart, _ranks(each), _pairs(each), half=True)
        blocks.append(figure)
    if len(blocks) == 1:
        blocks.append(Text("No two trials were judged by both, so this is not known.", "empty"))
    return blocks


def _ranks(found: Agreement) -> str:
    what = {
        "rungs": f"{found.count} trials that the search took to the top",
        "retrained": f"{found.count} retrained models",
    }[found.id]
    if found.id == "rungs" and all(found.probed):
        what = f"{found.count} probes"
    if not math.isfinite(found.tau):
        return f"Kendall's tau is not defined for these {what}."
    text = f"Kendall's tau is {_signed(found.tau)} over {what}"
    if math.isfinite(found.tau_low):
        text += f" (95 % interval {_signed(found.tau_low)} to {_signed(found.tau_high)})."
    else:
        text += "; so few say little."
    if found.id == "rungs" and not all(found.probed):
        text += " Only what was good early is here, which makes tau smaller than it is over all candidates."
    return text


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "\u2212")


def _pairs(found: Agreement) -> Table:
    head = ["Trial", "Lowest rung", "Top rung"]
    if found.id == "retrained":
        head = ["Trial", "Search", "Full training", "Worst and best seed"]
    rows = []
    for i, number in enumerate(found.trials):
        row = [str(number), *(words.shown(found.metric, v[i]) for v in (found.cheap, found.dear))]
        if found.low:
            low, high = (words.shown(found.metric, v[i]) for v in (found.low, found.high))
            row.append(f"{low} to {high}")
        rows.append(row)
    return plain_table(head, rows, "number")


def _surrogate(case: Case, found: Findings) -> list[Block]:
    fits = [f for f in found.fits if f.coverage is not None]
    notes = [_readable(f) for f in found.fits if f.coverage is None and f.note]
    if not found.fits:
        return []
    blocks: list[Block] = [Heading("Could the results have been predicted?")]
    for fit in fits:
        unit = case.summary.units.get(fit.metric, "1")
        label = (
            f"{words.capital(words.name_of(fit.metric))}: predicted from the other trials against measured"
        )
        chart = fit_charts.held_out(fit, unit)
        blocks.append(Figure(f"fit-{fit.metric}", label, chart, _coverage(fit), _held_out(fit), half=True))
    if fits:
        blocks.append(Text(f"{_readable(fits[0])} Bars are 95 % intervals.", "note"))
    blocks += [Text(" ".join(dict.fromkeys(notes)), "note")] if notes else []
    return blocks


def _readable(fit: Fit) -> str:
    """What was done, with the metric's name for people."""
    return words.capital(fit.note.replace(fit.metric, words.name_of(fit.metric)))


def _coverage(fit: Fit) -> str:
    assert fit.coverage is not None
    text = (
        f"{words.percent(fit.coverage)} of {len(fit.trials)} measured values lie within their 95 % interval"
    )
    low, high = fit.coverage_low, fit.coverage_high
    if low is not None and high is not None:
        verdict = _promised(fit.coverage, low, high)
        text += f", {verdict} (by chance {words.percent(low)} to {words.percent(high)})"
    if fit.rank_correlation is not None:
        text += f"; Spearman's rank correlation is {_signed(fit.rank_correlation)}"
    return text + "."


def _promised(coverage: float, low: float, high: float) -> str:
    """Whether as many lie in their intervals as should."""
    if low <= PROMISED <= high:
        return "as they should"
    return "too few" if coverage < PROMISED else "more than promised"


def _held_out(fit: Fit) -> Table:
    rows = [
        (
            str(n),
            words.shown(fit.metric, o),
            words.shown(fit.metric, p),
            f"{words.bare(fit.metric, a)} to {b}",
        )
        for n, o, p, a, b in zip(
            fit.trials,
            fit.observed,
            fit.predicted,
            fit.low,
            (words.shown(fit.metric, v) for v in fit.high),
            strict=True,
        )
    ]
    return plain_table(("Trial", "Measured", "Predicted", "95 % interval"), rows, "number")


def _rungs(bars: Sequence[RungBar]) -> list[Block]:
    heading = Heading("Which trials were stopped early, and where")
    if not bars:
        return [heading, Text("No trial has been started.", "empty")]
    done = sum(b.completed for b in bars)
    total = sum(b.completed + b.stopped + b.failed for b in bars)
    text = (
        f"{done:,} of {words.many(total, 'trial')} {'was' if done == 1 else 'were'} trained to the top rung."
    )
    rows = [(b.label, str(b.completed), str(b.stopped), str(b.failed)) for b in bars]
    table = plain_table(("Ended at", "Completed", "Stopped early", "Failed"), rows)
    chart = progress_charts.rungs(bars)
    return [heading, Figure("rungs", "Trials that ended at each rung", chart, text, table)]


def _diversity(case: Case, found: Findings) -> list[Block]:
    window = window_of(case.spec)
    if len(found.diversity) < 2:  # noqa: PLR2004 - no line
        return []
    # the beginning is where a full window lies for the first time
    first = next((v for i, v in found.diversity if i >= window - 1), found.diversity[0][1])
    last = found.diversity[-1][1]
    text = (
        f"Two of the last {window} proposals differ in {last:.1f} choices on average, two of the first "
        f"{window} differed in {first:.1f}"
    )
    marks = []
    if found.unlike:
        rule = case.spec.alerts.rules.low_diversity
        floor = rule.share * found.unlike if rule.distance is None else rule.distance
        marks = [("random candidates", found.unlike), ("alarm below", floor)]
        text += f"; random candidates would in {found.unlike:.1f}"
    chart = fit_charts.diversity(found.diversity, marks)
    rows = [(str(i + 1), f"{v:.2f}") for i, v in found.diversity]
    table = plain_table(("Trial", "Choices that differ"), rows[:: max(1, len(rows) // 60)], "number")
    label = f"Diversity of the last {window} proposals"
    return [Heading("Did the search keep exploring?"), Figure("diversity", label, chart, f"{text}.", table)]
