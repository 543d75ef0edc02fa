"""How a watchdog delivers what it tells: through the channels of each run, or through its own."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ziggurat.listeners.channels import KINDS, Channel, Kind, Message
from ziggurat.watch_places import Home, Incident, Whom


@dataclass
class Sent:
    """What was handed to channels, and whether one of them has delivered it."""

    home: Home
    incident: Incident
    version: str
    heard: bool = False


@dataclass(frozen=True)
class Delivery:
    """What has arrived: at which channel, and whether it is the first to deliver this."""

    sent: Sent
    label: str
    first: bool


class Post:
    """Channels by address, and what is under way in them."""

    def __init__(self, urls: Sequence[str], environment: Mapping[str, str]) -> None:
        """Nothing is opened before something is sent.

        Args:
            urls: Addresses in place of those of the runs' own specs.
            environment: Values of the variables in those specs.
        """
        self._urls, self._environment = tuple(urls), environment
        self._channels: dict[str, Channel] = {}
        self._labels: dict[str, str] = {}
        self._numbers = itertools.count()
        self._under_way: dict[int, Sent] = {}
        self._unheard: list[Delivery] = []

    def whom(self, home: Home) -> Whom:
        """Whom the alerts of a run reach."""
        found = home.whom(self._environment)
        if not self._urls:
            return found
        return replace(found, addresses={f"--url[{i}]": url for i, url in enumerate(self._urls)})

    @staticmethod
    def claim() -> str:
        """A name for a telling that no other has."""
        return uuid.uuid4().hex

    @staticmethod
    def kind(whom: Whom) -> Kind:
        """How a channel shows an alarm."""
        return KINDS[whom.rule.severity]

    def send(self, home: Home, whom: Whom, message: Message, incident: Incident, version: str) -> None:
        """Hand a message to all channels of a run; does not block."""
        sent = Sent(home, incident, version)
        if not whom.addresses:
            self._unheard.append(Delivery(sent, "", first=True))
        for label, url in whom.addresses.items():
            if url not in self._channels:
                self._channels[url], self._labels[url] = Channel(label, url), label
            number = next(self._numbers)
            self._under_way[number] = sent
            self._channels[url].put(replace(message, number=number))

    def delivered(self) -> list[Delivery]:
        """What has arrived since this was last asked."""
        found, self._unheard = self._unheard, []
        for url, channel in self._channels.items():
            for number in channel.arrived():
                sent = self._under_way.pop(number)
                found.append(Delivery(sent, self._labels[url], first=not sent.heard))
                sent.heard = True
        return found

    def carries(self, incident: Incident) -> bool:
        """Whether this very telling is under way here."""
        return any(sent.incident.claim == incident.claim for sent in self._under_way.values())

    @property
    def under_way(self) -> int:
        """Messages that have not arrived yet."""
        return len(self._under_way)

    def close(self, deadline_s: float) -> int:
        """Deliver what is left for at most some seconds; how much could not be."""
        deadline = time.monotonic() + deadline_s
        return sum(channel.close(deadline) for channel in self._channels.values())
