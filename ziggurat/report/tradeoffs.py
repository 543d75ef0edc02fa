"""The section on the trade-offs: the Pareto charts, and the front with exact settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ziggurat.domain import Goal
from ziggurat.report import charts, tables, words
from ziggurat.report.blocks import Block, Figure, Grid, Section
from ziggurat.report.blocks import Words as Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.report.case import Case
    from ziggurat.report.panels import Panel, Scale

OPEN = 12
"""Rows up to which the front's table lies open."""


def section(case: Case, panels: Sequence[Panel]) -> Section:
    """The trade-offs."""
    blocks: list[Block] = []
    drawn = [p for p in panels if p.top.x or p.lower.x or p.baseline.x or p.retrained.x]
    trials = len(case.history.of_stage("search"))
    for i, panel in enumerate(panels):
        if panel not in drawn:
            continue
        label = f"{_name(panel.y)} against {_name(panel.x)}"
        small = len(panels) > 1 and i > 0
        chart = charts.pareto(panel, trials, small=small)
        blocks.append(Figure(f"pareto-{i}", label, chart, "" if small else _seen(case, panel), half=small))
    if drawn:
        blocks.append(Text(_how(len(panels)), "note"))
    else:
        blocks.append(Text("No trial has reached a rung, so there is nothing to show.", "empty"))
    table = tables.front(case.summary)
    if table.rows:
        many = len(table.rows) > OPEN
        points = words.many(len(case.summary.front), "point")
        blocks.append(
            Grid(
                table,
                "The front with exact settings",
                f"The front: {points} with exact settings" if many else "",
            )
        )
    else:
        blocks.append(Text("The front is empty.", "empty"))
    return Section("tradeoffs", "The trade-offs", _lead(case), tuple(blocks))


def _name(scale: Scale) -> str:
    if scale.objective is None:
        return "the order of trials"
    return words.capital(words.name_of(scale.objective.metric))


def _lead(case: Case) -> str:
    front, summary = case.summary.front, case.summary
    if not front:
        return ""
    if len(summary.objectives) == 1 or len(front) == 1:
        return f"One trial, number {front[0].trial}, is best in everything."
    middle = next((r for r in front if r.knee), None)
    ends = []
    for objective in summary.objectives[:2]:
        best = min(front, key=lambda r: objective.loss(r.metrics[objective.metric]))
        value = words.shown(objective.metric, best.metrics[objective.metric], summary.units[objective.metric])
        name, other = words.name_of(objective.metric), summary.objectives[0]
        if other is objective:
            other = summary.objectives[1]
        rest = words.phrase(other.metric, best.metrics[other.metric], summary.units[other.metric])
        way = "up" if objective.goal is Goal.MAXIMIZE else "down"
        ends.append(f"{name} {way} to {value} (with {rest})")
    knee = f"; the balanced choice, the knee, is trial {middle.trial}" if middle is not None else ""
    return (
        f"{len(front)} trials are better than all others in one way or another: {words.listing(ends)}{knee}."
    )


def _seen(case: Case, panel: Panel) -> str:
    parts = [words.many(len(panel.top.x), "trial") + " at the top rung"]
    if panel.lower.x:
        parts.append(f"{len(panel.lower.x):,} that ended below it")
    if panel.baseline.x:
        parts.append(f"{len(panel.baseline.x):,} of random search")
    if panel.retrained.x:
        parts.append(f"{words.many(len(panel.retrained.x), 'model')} after full training")
    edge = f"; {len(case.summary.front):,} of them form the front" if panel.front.x else ""
    return f"{words.listing(parts)}{edge}."


def _how(panels: int) -> str:
    more = (
        " Circles mark the front over all objectives; each line is the edge of what was reached in its pair."
        if panels > 1
        else ""
    )
    return (
        "Colour tells the order of the trials; the star is the reference point, where a trial is worth "
        "nothing. Diamonds are retrained models with bars from their worst to their best seed, each tied "
        f"to its trial in the search.{more} Hover over a point for its exact settings; drag to zoom, double-"
        "click to go back."
    )
