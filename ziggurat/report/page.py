"""The report on disk: `index.html`, `front.json`, `report.json` and four images.

The page is one file that opens without a network: the drawing library and all data lie inside, and its
content security policy forbids every request. Each file is written whole (temporary name, then rename).
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ziggurat.files import write_whole
from ziggurat.report import (
    course,
    gains,
    images,
    lessons,
    models,
    panels,
    progress,
    progress_images,
    repeat,
    tradeoffs,
    trust,
    verdicts,
)
from ziggurat.report.blocks import Section, Words
from ziggurat.report.case import Case
from ziggurat.report.findings import Findings, findings
from ziggurat.report.machine import report_json
from ziggurat.report.markup import render_page
from ziggurat.report.plain import front_json
from ziggurat.report.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Callable

    from ziggurat.history import History
    from ziggurat.report.facts import ReportFacts
    from ziggurat.report.panels import Panel
    from ziggurat.report.progress import RungBar, Spend
    from ziggurat.spec import Spec

log = logging.getLogger(__name__)

__all__ = ["Case", "render", "sections", "series_of", "write_report"]


def write_report(folder: Path, spec: Spec, history: History, *, utc: float, facts: ReportFacts) -> Path:
    """Write the report of a run in any state, and return the path of its page.

    Args:
        folder: Where the page and its neighbours go; made if it is not there.
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
    found = findings(case)
    series = series_of(case)
    _write_json(folder / "front.json", front_json(summary), indent=2)
    _write_json(folder / "report.json", report_json(case, found), indent=None)
    _write_images(folder, case, found, series)
    # the page is written last, so its existence means that the rest is there
    write_whole(folder / "index.html", render(case, series, utc, found).encode())
    return folder / "index.html"


def _write_json(path: Path, plain: object, *, indent: int | None) -> None:
    text = json.dumps(plain, indent=indent, allow_nan=False, ensure_ascii=False)
    write_whole(path, (text + "\n").encode())


def _write_images(folder: Path, case: Case, found: Findings, series: Series) -> None:
    trials = len(case.history.of_stage("search"))
    plan = case.spec.budget.plan_usd
    write_whole(folder / "pareto.png", images.pareto(series.panels, trials))
    write_whole(folder / "hypervolume.png", progress_images.volume(found.curve, found.random))
    write_whole(folder / "rungs.png", progress_images.rungs(series.bars))
    write_whole(folder / "cost.png", progress_images.cost(series.lines, case.priced, plan, case.limit_usd))


@dataclass(frozen=True)
class Series:
    """What page and images both draw, computed once."""

    panels: list[Panel]
    bars: list[RungBar]
    lines: list[Spend]


def series_of(case: Case) -> Series:
    """What is drawn of a run."""
    return Series(
        panels=panels.panels(case.summary, case.history),
        bars=progress.rung_bars(case.history),
        lines=progress.spending(case.history),
    )


def sections(case: Case, series: Series, found: Findings) -> list[Section]:
    """The argument of the page; what cannot have begun is left out."""
    made: list[tuple[str, Callable[[], Section]]] = []
    if case.history.of_stage("search") or case.summary.retrained:
        made = [
            ("The models", lambda: models.section(case)),
            ("The trade-offs", lambda: tradeoffs.section(case, series.panels)),
            ("What the money brought", lambda: gains.section(case, found)),
            ("What made the good ones good", lambda: lessons.section(case, found)),
        ]
    if made or verdicts.judged(case):
        made.append(("How far to trust it", lambda: trust.section(case, found, series.bars)))
    made.append(("How the run went", lambda: course.section(case, series.lines)))
    made.append(("How to repeat this", lambda: repeat.section(case)))
    return [_guarded(f"part-{i}", title, make) for i, (title, make) in enumerate(made)]


def _guarded(name: str, title: str, make: Callable[[], Section]) -> Section:
    """A section; one that cannot be made says so, and leaves the others alone."""
    try:
        return make()
    except Exception as error:
        log.warning("the report goes without its part '%s': %s", title, error)
        log.debug("its traceback", exc_info=True)
        text = f"This part could not be made ({type(error).__name__}: {error})."
        return Section(name, title, "", (Words(text, "warning"),))


def render(case: Case, series: Series, utc: float, found: Findings | None = None) -> str:
    """The page as text."""
    found = findings(case) if found is None else found
    return render_page(case, found, sections(case, series, found), utc)
