"""The live view of a run in a terminal: stages, trials, the front so far, money, workers and the last events.

Events only update a few counters; a thread of rich draws them at most four times a second. What other code
prints or logs meanwhile appears above the view.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ziggurat.domain import TrialStatus
from ziggurat.listeners import progress_words as words
from ziggurat.listeners.progress_picture import Picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from ziggurat.events import Event
    from ziggurat.history import History
    from ziggurat.listeners.progress_words import Outline

TICKS = {"": (" ", "dim"), "…": ("▸", "cyan"), "ok": ("✓", "green"), "skipped": ("-", "dim")}
FAILED = ("✗", "red")
TOP = 5
"""Rows of the front."""
BAR = 30
"""Width of a bar in characters."""


class Live:
    """Listener that keeps a view in a terminal up to date."""

    def __init__(
        self,
        stream: TextIO,
        outline: Outline,
        now_utc: Callable[[], float] = time.time,
        console: Console | None = None,
    ) -> None:
        """Open the view; `console` replaces the one made for the stream."""
        self._picture = Picture(outline)
        self._now_utc = now_utc
        self._lock = threading.Lock()
        self._live: RichLive | None = RichLive(
            get_renderable=self._draw, console=console or Console(file=stream), refresh_per_second=4
        )
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []
        self._live.start()
        self._lead_logs()

    def __call__(self, event: Event, history: History) -> None:
        """Take an event into account; it is drawn later."""
        with self._lock:
            self._picture.apply(event, history)

    def close(self) -> None:
        """Draw the last state, leave it on the screen, and give the terminal back."""
        live, self._live = self._live, None
        for handler, stream in self._handlers:
            handler.setStream(stream)
        # a terminal that has gone away must not fail the run
        with contextlib.suppress(OSError, ValueError):
            if live is not None:
                live.stop()

    def _lead_logs(self) -> None:
        """Lead log handlers that hold the terminal through rich, which replaces the standard streams."""
        through = {sys.__stdout__: sys.stdout, sys.__stderr__: sys.stderr}
        for handler in _handlers():
            new = through.get(handler.stream)
            if new is not None and new is not handler.stream:
                self._handlers.append((handler, handler.setStream(new)))

    def _draw(self) -> RenderableType:
        with self._lock:
            return draw(self._picture, self._now_utc())


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    named = [x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    for logger in [logging.root, *named]:
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler):
                yield handler


def draw(picture: Picture, now_utc: float) -> RenderableType:
    """The whole view."""
    parts: list[RenderableType] = [_title(picture, now_utc), _stages(picture), _bars(picture)]
    if picture.front:
        more = (
            f", the best {TOP} by {picture.outline.objectives[0].metric}:"
            if len(picture.front) > TOP
            else ":"
        )
        parts += [Text(f"front of {len(picture.front)} trials{more}", "italic"), _front(picture)]
    lines = [
        Text(f"{clock:>8} {text}", "dim", no_wrap=True, overflow="ellipsis") for clock, text in picture.recent
    ]
    return Group(*parts, *lines)


def _title(picture: Picture, now_utc: float) -> Text:
    elapsed = words.clock(now_utc - picture.begun_utc) if picture.begun_utc else "0:00"
    status = picture.status.replace("_", " ")
    text = Text(no_wrap=True, overflow="ellipsis")
    return text.append(picture.run_id or "starting", "bold").append(
        f"  {status}  {elapsed}  {picture.outline.run_dir}"
    )


def _stages(picture: Picture) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for stage, verdict in picture.stages.items():
        tick, style = TICKS.get(verdict, FAILED)
        text.append(f"{tick} {stage}  ", style)
    return text


def _bars(picture: Picture) -> Table:
    outline = picture.outline
    table = Table.grid(padding=(0, 1))
    counts = " · ".join(f"{picture.counts[s]} {s}" for s in TrialStatus if picture.counts.get(s))
    table.add_row(
        "trials",
        ProgressBar(total=outline.trials, completed=picture.judged, width=BAR),
        f"{picture.judged}/{outline.trials}  {counts}",
    )
    spent = words.usd(picture.spent_usd)
    if outline.limit_usd is not None:
        bar = ProgressBar(total=outline.limit_usd, completed=picture.spent_usd, width=BAR)
        table.add_row("budget", bar, f"{spent} of {words.usd(outline.limit_usd)}")
    else:
        table.add_row("budget", f"{spent}, no limit", "")
    table.add_row(
        "workers",
        ProgressBar(total=outline.workers, completed=picture.busy, width=BAR),
        f"{picture.busy}/{outline.workers} busy",
    )
    return table


def _front(picture: Picture) -> Table:
    table = Table(box=None)
    table.add_column("trial", justify="right")
    for objective in picture.outline.objectives:
        table.add_column(objective.metric, justify="right")
    for trial in picture.front[:TOP]:
        values = (words.number(trial.value(o.metric)) for o in picture.outline.objectives)
        table.add_row(str(trial.number), *values)
    return table
