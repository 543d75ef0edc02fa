"""The page as text: sections put into the template, data and the drawing library put into the page.

The library is compressed, which makes the page a third as large; the page's script unpacks it. Where a
browser is too old for that, or has no JavaScript, the tables and the images beside the page say the same.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat.report import answer, machine, verdicts, words
from ziggurat.report.blocks import figures
from ziggurat.report.case import TITLES
from ziggurat.report.hover import hover
from ziggurat.report.tables import cards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from ziggurat.report.blocks import Section
    from ziggurat.report.case import Case
    from ziggurat.report.findings import Findings

HERE = Path(__file__).parent
TEMPLATE = "template.html.jinja"
UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|MB|points?|seeds?)(?![\w]))")


def render_page(case: Case, found: Findings, sections: Sequence[Section], utc: float) -> str:
    """The page as text."""
    drawn: list[dict[str, Any]] = [{"id": f.id, "label": f.label, **f.chart} for f in figures(sections)]
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            name=case.spec.name,
            data=case.facts.data,
            status=str(case.summary.status),
            status_title=TITLES[case.summary.status],
            sentences=answer.sentences(case),
            warnings=verdicts.overrides(case),
            answers=answer.answers(case, found),
            cards=cards(case),
            sections=sections,
            footer=_footer(case, utc),
            payload=script_json(machine.plain({**hover(case, figures(sections)), "charts": drawn})),
            plotly=packed_plotly() if drawn else "",
            plotly_version=_plotly_version(),
        )
    )


def environment() -> Environment:
    """Where the templates of pages lie, with the filters that they use."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["tied"] = tied
    return found


def tied(text: str) -> str:
    """Text in which a number and its unit stay on one line."""
    return UNIT.sub("\u00a0", text)


def script_json(plain: object) -> str:
    """JSON that cannot end or open a script element, whatever text is in it."""
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@lru_cache(maxsize=1)
def packed_plotly() -> str:
    """The drawing library, by gzip and base64."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _plotly_version() -> str:
    from plotly.offline import get_plotlyjs_version

    return str(get_plotlyjs_version())


def _footer(case: Case, utc: float) -> str:
    version = f" {case.facts.version}" if case.facts.version else ""
    begun = ""
    if case.history.started_utc:
        took = words.duration(case.summary.wall_s)
        begun = f" The run started {_moment(case.history.started_utc)} and took {took}."
    return f"Written by Ziggurat{version}, {_moment(utc)}.{begun}"


def _moment(utc: float) -> str:
    return datetime.fromtimestamp(utc, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
