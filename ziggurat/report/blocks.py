"""What a page is made of: sections, and in them words, tables, figures and the like, without any markup.

The template knows these shapes and nothing of runs; sections know runs and nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ziggurat.report.tables import Cell, Table

Chart = dict[str, Any]
MOST = 300
"""Rows at most of a table that stands for a figure."""


@dataclass(frozen=True)
class Words:
    """A paragraph; `style` is empty, `note`, `empty` or `warning`."""

    text: str
    style: str = ""
    kind: ClassVar[str] = "words"


@dataclass(frozen=True)
class Heading:
    """The heading of a part of a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Grid:
    """A table; `folded` is the line that unfolds it, empty for one that lies open."""

    table: Table
    caption: str
    folded: str = ""
    kind: ClassVar[str] = "grid"


@dataclass(frozen=True)
class Figure:
    """A chart with a sentence that says what is to be seen in it, and its numbers as a table.

    Attributes:
        id: Its place on the page.
        label: What it shows, as a title.
        chart: `data` and `layout` for plotly.js.
        summary: What is to be seen, in words.
        table: Its numbers; None where another table of the section has them.
        half: Whether it may stand beside another one.
    """

    id: str
    label: str
    chart: Chart
    summary: str = ""
    table: Table | None = None
    half: bool = False
    kind: ClassVar[str] = "figure"

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.chart["layout"]["height"])


@dataclass(frozen=True)
class Pairs:
    """Names with their values; `code` names those that are to be typed; `folded` as for a grid."""

    pairs: tuple[tuple[str, str], ...]
    folded: str = ""
    code: frozenset[str] = frozenset()
    kind: ClassVar[str] = "pairs"


@dataclass(frozen=True)
class Code:
    """Text to be copied; `folded` as for a grid."""

    text: str
    id: str
    folded: str = ""
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Links:
    """Addresses beside the page, each with what it is called."""

    before: str
    links: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "links"


Block = Words | Heading | Grid | Figure | Pairs | Code | Links


@dataclass(frozen=True)
class Section:
    """A part of the page: the sentence that it argues for, and the evidence."""

    id: str
    title: str
    lead: str = ""
    blocks: tuple[Block, ...] = field(default_factory=tuple)

    @property
    def rows(self) -> list[list[Block]]:
        """Blocks that stand beside each other, from the top; figures that may, two and two."""
        found: list[list[Block]] = []
        for block in self.blocks:
            last = found[-1] if found else []
            if len(last) == 1 and _half(last[0]) and _half(block):
                last.append(block)
            else:
                found.append([block])
        return found


def _half(block: Block) -> bool:
    return isinstance(block, Figure) and block.half


def figures(sections: Sequence[Section]) -> list[Figure]:
    """All charts of some sections, in order."""
    return [block for section in sections for block in section.blocks if isinstance(block, Figure)]


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]], first: str = "") -> Table:
    """A table of texts: the first column as it is, the others as numbers; cut off where it gets long."""
    columns = tuple(Cell(text, first if i == 0 else "number") for i, text in enumerate(head))
    body = tuple(
        tuple(Cell(text, first if i == 0 else "number") for i, text in enumerate(row)) for row in rows[:MOST]
    )
    hidden = len(rows) - len(body)
    return Table(columns, body, f"{hidden:,} further rows are in report.json." if hidden > 0 else "")
