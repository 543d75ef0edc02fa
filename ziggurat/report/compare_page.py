"""The page of a comparison: one file that opens without a network, and the same numbers as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat.errors import SpecError
from ziggurat.files import write_whole
from ziggurat.report import compare_charts, compare_tables, words
from ziggurat.report.blocks import Figure, Grid, Section, Words, figures
from ziggurat.report.markup import environment, packed_plotly, script_json
from ziggurat.report.plain import finite, objective_json

if TYPE_CHECKING:
    from ziggurat.report.compare import Comparison, Entry, Group, Spread

TEMPLATE = "compare.html.jinja"
SEEDS = "Thick lines are medians, as far as all seeds of a setting went; thin lines are single runs. "
NOTHING = Words("No trial has reached the top rung within all limits.", "empty")


def write(folder: Path, comparison: Comparison, *, utc: float, version: str) -> Path:
    """Write `index.html` and `compare.json`, and return the path of the page.

    Raises:
        SpecError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plain(comparison), indent=2, allow_nan=False, ensure_ascii=False)
        write_whole(folder / "compare.json", f"{text}\n".encode())
        write_whole(folder / "index.html", render(comparison, utc=utc, version=version).encode())
    except OSError as error:
        raise SpecError(f"{folder}: cannot be written ({error.strerror}); name another with --out") from None
    return folder / "index.html"


def render(comparison: Comparison, *, utc: float, version: str) -> str:
    """The page as text."""
    parts = sections(comparison)
    drawn = [{"id": f.id, "label": f.label, **f.chart} for f in figures(parts)]
    moment = datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    runs, groups = len(comparison.entries), len(comparison.groups)
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            title=words.many(runs, "run")
            + ("" if groups == runs else f" of {words.many(groups, 'setting')}"),
            names=", ".join(comparison.names),
            sentences=sentences(comparison),
            warnings=comparison.notes,
            sections=parts,
            footer=f"Written by Ziggurat {version}, {moment}.",
            payload=script_json({"charts": drawn}),
            plotly=packed_plotly() if drawn else "",
        )
    )


def sections(comparison: Comparison) -> list[Section]:
    """The parts of the page behind the answer."""
    money = "money" if comparison.priced else "worker time"
    known = any(e.curve.cost for e in comparison.entries)
    differing = compare_tables.differences(comparison)
    single = compare_tables.runs(comparison)
    found = [
        Section(
            "numbers", "The numbers", blocks=(Grid(compare_tables.groups(comparison), "Settings compared"),)
        ),
        Section(
            "cost",
            f"What was reached for which {money}",
            blocks=_progress(comparison) if known else (NOTHING,),
        ),
        Section("fronts", "The fronts on top of one another", blocks=_fronts(comparison)),
        Section(
            "specs",
            "Where the specs differ",
            blocks=(Grid(differing, "Settings that differ"),)
            if differing.rows
            else (Words("In nothing but seed and name.", "empty"),),
        ),
        Section("runs", "The single runs", blocks=(Grid(single, "Runs"),)),
    ]
    shown = {"fronts": known and len(comparison.objectives) > 1, "runs": bool(single.rows)}
    return [s for s in found if shown.get(s.id, True)]


def _progress(comparison: Comparison) -> tuple[Figure, ...]:
    metric, unit = comparison.metric, comparison.units.get(comparison.metric, "1")
    best = words.heading(metric, unit)
    legend = SEEDS if any(len(g.entries) > 1 for g in comparison.groups) else ""
    legend += "A diamond marks the knee: beyond it, a further dollar brought less than the average one. "
    legend += "At the dotted line all runs had spent the same."
    label = f"Best {best[:1].lower()}{best[1:]} so far"
    return (
        Figure(
            "best",
            f"Best {words.name_of(metric)} so far, against cost",
            compare_charts.best(comparison, label),
            legend,
        ),
        Figure("volume", "Hypervolume of the front so far, against cost", compare_charts.volume(comparison)),
    )


def _fronts(comparison: Comparison) -> tuple[Figure, ...]:
    told = (
        "Trials that no other trial of their run beats in all objectives, as far as they beat the reference."
    )
    return tuple(
        Figure(f"front-{i}", label, chart, told if i == 0 else "")
        for i, (label, chart) in enumerate(compare_charts.fronts(comparison))
    )


def sentences(comparison: Comparison) -> list[str]:
    """The answer first: what leads at equal cost, what found most in the end, and how sure that is."""
    leader, second = comparison.leader, comparison.second
    if leader is None:
        return ["No run has an answer yet: no trial has reached the top rung within all limits."]
    cost = _cost(comparison, comparison.equal_cost)
    said = f"For the same {cost}, which is what the cheapest run cost, {leader.label} is ahead: "
    said += f"hypervolume {_span(leader.volume)}"
    if second is not None:
        said += f" against {_span(second.volume)} of {second.label}"
    said += f", and {_metric(comparison, leader.best)}."
    found = [said, _in_the_end(comparison, leader), _sureness(leader, second)]
    return [s for s in found if s]


def _in_the_end(comparison: Comparison, leader: Group) -> str:
    first = comparison.groups[0]
    spent = first.spread(lambda e: e.curve.total)
    volume = first.spread(lambda e: e.volume)
    best = first.spread(lambda e: e.best)
    whose = "It also" if first is leader else first.label
    told = (
        f"{whose} found most in the end, whatever it cost"
        if first is not leader
        else f"{whose} found most in the end"
    )
    return (
        f"{words.capital(told)}: hypervolume {_span(volume)} and {_metric(comparison, best)} "
        f"for {_cost(comparison, spent.median)}."
    )


def _sureness(leader: Group, second: Group | None) -> str:
    """Whether the seeds of the leader and the next one overlap."""
    if second is None:
        return ""
    if min(len(leader.entries), len(second.entries)) == 1:
        return "With one seed of a setting this may be luck; repeat it with other seeds before relying on it."
    if leader.volume.low <= second.volume.high:
        return f"The seeds of {leader.label} and {second.label} overlap, so the difference may be luck."
    return f"Every seed of {leader.label} is ahead of every seed of {second.label}."


def _span(spread: Spread) -> str:
    middle = words.number(spread.median, 4)
    if spread.low == spread.high:
        return middle
    return f"{middle} ({words.number(spread.low, 4)} to {words.number(spread.high, 4)})"


def _metric(comparison: Comparison, spread: Spread) -> str:
    metric = comparison.metric
    text = words.phrase(metric, spread.median, comparison.units.get(metric, "1"))
    return text if spread.low == spread.high else f"{text} (median of its seeds)"


def _cost(comparison: Comparison, cost: float) -> str:
    return words.usd(cost) if comparison.priced else f"{words.duration(cost)} of worker time"


def plain(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain JSON values."""
    return {
        "objectives": [objective_json(o, comparison.units[o.metric]) for o in comparison.objectives],
        "cost_unit": "usd" if comparison.priced else "worker_s",
        "equal_cost": comparison.equal_cost,
        "leader": None if comparison.leader is None else comparison.leader.label,
        "answer": sentences(comparison),
        "groups": [
            {
                "label": group.label,
                "strategy": group.strategy,
                "hypervolume_at_equal_cost": _spread_json(group.volume),
                f"{comparison.metric}_at_equal_cost": _spread_json(group.best),
                "hypervolume": _spread_json(group.spread(lambda e: e.volume)),
                "cost": _spread_json(group.spread(lambda e: e.curve.total)),
                "runs": [_entry_json(comparison, e) for e in group.entries],
            }
            for group in comparison.groups
        ],
        "differences": {key: list(values) for key, values in comparison.differences},
        "notes": list(comparison.notes),
    }


def _spread_json(spread: Spread) -> dict[str, float | None]:
    return {"median": finite(spread.median), "low": finite(spread.low), "high": finite(spread.high)}


def _entry_json(comparison: Comparison, entry: Entry) -> dict[str, Any]:
    return {
        "run_id": entry.run_id,
        "seed": entry.seed,
        "status": entry.status,
        "trials": entry.trials,
        "cost": entry.curve.total,
        "run_cost_usd": entry.total_usd,
        "hypervolume": entry.volume,
        f"best_{comparison.metric}": finite(entry.best),
        "cost_per_point": finite(compare_tables.per_point(entry)),
        "cost_per_front_point": finite(compare_tables.per_front_point(entry)),
        "knee_cost": finite(compare_tables.knee(entry)),
        "front": [
            {
                "trial": t.number,
                "metrics": {o.metric: finite(t.value(o.metric)) for o in comparison.objectives},
            }
            for t in entry.front
        ],
    }
