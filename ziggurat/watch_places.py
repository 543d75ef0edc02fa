"""Where a watchdog finds runs, and what it reads and keeps there: in directories and in stores alike."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ziggurat import journal_chain, lease, run_places, stores
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.lease import LEASE, WATCH, Lease
from ziggurat.listeners.alert_rules_course import ControllerCrashed
from ziggurat.listeners.alerts import Alerts
from ziggurat.runs import JOURNAL, SPEC
from ziggurat.spec_files import expand, parse_yaml
from ziggurat.stores import ABSENT, Store, StoreError

log = logging.getLogger(__name__)

KEPT = 20
"""Times of alarms that are kept."""


@dataclass(frozen=True)
class Incident:
    """What has been told of a run's silence.

    Attributes:
        state: `claimed`: a watcher is about to tell; `told`; `over`: so was its end, if anybody had heard.
        mark: The last sign of life before the silence.
        claim: Unlike that of any other telling.
        raised: When alarms were raised, by the watchers' clocks, oldest first.
        who: Host of the watcher, for people.
    """

    state: str
    mark: str
    claim: str
    raised: tuple[float, ...]
    who: str = ""

    def as_told(self) -> Incident:
        """The same, once somebody has heard."""
        return replace(self, state="told")


@dataclass(frozen=True)
class Whom:
    """Whom the alerts of a run reach, and by which rule.

    Attributes:
        rule: The run's rule for controllers that crash.
        addresses: Channels by what they are called.
    """

    rule: ControllerCrashed = field(default_factory=ControllerCrashed)
    addresses: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Home:
    """One run where it lies.

    Attributes:
        name: Its run id.
        where: How `ziggurat resume` is told of it.
        store: Reads and writes small things beside its journal.
        folder: Its run directory, if it is one.
    """

    name: str
    where: str
    store: Store
    folder: Path | None = None

    def lease(self) -> Lease | None:
        """The last sign of life; None if there is none."""
        found = self.store.get(LEASE)
        if found is None:
            return None
        try:
            return lease.from_bytes(found[0])
        except ValueError as error:
            raise StoreError(f"{self.where}/{LEASE}: cannot be read ({error})") from None

    def incident(self) -> tuple[Incident | None, str]:
        """What has been told, and the version of that."""
        found = self.store.get(WATCH)
        if found is None:
            return None, ABSENT
        try:
            plain = json.loads(found[0])
            raised = tuple(float(utc) for utc in plain.pop("raised"))
            plain.pop("v")
            return Incident(**plain, raised=raised), found[1]
        except (ValueError, TypeError, KeyError, AttributeError):
            log.warning("%s/%s: cannot be read; it is written anew", self.where, WATCH)
            return None, found[1]

    def note(self, incident: Incident, version: str) -> str:
        """Keep what is told, if nobody has written since; the new version.

        Raises:
            ConflictError: Somebody has.
            StoreError: It cannot be written.
        """
        kept = replace(incident, raised=incident.raised[-KEPT:])
        return self.store.put(WATCH, json.dumps({"v": 1, **asdict(kept)}).encode() + b"\n", only_if=version)

    def goes_on(self) -> bool:
        """Whether the journal says that the run has not ended.

        Raises:
            StoreError: It cannot be read.
        """
        if self.folder is not None and (self.folder / JOURNAL).exists():
            try:
                lines = (self.folder / JOURNAL).read_bytes().splitlines()
            except OSError as error:
                raise StoreError(f"{self.where}: cannot be read ({error.strerror})") from None
        else:
            lines = journal_chain.read(self.store)[1]
        return _goes_on(reversed(lines))

    def whom(self, environment: Mapping[str, str]) -> Whom:
        """Whom its alerts reach, with the variables of the watcher's own environment."""
        found = self.store.get(SPEC)
        if found is None:
            return Whom()
        try:
            raw = parse_yaml(found[0].decode(), f"{self.where}/{SPEC}")
            alerts = raw.get("alerts") or {}
            missing: list[str] = []
            plain = {k: _expanded(v, environment, f"alerts.{k}", missing) for k, v in alerts.items()}
            setting = Alerts.model_validate(plain)
        except (ZigguratError, ValidationError, UnicodeDecodeError, AttributeError) as error:
            log.warning("%s: its alerts cannot be read (%s)", self.name, type(error).__name__)
            return Whom()
        for text in missing:
            log.warning("%s: %s, so this channel is left out", self.name, text)
        return Whom(setting.rules.controller_crashed, _reached(setting))


UNSET = "unset://"


def _expanded(plain: Any, environment: Mapping[str, str], path: str, missing: list[str]) -> Any:  # noqa: ANN401
    """Plain values with variables filled in; an address that lacks one is marked, and named."""
    if isinstance(plain, dict):
        return {k: _expanded(v, environment, f"{path}.{k}", missing) for k, v in plain.items()}
    if isinstance(plain, list):
        return [_expanded(v, environment, f"{path}[{i}]", missing) for i, v in enumerate(plain)]
    try:
        return expand(plain, environment, path)
    except SpecError as error:
        missing.append(str(error).partition(";")[0])
        return UNSET


def _reached(setting: Alerts) -> dict[str, str]:
    """The addresses that an alert of a crashed controller goes to."""
    from ziggurat.events import Alert

    rule = setting.rules.controller_crashed
    alert = Alert("controller_crashed", rule.severity, "", rule="controller_crashed")
    known = setting.addresses()
    return {label: known[label] for label in setting.reached(alert) if known[label] != UNSET}


def _goes_on(lines: Iterable[bytes]) -> bool:
    """Whether a run goes on, by the lines of its journal, latest first."""
    for line in lines:
        if b'"run_finished"' in line or b'"run_started"' in line:
            try:
                kind = json.loads(line).get("type")
            except (ValueError, AttributeError):
                continue  # a torn last line
            if kind in {"run_finished", "run_started"}:
                return bool(kind == "run_started")
    return True


def homes(place: str) -> Iterator[Home]:
    """The runs of a place: of a directory, of a store, or the one that it is.

    Raises:
        SpecError: It is no such place.
        StoreError: It cannot be read.
    """
    if stores.is_url(place):
        yield from _of_store(place)
        return
    folder = Path(place)
    if not folder.is_dir():
        raise SpecError(f"{place}: no such directory; name one of runs, a run, or a store's URL")
    found = [folder] if (folder / SPEC).is_file() else sorted(p.parent for p in folder.glob(f"*/{SPEC}"))
    for each in found:
        if not each.name.startswith("."):
            yield Home(each.resolve().name, str(each), stores.Directory(each.resolve()), each)


def _of_store(url: str) -> Iterator[Home]:
    bare, mark, query = url.partition("?")
    store = stores.open_url(url)
    if store.get(SPEC) is not None:
        yield Home(run_places.run_id_of(store), bare, store)
        return
    for name in run_places.listed(url):
        yield Home(
            name, f"{bare.rstrip('/')}/{name}", stores.open_url(f"{bare.rstrip('/')}/{name}{mark}{query}")
        )
