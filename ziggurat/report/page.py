"""The page and its neighbours on disk: `index.html`, `front.json` and four images.

The page is one file that opens without a network: the drawing library and all data lie inside, and its
content security policy forbids every request. Each file is written whole (temporary name, then rename).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat.files import write_whole
from ziggurat.report import (
    answer,
    charts,
    devices,
    images,
    panels,
    progress,
    progress_charts,
    progress_images,
    run_tables,
    tables,
    words,
)
from ziggurat.report.answer import Case
from ziggurat.report.hover import hover
from ziggurat.report.plain import front_json
from ziggurat.report.redact import redacted, without_login
from ziggurat.report.summary import BASELINE, SEARCH, summarize

if TYPE_CHECKING:
    from ziggurat.history import History
    from ziggurat.report.facts import ReportFacts
    from ziggurat.report.panels import Panel
    from ziggurat.report.progress import RungBar, Spend, Step
    from ziggurat.spec import Spec

TEMPLATE = Path(__file__).with_name("template.html.jinja")
Chart = dict[str, Any]


def write_report(folder: Path, spec: Spec, history: History, *, utc: float, facts: ReportFacts) -> Path:
    """Write the report of a run in any state, and return the path of its page.

    Args:
        folder: Where `index.html`, `front.json` and the images go; made if it is not there.
        spec: The run's spec.
        history: What has happened.
        utc: Now, in seconds since the epoch.
        facts: What the history does not know.

    Raises:
        OSError: The folder cannot be written.
    """
    summary = summarize(spec.goals(), history, workers=spec.search.workers, status=facts.status, utc=utc)
    case = Case(spec, history, summary, facts)
    folder.mkdir(parents=True, exist_ok=True)
    series = series_of(case)
    plain = json.dumps(front_json(summary), indent=2, allow_nan=False, ensure_ascii=False)
    write_whole(folder / "front.json", (plain + "\n").encode())
    priced, trials = summary.cost_usd > 0, _trials(case)
    write_whole(folder / "pareto.png", images.pareto(series.panels, trials))
    write_whole(folder / "hypervolume.png", progress_images.volume(series.steps, series.baseline, priced))
    write_whole(folder / "rungs.png", progress_images.rungs(series.bars))
    write_whole(
        folder / "cost.png", progress_images.cost(series.lines, priced, spec.budget.plan_usd, case.limit_usd)
    )
    # the page is written last, so its existence means that the rest is there
    write_whole(folder / "index.html", render(case, series, utc).encode())
    return folder / "index.html"


@dataclass(frozen=True)
class Series:
    """Everything that is drawn, computed once for page and images."""

    panels: list[Panel]
    steps: list[Step]
    baseline: list[Step]
    bars: list[RungBar]
    lines: list[Spend]


def series_of(case: Case) -> Series:
    """What is drawn of a run."""
    history, summary = case.history, case.summary
    return Series(
        panels=panels.panels(summary, history),
        steps=progress.growth(history, summary.objectives, SEARCH),
        baseline=progress.growth(history, summary.objectives, BASELINE),
        bars=progress.rung_bars(history),
        lines=progress.spending(history),
    )


def _trials(case: Case) -> int:
    return len(case.history.of_stage(SEARCH))


def render(case: Case, series: Series, utc: float) -> str:
    """The page as text."""
    import jinja2
    from plotly.offline import get_plotlyjs

    drawn = _charts(case, series)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    priced = case.summary.cost_usd > 0
    return template.render(
        name=case.spec.name,
        data=case.facts.data,
        status=str(case.summary.status),
        begun=bool(case.history.of_stage(SEARCH) or case.summary.retrained),
        status_title=answer.TITLES[case.summary.status],
        sentences=answer.sentences(case),
        cards=tables.cards(case),
        retrained=tables.retrained(case),
        measured=devices.table(case),
        model_cards=sorted(case.facts.cards.items()),
        retraining=answer.retraining_state(case),
        looks=answer.looks(case.facts.test_looks),
        unchecked=answer.unchecked(case),
        pareto=[_place(c) for c in drawn if c["id"].startswith("pareto")],
        volume=_named(drawn, "volume"),
        volume_note=_volume_note(priced),
        rungs=_named(drawn, "rungs"),
        cost=_named(drawn, "cost"),
        front=tables.front(case.summary),
        stages=run_tables.stages(case),
        gate=answer.gate(case),
        details=run_tables.details(case.history),
        failures=run_tables.failures(case.history),
        alerts=list(case.history.alerts.values()),
        identity=_identity(case),
        spec_text=case.facts.spec_text if case.facts.spec_text is not None else redacted(case.spec.plain()),
        footer=_footer(case, utc),
        payload=script_json({**hover(case), "charts": drawn}),
        plotly=get_plotlyjs(),
    )


def script_json(plain: object) -> str:
    """JSON that cannot end or open a script element, whatever text is in it."""
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _charts(case: Case, series: Series) -> list[Chart]:
    """The charts that have something to show, each with the id of its place on the page."""
    priced = case.summary.cost_usd > 0
    found: list[tuple[str, str, Chart]] = []
    for i, panel in enumerate(series.panels):
        if panel.top.x or panel.lower.x or panel.baseline.x or panel.retrained.x:
            label = f"{panel.y.title} against {panel.x.title}"
            found.append((f"pareto-{i}", label, charts.pareto(panel, _trials(case))))
    if series.steps or series.baseline:
        found.append(
            (
                "volume",
                "Hypervolume against cost",
                progress_charts.volume(series.steps, series.baseline, priced),
            )
        )
    if series.bars:
        found.append(("rungs", "Trials that ended at each rung", progress_charts.rungs(series.bars)))
    if series.lines:
        plan, limit = case.spec.budget.plan_usd, case.limit_usd
        found.append(("cost", "Cost over time", progress_charts.cost(series.lines, priced, plan, limit)))
    return [{"id": name, "label": label, **chart} for name, label, chart in found]


def _place(chart: Chart) -> Chart:
    return {"id": chart["id"], "label": chart["label"], "height": chart["layout"]["height"]}


def _named(drawn: list[Chart], name: str) -> Chart | None:
    return next((_place(c) for c in drawn if c["id"] == name), None)


def _volume_note(priced: bool) -> str:
    along = (
        "all money the search had spent"
        if priced
        else "all worker time the search had taken (its price is 0)"
    )
    return (
        "The hypervolume is what the front dominates, measured from the reference point; it only grows. "
        f"A step is a trial that finished the top rung and improved the front, drawn at {along} by then."
    )


def _identity(case: Case) -> list[tuple[str, str]]:
    facts, spec = case.facts, case.spec
    pairs = [
        ("Run", case.history.run_id or "not started"),
        ("Spec hash", f"sha256 {spec.sha256()}"),
        ("Seed", str(spec.seed)),
        ("Repeat", facts.command),
        ("Continue", facts.resume),
        ("Compare", without_login(facts.mlflow)),
        *(
            ("Amended", f"{_changes(a.changes)}{f' ({a.reason})' if a.reason else ''}")
            for a in case.history.amendments
        ),
    ]
    return [(name, value) for name, value in pairs if value]


def _changes(changes: Any) -> str:  # noqa: ANN401 - facts of an event
    return ", ".join(f"{key} = {value}" for key, value in changes.items())


def _footer(case: Case, utc: float) -> str:
    version = f" {case.facts.version}" if case.facts.version else ""
    begun = ""
    if case.history.started_utc:
        took = words.duration(case.summary.wall_s)
        begun = f" The run started {_moment(case.history.started_utc)} and took {took}."
    return f"Written by Ziggurat{version}, {_moment(utc)}.{begun}"


def _moment(utc: float) -> str:
    return datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
