"""The front as a table for the terminal: plain text, and a rich table where there is a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ziggurat.report import words
from ziggurat.report.tables import predictions, shared

if TYPE_CHECKING:
    from rich.table import Table

    from ziggurat.report.results import FrontRow, Summary

GAP = "  "
NARROWEST = 12
"""Columns that the settings get even if the terminal is too narrow for them."""


def pareto_table(summary: Summary, width: int = 100) -> str:
    """The front as plain text, best first on the first objective.

    Args:
        summary: The run.
        width: Columns of the terminal; settings are cut to fit.
    """
    if not summary.front:
        return "The front is empty: no trial reached the top rung within all limits."
    head = ["trial", *_heads(summary), "settings"]
    rows = [[_number(r), *_values(r, summary), _settings(r, summary)] for r in summary.front]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head) - 1)]
    room = max(NARROWEST, width - sum(widths) - len(GAP) * len(widths))
    lines = [_line(row, widths, room) for row in [head, *rows]]
    rule = "-" * min(width, max(map(len, lines)))
    return "\n".join([lines[0], rule, *lines[1:], *_notes(summary, width)])


def pareto_rich(summary: Summary) -> Table:
    """The front as a rich table, best first on the first objective."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    notes = "\n".join(_notes(summary, 10_000)) or None
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption=None if notes is None else Text(notes),
        caption_justify="left",
    )
    table.add_column("trial", justify="right", no_wrap=True)
    for head in _heads(summary):
        table.add_column(Text(head.replace(" (", "\n(", 1)), justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for row in summary.front:
        style = "bold" if row.knee else ""
        cells = [_number(row), *_values(row, summary), _settings(row, summary)]
        # Text, not str: a setting may contain square brackets, which rich would read as markup
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _heads(summary: Summary) -> list[str]:
    return [
        f"{words.name_of(o.metric)}{f' ({unit})' if unit else ''} {words.aim(o)}"
        for o in summary.objectives
        for unit in [words.unit_of(o.metric, summary.units[o.metric])]
    ]


def _number(row: FrontRow) -> str:
    return f"{'*' if row.knee else ''}{row.trial}"


def _values(row: FrontRow, summary: Summary) -> list[str]:
    return [words.bare(o.metric, row.metrics[o.metric]) for o in summary.objectives]


def _settings(row: FrontRow, summary: Summary) -> str:
    same = shared([r.candidate for r in summary.front])
    return words.settings(row.candidate.choices, frozenset(same)).replace("  ", " ")


def _line(row: list[str], widths: list[int], room: int) -> str:
    *cells, settings = row
    padded = [cell.rjust(w) for cell, w in zip(cells, widths, strict=True)]
    return GAP.join([*padded, cut(settings, room)]).rstrip()


def cut(text: str, width: int) -> str:
    """The text, or its beginning with an ellipsis if it is too long."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def _notes(summary: Summary, width: int) -> list[str]:
    same = shared([r.candidate for r in summary.front])
    notes = ["* the knee of the front, the balanced choice"] if any(r.knee for r in summary.front) else []
    if predicted := predictions(summary):
        notes.append(cut(predicted, width))
    if same:
        notes.append(cut("the same for all: " + " ".join(f"{n}={v}" for n, v in same.items()), width))
    return notes
