"""The listener that takes alerts out of the stream of events, to the log and to the channels of the spec.

What is worth an alert is decided in `alerts`; how it reaches people is the matter of `channels`. What has
arrived is journalled, so that a resumed run, wherever that is, sends what has not. A crash between an arrival
and its line in the journal sends the message once more: everything arrives at least once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ziggurat.events import Alert, Body, Decided, Event
from ziggurat.listeners.channels import PAUSES_S, Channel, message_of

if TYPE_CHECKING:
    from ziggurat.history import History
    from ziggurat.listeners.alerts import Alerts

log = logging.getLogger(__name__)

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}
DELIVERED = "delivered"
"""Kind of the decisions that say which alerts have arrived; the verdict names the channel."""


class Notifier:
    """Listener that delivers alerts."""

    def __init__(self, settings: Alerts, pauses_s: Sequence[float] = PAUSES_S) -> None:
        """Open a channel for each address; without addresses alerts are logged only."""
        self._settings = settings
        self._channels = {label: Channel(label, url, pauses_s) for label, url in settings.addresses().items()}

    def replay(self, events: Iterable[Event]) -> None:
        """Send what has not arrived in earlier sessions: of each alert the latest word.

        What was raised and was over again before anybody heard of it is news no more, unless it was critical.
        """
        alerts: dict[str, list[Event]] = {}
        arrived: set[tuple[str, int]] = set()
        for event in events:
            if isinstance(event.body, Alert):
                alerts.setdefault(event.body.key, []).append(event)
            elif isinstance(event.body, Decided) and event.body.kind == DELIVERED:
                numbers = event.body.facts.get("alerts")
                arrived |= {(event.body.verdict, int(n)) for n in numbers or () if isinstance(n, int)}  # type: ignore[union-attr]
        for told in alerts.values():
            self._send_again(told, arrived)

    def _send_again(self, told: Sequence[Event], arrived: set[tuple[str, int]]) -> None:
        """The latest word on one alert, to those channels that have not heard it."""
        last = told[-1]
        alert = last.body
        assert isinstance(alert, Alert)
        for label in self._settings.reached(alert):
            heard = any((label, event.seq) in arrived for event in told[:-1])
            stale = alert.state == "resolved" and alert.severity != "critical" and not heard
            if (label, last.seq) not in arrived and not stale:
                self._channels[label].put(message_of(alert, last.run_id, last.seq, last.utc))

    def __call__(self, event: Event, history: History) -> None:
        """Log an alert and hand it to the channels."""
        alert = event.body
        if not isinstance(alert, Alert):
            return
        over = alert.state == "resolved"
        level = logging.INFO if over else LEVELS[alert.severity]
        title = f"{'resolved: ' if over else ''}{alert.title}"
        log.log(level, "%s%s", title, f": {alert.text}" if alert.text else "")
        for label in self._settings.reached(alert):
            self._channels[label].put(message_of(alert, event.run_id, event.seq, event.utc))

    def delivered(self) -> list[Body]:
        """What has arrived since this was last asked, for the journal."""
        found = ((label, channel.arrived()) for label, channel in self._channels.items())
        return [
            Decided(DELIVERED, label, facts={"alerts": [*numbers]}) for label, numbers in found if numbers
        ]

    def close(self, deadline_s: float) -> int:
        """Deliver what is left for at most some seconds; returns how many deliveries did not happen."""
        deadline = time.monotonic() + deadline_s
        count = 0
        for channel in self._channels.values():
            left = channel.close(deadline)
            count += left
            if left:
                log.warning(
                    "%d alerts have not reached %s; they are in the journal, and resuming the run sends them",
                    left,
                    channel.label,
                )
        return count
