"""Channels that carry an alert to people, through Apprise: each a thread, a bounded queue and a few retries.

Addresses are secrets: they are never logged, and the logs of Apprise and urllib3, which quote parts of
them, are silenced.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apprise import Apprise

    from ziggurat.events import Alert

log = logging.getLogger(__name__)

CAPACITY = 100
"""Alerts that wait for one channel; further ones are only logged."""
PAUSES_S = (1.0, 4.0, 15.0, 60.0)
"""Pauses before the second, third, ... attempt to deliver an alert."""


def scheme(url: str) -> str:
    """The part of an address that names the service; the only part that may be shown."""
    head, found, _ = url.partition("://")
    return f"scheme '{head}'" if found and head.replace("+", "").isalnum() else "unknown scheme"


def _open(url: str) -> Apprise:
    """Apprise with one address, which may turn out not to be usable."""
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    channel = apprise.Apprise()
    channel.add(url)
    return channel


def usable(url: str) -> bool:
    """Whether Apprise knows what to do with an address; nothing is sent."""
    return len(_open(url)) == 1


class Channel:
    """One address with its thread."""

    def __init__(self, url: str, position: int, pauses_s: Sequence[float] = PAUSES_S) -> None:
        """Start the thread; Apprise is imported there, at the first alert."""
        self.label = f"channel {position} ({scheme(url)})"
        self._url = url
        self._pauses_s = pauses_s
        self._queue: queue.Queue[Alert | None] = queue.Queue(CAPACITY)
        self._abandoned = threading.Event()
        self._left = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"alerts-{position}", daemon=True)
        self._thread.start()

    def put(self, alert: Alert) -> None:
        """Hand an alert over; does not block."""
        with self._lock:
            self._left += 1
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self._done()
            log.warning("alert '%s' is not sent to %s: too many are waiting", alert.key, self.label)

    def close(self, deadline: float) -> int:
        """Deliver what is left until a moment of the monotonic clock; returns what could not be delivered."""
        try:
            self._queue.put(None, timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Full:
            log.warning("%s does not take its alerts", self.label)
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        self._abandoned.set()
        return self._left

    def _done(self) -> None:
        with self._lock:
            self._left -= 1

    def _run(self) -> None:
        channel: Apprise | None = None
        while (alert := self._queue.get()) is not None and not self._abandoned.is_set():
            try:
                channel = channel or _open(self._url)
                self._deliver(channel, alert)
            except Exception as error:  # noqa: BLE001 - a dead channel must not reach the run
                log.warning("alert '%s' did not reach %s (%s)", alert.key, self.label, type(error).__name__)
            self._done()

    def _deliver(self, channel: Apprise, alert: Alert) -> None:
        kind = {"info": "info", "warning": "warning", "critical": "failure"}[alert.severity]
        for pause_s in (*self._pauses_s, None):
            if channel.notify(body=alert.text or alert.title, title=alert.title, notify_type=kind):
                return
            if pause_s is None or self._abandoned.wait(pause_s):
                break
        log.warning("alert '%s' did not reach %s; it is in the journal", alert.key, self.label)
