"""The listener that takes alerts out of the stream of events, to the log and to the channels of the spec.

What is worth an alert is decided in `alerts`; how it reaches people is the matter of `channels`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ziggurat.events import Alert, Event
from ziggurat.listeners.channels import PAUSES_S, Channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ziggurat.history import History

log = logging.getLogger(__name__)

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


class Notifier:
    """Listener that delivers every alert once."""

    def __init__(self, urls: Sequence[str], pauses_s: Sequence[float] = PAUSES_S) -> None:
        """Open a channel for each address; without addresses alerts are logged only."""
        self._channels = [Channel(url, i, pauses_s) for i, url in enumerate(urls)]
        self._seen: set[str] = set()

    def replay(self, events: Iterable[Event]) -> None:
        """Take note of alerts of earlier sessions, which are not sent again."""
        self._seen |= {event.body.key for event in events if isinstance(event.body, Alert)}

    def __call__(self, event: Event, history: History) -> None:
        """Log an alert and hand it to the channels."""
        alert = event.body
        if not isinstance(alert, Alert) or alert.key in self._seen:
            return
        self._seen.add(alert.key)
        log.log(LEVELS[alert.severity], "%s%s", alert.title, f": {alert.text}" if alert.text else "")
        for channel in self._channels:
            channel.put(replace(alert, title=f"[{event.run_id}] {alert.title}"))

    def close(self, deadline_s: float) -> int:
        """Deliver what is left for at most some seconds; returns how many deliveries did not happen."""
        deadline = time.monotonic() + deadline_s
        return sum(channel.close(deadline) for channel in self._channels)
