"""Progress of a run for people: a live view in a terminal, plain lines everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TextIO

from ziggurat.listeners import progress_words

if TYPE_CHECKING:
    from ziggurat.events import Event
    from ziggurat.history import History
    from ziggurat.listeners.progress_words import Outline


class View(Protocol):
    """A listener that shows what happens."""

    def __call__(self, event: Event, history: History) -> None:
        """Take an event into account."""

    def close(self) -> None:
        """Show the last state and leave the stream in order."""


class Plain:
    """Listener that writes a line for each notable event, with the time since the run began."""

    def __init__(self, stream: TextIO, outline: Outline) -> None:
        """Nothing is written before the first event."""
        self._stream: TextIO | None = stream
        self._outline = outline

    def __call__(self, event: Event, history: History) -> None:
        """Write a line if the event is notable."""
        text = progress_words.line(event, history, self._outline)
        if text is None or self._stream is None:
            return
        elapsed = progress_words.clock(event.utc - history.started_utc)
        try:
            self._stream.write(f"[{elapsed:>7}] {' '.join(text.split())}\n")
            self._stream.flush()
        except (OSError, ValueError):
            # the reader is gone, such as a closed pipe; the run goes on unwatched
            self._stream = None

    def close(self) -> None:
        """Nothing is held back, so there is nothing to do."""


def progress(stream: TextIO, outline: Outline) -> View:
    """The view that suits a stream."""
    if not stream.isatty():
        return Plain(stream, outline)
    from ziggurat.listeners.progress_live import Live

    return Live(stream, outline)
