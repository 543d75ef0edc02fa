"""Channels that carry messages to people, through Apprise: each a thread, a queue and tries as it takes.

Addresses are secrets: they are never logged, and the logs of Apprise and urllib3, which quote parts of
them, are silenced.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from apprise import Apprise

    from ziggurat.events import Alert

log = logging.getLogger(__name__)

CAPACITY = 1000
"""Messages that wait for one channel; what comes then is not sent."""
PAUSES_S = (1.0, 4.0, 15.0, 60.0)
"""Pauses before the second, third, ... attempt; the last one before all that follow."""
PACE_S = 0.2
"""Seconds between two messages to a service that has no limits of its own."""
LATE_S = 60.0
"""A message that arrives so much later says when it was written."""
Kind = Literal["info", "warning", "failure", "success"]
KINDS: Mapping[str, Kind] = {"info": "info", "warning": "warning", "critical": "failure"}


@dataclass(frozen=True)
class Message:
    """What is to be delivered; `number` tells it from others of the same run."""

    number: int
    title: str
    body: str
    kind: Kind
    utc: float


def message_of(alert: Alert, run_id: str, number: int, utc: float) -> Message:
    """An alert as people read it."""
    over = alert.state == "resolved"
    title = f"[{run_id}] {'RESOLVED: ' if over else ''}{alert.title}"
    return Message(
        number, title, alert.text or alert.title, "success" if over else KINDS[alert.severity], utc
    )


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
    for service in channel:
        # 5.5 s for services whose limits Apprise does not know, e-mail among them; those it knows are kept
        if service.request_rate_per_sec == apprise.NotifyBase.request_rate_per_sec:
            service.request_rate_per_sec = PACE_S
    return channel


def usable(url: str) -> bool:
    """Whether Apprise knows what to do with an address; nothing is sent."""
    return len(_open(url)) == 1


def send(channel: Apprise, message: Message) -> bool:
    """Whether a channel has taken a message."""
    late = time.time() - message.utc > LATE_S
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(message.utc))
    return bool(
        channel.notify(
            body=f"{message.body}\n({when})" if late else message.body,
            title=message.title,
            notify_type=message.kind,
            body_format="text",  # otherwise e-mail takes it for HTML
        )
    )


def try_all(addresses: Mapping[str, str], message: Message) -> dict[str, bool]:
    """Whether each of some channels, by what it is called, takes a message at the first attempt."""

    def attempt(url: str) -> bool:
        try:
            return send(_open(url), message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message has not arrived
            log.warning("%s: %s", scheme(url), type(error).__name__)
            return False

    with ThreadPoolExecutor(max(1, len(addresses)), "alerts") as senders:
        return dict(zip(addresses, senders.map(attempt, addresses.values()), strict=True))


class Channel:
    """One address with its thread, which starts with the first message and keeps their order as it can.

    As long as nothing arrives, the channel is taken to be down and everything waits. A message that is
    refused again and again while others arrive is given up.
    """

    def __init__(self, label: str, url: str, pauses_s: Sequence[float] = PAUSES_S) -> None:
        """Apprise is imported in the thread, at the first message."""
        self.label = f"channel '{label}' ({scheme(url)})"
        self._url, self._pauses_s = url, tuple(pauses_s)
        self._changed = threading.Condition()
        self._waiting: deque[Message] = deque()
        self._tries: dict[int, tuple[int, int]] = {}
        self._arrived: list[int] = []
        self._arrivals = self._failures = self._lost = 0
        self._closing = self._abandoned = False
        self._thread: threading.Thread | None = None

    def put(self, message: Message) -> None:
        """Hand a message over; does not block."""
        with self._changed:
            if len(self._waiting) >= CAPACITY:
                self._lost += 1
                return
            self._waiting.append(message)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
                self._thread.start()
            self._changed.notify()

    def arrived(self) -> list[int]:
        """Numbers of the messages that have arrived since this was last asked."""
        with self._changed:
            found, self._arrived = self._arrived, []
        return found

    def close(self, deadline: float) -> int:
        """Deliver what is left until a moment of the monotonic clock; returns what could not be delivered."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(max(deadline - time.monotonic(), 0.0))
        with self._changed:
            self._abandoned = True
            return len(self._waiting) + self._lost

    def _run(self) -> None:
        channel: Apprise | None = None
        while (message := self._next()) is not None:
            error = ""
            try:
                channel = channel or _open(self._url)
                taken = send(channel, message)
            except Exception as caught:  # noqa: BLE001 - a dead channel must not reach the run
                taken, error = False, f" ({type(caught).__name__})"
            if taken:
                self._take_out(message)
            elif not self._put_off(message, error):
                return

    def _next(self) -> Message | None:
        """The message to be sent next; None if there will be none."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            return None if self._abandoned or not self._waiting else self._waiting[0]

    def _take_out(self, message: Message) -> None:
        with self._changed:
            self._waiting.remove(message)
            self._arrived.append(message.number)
            self._tries.pop(message.number, None)
            self._arrivals += 1
            failures, self._failures = self._failures, 0
        if failures:
            log.warning("%s takes alerts again", self.label)

    def _put_off(self, message: Message, error: str) -> bool:
        """Wait before the next attempt; False if there will be none."""
        with self._changed:
            first = self._failures == 0
            self._failures += 1
            tries, others = self._tries.get(message.number, (0, self._arrivals))
            self._tries[message.number] = tries + 1, others
            if tries >= len(self._pauses_s):
                self._waiting.remove(message)
                if others < self._arrivals:  # it is the message's fault
                    self._lost += 1
                    log.warning("an alert was refused %d times by %s", tries + 1, self.label)
                else:
                    self._waiting.append(message)
            if self._closing:
                return False
        if first:
            log.warning("%s does not take alerts%s; they wait, and the run goes on", self.label, error)
        return self._rest(self._pauses_s[min(self._failures, len(self._pauses_s)) - 1])

    def _rest(self, pause_s: float) -> bool:
        """Wait for so long, or until the end; whether to go on."""
        deadline = time.monotonic() + pause_s
        with self._changed:
            while not self._closing and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return not self._abandoned
