"""The section on how the run went: stages and money, machines, failures, alerts, and what people decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ziggurat.report import progress_charts, run_tables, stage_charts, words
from ziggurat.report.blocks import Block, Figure, Grid, Heading, Pairs, Section
from ziggurat.report.blocks import Words as Text
from ziggurat.report.stage_costs import stage_costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.events import Amended, Decided
    from ziggurat.history import History
    from ziggurat.report.case import Case
    from ziggurat.report.progress import Spend
    from ziggurat.report.stage_costs import StageCost

FOLD = 12
"""Words on alerts up to which their table lies open."""


def section(case: Case, lines: Sequence[Spend]) -> Section:
    """How the run went."""
    found = stage_costs(case)
    blocks = [*_money(case, found, lines), *_rounds(case), *_decided(case), *_machines(found)]
    blocks += [*_failures(case.history), *_alerts(case.history)]
    for stage, pairs in run_tables.details(case.history):
        blocks.append(Pairs(pairs, f"What the stage {stage} noted"))
    return Section("course", "How the run went", _lead(case, found), tuple(blocks))


def _lead(case: Case, found: Sequence[StageCost]) -> str:
    done = [s for s in found if s.projected_usd is not None and s.verdict not in {"", "unfinished"}]
    projected = sum(s.projected_usd or 0.0 for s in done)
    actual = sum(s.usd for s in done)
    if not case.priced or projected <= 0:
        return ""
    off = actual / projected - 1
    how = f"{words.percent(abs(off))} {'more' if off > 0 else 'less'} than"
    return (
        f"The stages that have ended cost {words.usd(actual)}, "
        f"{'as much as' if abs(off) < 0.005 else how} projected before they began."
    )


def _money(case: Case, found: Sequence[StageCost], lines: Sequence[Spend]) -> list[Block]:
    if not found:
        return [Text("No stage has begun.", "empty")]
    spent = case.summary.cost_usd
    blocks: list[Block] = [Heading("Stages and their cost"), Grid(run_tables.stages(found, spent), "Stages")]
    paid = [s for s in found if s.seconds or s.usd or s.projected_usd or s.projected_s]
    if paid:
        charged = sum(s.charged_usd for s in found)
        text = (
            f"{words.usd(charged)} of it went for machines that were idle, queued or worked in vain."
            if charged
            else "No money went for idle or queued machines."
        )
        chart = stage_charts.costs(paid, case.priced)
        label = "Projected against actual cost of each stage"
        blocks.append(Figure("stages", label, chart, text if case.priced else ""))
    if lines:
        chart = progress_charts.cost(lines, case.priced, case.spec.budget.plan_usd, case.limit_usd)
        blocks.append(Figure("cost", "Cost over time", chart, _over_time(case)))
    return blocks


def _over_time(case: Case) -> str:
    limit = case.limit_usd
    if not case.priced:
        return "Nothing has a price, so this is worker time."
    charged = sum(c.cost_usd for c in case.history.charges)
    more = f" Without the {words.usd(charged)} for idle or queued machines." if charged else ""
    if limit is None:
        return f"There is no limit to the cost.{more}"
    return f"At the end {words.percent(case.summary.cost_usd / limit)} of the limit is spent.{more}"


def _rounds(case: Case) -> list[Block]:
    """Where each round after the first began."""
    found = [d for d in case.history.decisions if d.kind == "narrowed"]
    if not found:
        return []
    pairs = []
    for each in found:
        kept = each.facts.get("kept")
        share = f", {100 * kept:.2g} % of the space" if isinstance(kept, float) and kept < 1 else ""
        pairs.append((str(each.facts.get("stage", "")), f"{each.verdict}{share}. {each.reason}"))
    return [Heading("Rounds: where each began"), Pairs(tuple(pairs))]


def _decided(case: Case) -> list[Block]:
    """What people approved and changed while the run went."""
    pairs = [_approval(d) for d in case.history.decisions if d.kind == "approval"]
    pairs += [_amendment(a) for a in case.history.amendments]
    return [Heading("Approval and changes"), Pairs(tuple(pairs))] if pairs else []


def _approval(decision: Decided) -> tuple[str, str]:
    facts = ", ".join(f"{k.replace('_', ' ')} {run_tables.text(v)}" for k, v in decision.facts.items())
    said = [decision.reason, facts]
    return f"Approval {decision.verdict}", "; ".join(s for s in said if s) or "before full retraining"


def _amendment(amended: Amended) -> tuple[str, str]:
    changes = ", ".join(f"{key} = {run_tables.text(value)}" for key, value in amended.changes.items())
    return "Changed", changes + (f" ({amended.reason})" if amended.reason else "")


def _machines(found: Sequence[StageCost]) -> list[Block]:
    table = run_tables.machines(found)
    return [Heading("Use of the machines"), Grid(table, "Use of the machines by stage")] if table.rows else []


def _failures(history: History) -> list[Block]:
    table = run_tables.failures(history)
    heading = Heading("Failures")
    return [
        heading,
        Grid(table, "Failures by kind") if table.rows else Text("No segment has failed.", "empty"),
    ]


def _alerts(history: History) -> list[Block]:
    heading, log = Heading("Alerts"), history.alert_log
    if not log:
        return [heading, Text("No alert was raised.", "empty")]
    grave = [a for a in history.alerts.values() if a.severity != "info"]
    standing = sum(a.state == "raised" for a in grave)
    notices = len(history.alerts) - len(grave)
    text = (
        f"{words.many(len(grave), 'alert')}, {standing:,} of them not resolved at the end"
        if grave
        else "No alert"
    )
    text += f"; {words.many(notices, 'notice')}." if notices else "."
    chart = stage_charts.alerts(log, history.started_utc, history.last_utc)
    table = run_tables.alerts(log, history.started_utc)
    many = len(table.rows) > FOLD
    return [
        heading,
        Figure("alerts", "Alerts over time", chart, text),
        Grid(table, "Alerts, oldest first", f"All {len(log):,} words on alerts" if many else ""),
    ]
