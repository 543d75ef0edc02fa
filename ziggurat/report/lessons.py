"""The section on what was learned: what made the top architectures good, and where to search next."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import yaml

from ziggurat.report import parallel, words
from ziggurat.report.blocks import Block, Code, Figure, Grid, Heading, Section, plain_table
from ziggurat.report.blocks import Words as Text
from ziggurat.report.dots import Dot, dots
from ziggurat.report.summary import SEARCH
from ziggurat.report.tables import Cell, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.analysis.factors import Factor
    from ziggurat.analysis.importance import Importance
    from ziggurat.analysis.narrow import Narrowing
    from ziggurat.report.case import Case
    from ziggurat.report.findings import Findings

FACTORS = 14
MINUS = "\u2212"
CHOICES = 24
"""Choices that are drawn at most."""
WEIGHED = 14
"""Choices whose importance is drawn; all are in its table."""
WEAK = 0.2
"""Explained share below which importances are not to be trusted."""


def section(case: Case, found: Findings) -> Section:
    """What made the top architectures good."""
    blocks = [*_factors(case, found), *_importances(found), *_parallel(case, found)]
    blocks += _narrowing(case, found)
    return Section("lessons", "What made the good ones good", _lead(found), tuple(blocks))


def _lead(found: Findings) -> str:
    if found.factors:
        told = [f.choice for f in found.factors if f.better]
        names = list(dict.fromkeys(told or [f.choice for f in found.factors]))[:3]
        return f"The best architectures differ from the rest most clearly in {words.listing(names)}."
    return ""


def _factors(case: Case, found: Findings) -> list[Block]:
    """What the best have more often, a row for each, with what goes along with it in every objective."""
    from ziggurat.analysis import factors

    heading = Heading("What separates the best from the rest")
    if not found.factors:
        text = (
            "Nothing separates the best from the rest beyond chance; that takes either more fully trained "
            "trials or larger differences."
        )
        return [heading, Text(text, "empty")]
    told: dict[str, dict[str, Factor]] = {}
    for factor in found.factors:
        told.setdefault(factor.words.partition(": ")[0], {})[factor.metric] = factor
    aims = case.summary.objectives
    head = [Cell("What the best have more often"), Cell("Of the best", "number")]
    head += [
        Cell(f"{_difference(o.metric, case.summary.units[o.metric])} {words.aim(o)}", "number") for o in aims
    ]
    rows = []
    for phrase, by_metric in list(told.items())[:FACTORS]:
        any_of = next(iter(by_metric.values()))
        cells = [_effect(by_metric.get(o.metric)) for o in aims]
        rows.append((Cell(phrase, "strong"), Cell(f"{any_of.count} of {any_of.best}", "number"), *cells))
    hidden = len(told) - len(rows)
    more = f" {hidden} further ones are in report.json." if hidden > 0 else ""
    note = f"With its 95 % interval; green is for the better, yellow is the price. {factors.NOTE}{more}"
    return [heading, Grid(Table(tuple(head), tuple(rows), note), "What separates the best from the rest")]


def _difference(metric: str, unit: str) -> str:
    """What a difference of a metric is called, with its unit."""
    if words.is_accuracy(metric):
        return f"{words.capital(words.name_of(metric))} (points)"
    return words.heading(metric, unit)


def _effect(factor: Factor | None) -> Cell:
    if factor is None:
        return Cell(words.ABSENT, "number")
    effect, low, high = (_shown(factor.metric, v) for v in (factor.effect, factor.low, factor.high))
    style = "good" if factor.better else "warn"
    return Cell(f"{effect} ({low} to {high})", f"number {style}")


def _shown(metric: str, value: float) -> str:
    text = f"{abs(100 * value):.2g}" if words.is_accuracy(metric) else words.bare(metric, abs(value))
    return ("+" if value >= 0 else MINUS) + text


def _importances(found: Findings) -> list[Block]:
    heading = Heading("Which choices matter")
    if not found.importances:
        text = "Too few trials have reached the top rung, or they differ too little, to tell what matters."
        return [heading, Text(text, "empty")]
    order = _order(found.importances)[:WEIGHED]
    shown = [i for i in found.importances if i.choice in order]
    points = [
        Dot(
            i.choice,
            words.capital(words.name_of(i.metric)),
            100 * i.share,
            100 * i.low,
            100 * i.high,
            f"{i.choice} takes part in {100 * i.share:.0f} % of the variance of {words.name_of(i.metric)} "
            f"(95 %: {100 * i.low:.0f} to {100 * i.high:.0f} %)",
        )
        for choice in order
        for i in shown
        if i.choice == choice
    ]
    chart = dots(points, "Share of the variance that the choice takes part in (%)", zero=True)
    rows = [
        (
            i.choice,
            words.name_of(i.metric),
            f"{100 * i.share:.1f}",
            f"{100 * i.low:.1f} to {100 * i.high:.1f}",
        )
        for i in found.importances
    ]
    table = plain_table(("Choice", "Objective", "Share (%)", "95 % interval"), rows)
    first = found.importances[0]
    explained = dict.fromkeys((i.metric, i.explained) for i in found.importances)
    said = words.listing([f"{100 * max(e, 0.0):.0f} % of {words.name_of(m)}" for m, e in explained])
    text = (
        f"{words.capital(first.choice)} matters most to {words.name_of(first.metric)}. The model behind this "
    )
    text += f"explains {said} in trials it was not trained on ({first.trials:,} trials)."
    if any(e < WEAK for _, e in explained):
        text += f" Shares of what is explained below {100 * WEAK:.0f} % mean little."
    return [heading, Figure("importance", "Importance of each choice", chart, text, table)]


def _order(found: Sequence[Importance]) -> list[str]:
    """Choices by their largest share in any objective that is not exact, then by any."""
    best: dict[str, float] = {}
    for i in found:
        best[i.choice] = max(best.get(i.choice, -1.0), i.share)
    return sorted(best, key=lambda name: -best[name])


def _parallel(case: Case, known: Findings) -> list[Block]:
    from ziggurat import rounds

    aims = case.summary.objectives
    done = [t for t in case.history.of_stage(SEARCH) if t.rung >= 0 and t.rung == t.top_rung]
    done = [t for t in done if all(map(math.isfinite, t.losses(aims)))]
    if len(done) < 3:  # noqa: PLR2004 - nothing to see in two lines
        return []
    choices = rounds.space_of(case.spec, case.history, SEARCH).choices()
    kept = set(_order(known.importances)[:CHOICES]) if len(choices) > CHOICES else set()
    if kept:
        choices = {name: choice for name, choice in choices.items() if name in kept}
    found = parallel.rows(choices, done, aims)
    front = [case.history.trials[r.trial] for r in case.summary.front]
    bold, shown = parallel.spread(front), parallel.thinned(done, aims[0])
    chart = parallel.parallel(found, shown, bold, aims[0])
    few = f" ({len(shown):,} of {len(done):,}, evenly over the ranking)" if len(shown) < len(done) else ""
    whole = f"the {words.many(len(front), 'trial')} of the front {'is' if len(front) == 1 else 'are'}"
    part = f"{len(bold)} of the {len(front):,} trials of the front, evenly along it, are"
    most = f" Only the {CHOICES} most important choices are shown." if kept else ""
    text = (
        f"Each line is a fully trained trial{few}, from its choices down to its objectives, better to "
        f"the right; {whole if len(bold) == len(front) else part} in red. Where red lines run together, the "
        f"front agrees. What a trial does not have lies left of the row.{most}"
    )
    heading = Heading("From choices to results")
    return [heading, Figure("parallel", "Parallel coordinates of choices and objectives", chart, text)]


def _narrowing(case: Case, found: Findings) -> list[Block]:
    heading = Heading("Where to search next")
    narrowing = found.narrowing
    if narrowing is None:
        return []
    reasons = [Text(r) for r in narrowing.reasons]
    if not narrowing.changed:
        return [heading, *(reasons or [Text("No narrower space is suggested.")])]
    lost = ""
    if narrowing.lost:
        lost = f" Outside of it lie the front's {words.many(len(narrowing.lost), 'trial')} "
        lost += f"{words.spans(narrowing.lost)}, worth nothing by the reference."
    share = _share(narrowing)
    text = f"A further round could search {share} of the space, as this section of a spec says.{lost}"
    return [heading, Text(text), *reasons, Code(space_yaml(case, narrowing), "space")]


def _share(narrowing: Narrowing) -> str:
    share = 100 * narrowing.kept
    return f"{share:.2g} %" if share < 99 else f"{share:.3g} %"  # noqa: PLR2004


def space_yaml(case: Case, narrowing: Narrowing) -> str:
    """The narrower space as a section of a spec, variables by their names."""
    written = yaml.safe_load(case.facts.spec_text) if case.facts.spec_text else {}
    space = written.get("space") if isinstance(written, dict) else {}
    plain = _with_names(tidy(narrowing.space), space)
    return yaml.safe_dump(
        {"space": plain}, sort_keys=False, allow_unicode=True, width=96, default_flow_style=None
    )


def tidy(space: dict[str, Any]) -> dict[str, Any]:
    """The same space without what is so by default; as it is if that would change it."""
    from pydantic import TypeAdapter

    from ziggurat.spaces import AnySpace

    short = {name: _tidy(value) for name, value in space.items()}
    adapter: TypeAdapter[Any] = TypeAdapter(AnySpace)
    try:
        same = adapter.validate_python(short) == adapter.validate_python(space)
    except ValueError:
        return space
    return short if same else space


def _tidy(value: Any) -> Any:  # noqa: ANN401 - plain YAML
    if isinstance(value, list):
        return [_tidy(v) for v in value]
    if not isinstance(value, dict):
        return value
    usual: dict[str, Any] = {"log": False, "step": None, "when": {}}
    left = {k: _tidy(v) for k, v in value.items() if k not in usual or v != usual[k]}
    return left["values"] if left.keys() == {"values"} else left


def _with_names(plain: Any, written: Any) -> Any:  # noqa: ANN401 - plain YAML
    """Where the spec names a variable, its name and not its value."""
    if isinstance(written, str) and "${" in written:
        return written
    if isinstance(plain, dict) and isinstance(written, dict):
        return {k: _with_names(v, written.get(k)) for k, v in plain.items()}
    if isinstance(plain, list) and isinstance(written, list) and len(plain) == len(written):
        return [_with_names(a, b) for a, b in zip(plain, written, strict=True)]
    return plain
