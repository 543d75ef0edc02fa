"""The alerts of one sitting: what rules are asked about, when, and who delivers what they find."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ziggurat import lease, rounds
from ziggurat.events import Body, Event
from ziggurat.history import History
from ziggurat.launchers import Simulated
from ziggurat.listeners.alert_digest import Digest
from ziggurat.listeners.alerts import Watch, due
from ziggurat.listeners.notifier import Notifier

if TYPE_CHECKING:
    from ziggurat.budget import Ledger
    from ziggurat.choices import Choices
    from ziggurat.engine import Engine
    from ziggurat.runs import Run

LEDGER_S = 10.0
"""How often the account is asked for, whose forecast takes a while."""
TRAINED = 5
"""Trained candidates from which on a forecast is worth an alert."""


class Mirror(Protocol):
    """What is asked of the mirror to the tracking server."""

    @property
    def down(self) -> bool:
        """Whether its last try failed."""

    @property
    def behind(self) -> int:
        """Events that it has not written yet."""


class Alerting:
    """Listens to a run, raises what is due, and delivers it."""

    def __init__(self, run: Run, past: Sequence[Event], mirror: Mirror | None) -> None:
        """Take note of what has happened; what has not arrived in an earlier sitting is sent now."""
        self._run, self._mirror = run, mirror
        spec = run.spec
        self._digest = Digest(spec.alerts.outline(spec.goals(), spec.searching, self._choices))
        for event in past:
            self._digest(event, run.history)
        self._notifier = Notifier(spec.alerts)
        self._notifier.replay(past)
        resources = getattr(spec.launcher, "resources", None)
        self._watch = Watch(
            where=str(run.folder),
            workers=spec.search.workers,
            budget=spec.budget,
            gpus=getattr(resources, "gpus", 0) > 0,
            imagined=isinstance(spec.launcher, Simulated),
            told_utc=lease.told_utc(run.folder, run.store) if self._digest.crashes else (),
        )
        self._down_since: float | None = None
        self._ledger: tuple[float, Ledger] | None = None

    def __call__(self, event: Event, history: History) -> None:
        """Take note of an event, and deliver it if it is an alert."""
        self._digest(event, history)
        self._notifier(event, history)

    def _choices(self, stage: str) -> Choices:
        return rounds.space_of(self._run.spec, self._run.history, stage).choices()

    def tick(self, now_utc: float, engine: Engine) -> list[Body]:
        """What is to be written into the journal now."""
        history = self._run.history
        elapsed = {key: engine.elapsed(key) for key in history.open_segments}
        self._digest.sample(now_utc, engine.usage, elapsed)
        self._watch = replace(
            self._watch,
            since_utc=self._watch.since_utc or now_utc,
            ledger=self._account(engine),
            elapsed=elapsed,
            store_down=self._run.mirror is not None and self._run.mirror.down,
            tracking_down_s=self._tracking_down_s(),
        )
        found: list[Body] = []
        found += due(history, self._digest, now_utc, self._run.spec.alerts, self._watch)
        return found + self._notifier.delivered()

    def _account(self, engine: Engine) -> Ledger:
        """The account, with a forecast as soon as that is measured."""
        now = time.monotonic()
        if self._ledger is None or now - self._ledger[0] >= LEDGER_S:
            self._ledger = now, engine.money.ledger()
        history = self._run.history
        forecast = self._ledger[1].forecast if len(history.paces) >= TRAINED else 0.0
        return replace(self._ledger[1], spent=history.spent_usd, limit=self._run.limit_usd, forecast=forecast)

    def _tracking_down_s(self) -> float | None:
        """For how long the tracking server has not taken anything; None if it has yet to be seen."""
        mirror = self._mirror
        if mirror is None:
            return 0.0
        if not mirror.down:
            self._down_since = None
            return None if mirror.behind else 0.0
        self._down_since = self._down_since or time.monotonic()
        return max(time.monotonic() - self._down_since, 1e-3)

    def close(self, deadline_s: float) -> list[Body]:
        """Deliver what is left for at most some seconds; what has arrived, for the journal."""
        self._notifier.close(deadline_s)
        return self._notifier.delivered()
