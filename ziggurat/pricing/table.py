"""The price table: what machines have, what an hour of them costs where, and how often spot ones are lost.

A table is YAML in which every block of prices names its source, and every source its date. The one that comes
with Ziggurat is `instances.yaml` beside this module; a file of the user's comes before it.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from ziggurat.errors import SpecError, near
from ziggurat.pricing.setting import NAME, Market
from ziggurat.setting import Setting

SHIPPED = Path(__file__).with_name("instances.yaml")
OLD_DAYS = 30
DEAREST = 100_000
"""Age at which prices are warned of."""
Band = Literal["<5%", "5-10%", "10-15%", "15-20%", ">20%"]
SHARES: dict[str, float] = {"<5%": 0.05, "5-10%": 0.10, "10-15%": 0.15, "15-20%": 0.20, ">20%": 0.30}
"""What a band of AWS's Spot Advisor is taken as: its upper end, and 30 % for the last, which has none."""
HEADS = ("own", "on_demand", "spot")


class Source(Setting):
    """Where figures come from, and of what day they are."""

    date: datetime.date = Field(description="Day of the figures.")
    origin: str = Field(alias="from", min_length=1, description="Who says so, and where.")


class Machine(Setting):
    """What a machine has."""

    vcpus: int = Field(ge=1, le=10_000, description="Processors, hyper-threads counted.")
    memory_gb: float = Field(gt=0, le=100_000, description="Memory in GB of 2**30 bytes.")
    gpus: int = Field(default=0, ge=0, le=1000, description="GPUs.")
    gpu: str | None = Field(default=None, description="Kind of its GPUs, such as A10G.")
    gpu_memory_gb: float | None = Field(default=None, gt=0, description="Memory of each GPU in GB.")
    burstable: bool = Field(default=False, description="Charged extra for a lasting load; never offered.")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if (self.gpus > 0) != (self.gpu is not None):
            raise ValueError("give gpus and gpu together: how many, and of which kind")
        return self


class Own(Machine):
    """A machine of the user's own, with what an hour of it costs."""

    usd_per_hour: float = Field(ge=0, le=100_000, description="Price of an hour of the whole machine.")


class Block(Setting):
    """Prices of machines in one region, from one source."""

    source: str
    region: str = Field(pattern=NAME)
    zone: str | None = Field(default=None, pattern=NAME)
    market: Literal["on_demand", "spot"]
    usd_per_hour: dict[str, float] = Field(description="Price of an hour of the whole machine, by its name.")

    @model_validator(mode="after")
    def _positive(self) -> Self:
        for name, price in self.usd_per_hour.items():
            if not 0 < price <= DEAREST:
                raise ValueError(f"usd_per_hour.{name} is {price:g}; a price is above 0")
        return self


class Report(Setting):
    """How often spot machines of a region were taken back."""

    source: str
    region: str = Field(pattern=NAME)
    bands: dict[Band, list[str]]


class Interruptions(Setting):
    """How often spot machines are taken back."""

    per_hours: float = Field(default=24, gt=0, le=8760, description="Hours of running that a share is of.")
    elsewhere: Band = Field(default="5-10%", description="Of machines that nothing is reported of.")
    reported: list[Report] = Field(default_factory=list)


class Layer(Setting):
    """One table file."""

    version: Literal[1] = 1
    sources: dict[str, Source] = Field(default_factory=dict)
    own: dict[str, Own] = Field(default_factory=dict, description="Machines of your own, by name.")
    instances: dict[str, Machine] = Field(default_factory=dict)
    offers: list[Block] = Field(default_factory=list)
    interruptions: Interruptions | None = None

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        for block in (*self.offers, *(self.interruptions.reported if self.interruptions else ())):
            if block.source not in self.sources:
                raise ValueError(
                    f"source '{block.source}' is not under sources; {near(block.source, self.sources)}"
                )
        return self


@dataclass(frozen=True)
class Offer:
    """A machine that can be had at a price.

    Attributes:
        instance: Its name.
        machine: What it has.
        market: How it is rented.
        region: Where; None for machines of the user's own.
        zone: Zone of the region; None for all of them.
        usd_per_hour: Price of the whole machine.
        date: Day of the price; None for the user's own.
        source: Where the price comes from.
    """

    instance: str
    machine: Machine
    market: Market
    region: str | None
    zone: str | None
    usd_per_hour: float
    date: datetime.date | None
    source: str

    @property
    def kind(self) -> tuple[str, str, str]:
        """Machine, market and region: what one source tells all zones of."""
        return self.instance, self.market, self.region or ""

    @property
    def place(self) -> str:
        """Zone, else region, else that it is the user's own."""
        return self.zone or self.region or "own"


class Table:
    """Layers of files, the first of which that knows something is believed."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Join layers."""
        self.layers = tuple(layers)
        self.machines: dict[str, Machine] = {}
        for layer in self.layers:
            for name, machine in (*layer.own.items(), *layer.instances.items()):
                self.machines.setdefault(name, machine)

    @property
    def regions(self) -> list[str]:
        """Regions that have a price."""
        return sorted({b.region for layer in self.layers for b in layer.offers})

    def offers(self) -> list[Offer]:
        """All offers in a fixed order; of a machine, market and region only those of the first layer."""
        found: list[Offer] = []
        seen: set[tuple[str, str, str]] = set()
        for layer in self.layers:
            fresh = [o for o in _offers(layer, self.machines) if o.kind not in seen]
            seen |= {o.kind for o in fresh}
            found += fresh
        return sorted(found, key=_order)

    def lookup(self, instance: str, market: str, region: str | None, zone: str | None = None) -> Offer:
        """The price of a machine; of a spot machine without a zone, that of the dearest zone.

        Raises:
            SpecError: The table has none; the message names what is near.
        """
        known = [o for o in self.offers() if o.instance == instance]
        if not known:
            names = {o.instance for o in self.offers()}
            raise SpecError(f"instance: no price for '{instance}'; {near(instance, names, _SEE)}")
        if known[0].market == "own":
            return known[0]
        here = [o for o in known if o.region == region]
        if not here:
            given = "not given" if region is None else f"no price for {instance} in region '{region}'"
            raise SpecError(f"region: {given}; {near(region or '', sorted({o.region or '' for o in known}))}")
        fit = [o for o in here if o.market == market]
        if not fit:
            other = ", ".join(sorted({o.market for o in here}))
            raise SpecError(
                f"market: no price of {instance} {said(market)} in {region}; known: {other}; {_FRESH}"
            )
        if zone is not None:
            fit = [o for o in fit if o.zone == zone]
            if not fit:
                zones = [o.zone for o in here if o.market == market and o.zone]
                raise SpecError(f"zone: no price of {instance} in '{zone}'; {near(zone, zones)}; {_FRESH}")
        return max(fit, key=lambda o: (o.usd_per_hour, o.zone or ""))

    def share(self, instance: str, region: str | None) -> tuple[float, Band]:
        """Share of machines that are taken back within `per_hours`, and its band.

        What is reported of the region, else the worst that is reported of any other, else that of all types.
        """
        for setting in self._interruptions():
            of = {
                r.region: band
                for r in setting.reported
                for band, names in r.bands.items()
                if instance in names
            }
            if region in of:
                return SHARES[of[region]], of[region]
            if of:
                worst = max(of.values(), key=SHARES.__getitem__)
                return SHARES[worst], worst
        band = next(iter(self._interruptions())).elsewhere
        return SHARES[band], band

    def rate(self, instance: str, region: str | None) -> float:
        """Interruptions per hour of a spot machine: constant over time, so that the share comes true."""
        hours = next(iter(self._interruptions())).per_hours
        return -math.log1p(-self.share(instance, region)[0]) / hours

    def _interruptions(self) -> list[Interruptions]:
        found = [layer.interruptions for layer in self.layers if layer.interruptions is not None]
        return found or [Interruptions()]


_SEE = "see `ziggurat prices list`"
_FRESH = "fetch it by `ziggurat prices refresh`"


def said(market: str) -> str:
    """A market in words."""
    return {"on_demand": "on demand", "spot": "on the spot market", "own": "of your own"}[market]


def _offers(layer: Layer, machines: dict[str, Machine]) -> Iterable[Offer]:
    for name, own in layer.own.items():
        yield Offer(name, own, "own", None, None, own.usd_per_hour, None, "your own price")
    for block in layer.offers:
        source = layer.sources[block.source]
        for name, price in block.usd_per_hour.items():
            if name in machines:
                yield Offer(
                    name,
                    machines[name],
                    block.market,
                    block.region,
                    block.zone,
                    price,
                    source.date,
                    source.origin,
                )


def _order(offer: Offer) -> tuple[object, ...]:
    return (HEADS.index(offer.market), offer.instance, offer.region or "", offer.zone or "")


def read(path: Path) -> Layer:
    """A table file.

    Raises:
        SpecError: It cannot be read, or is no table; one line.
    """
    try:
        plain: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(
            f"prices: {path} cannot be read ({why}); name a file of `ziggurat prices refresh`, or none"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark is not None else ""
        raise SpecError(f"prices: {path}:{where} not valid YAML; correct the line") from None
    if not isinstance(plain, dict):
        raise SpecError(
            f"prices: {path}: a price table is a mapping with instances and offers; see docs/money.md"
        )
    try:
        return _unambiguous(Layer.model_validate(plain), path)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = str(first["msg"]).removeprefix("Value error, ")
        raise SpecError(f"prices: {path}: {place}: {what}".replace(": :", ":").replace("\n", " ")) from None


def _unambiguous(layer: Layer, path: Path) -> Layer:
    """A layer of which every price is said once, of machines that are known to somebody."""
    seen: set[tuple[str, str, str, str | None]] = set()
    shipped = set() if path == SHIPPED else set(_shipped().instances)
    for block in layer.offers:
        for name in block.usd_per_hour:
            key = (name, block.market, block.region, block.zone)
            if key in seen:
                place = block.zone or block.region
                raise SpecError(
                    f"prices: {path}: {name} {said(block.market)} has two prices in {place}; keep one"
                )
            seen.add(key)
            if name not in layer.instances and name not in shipped:
                raise SpecError(
                    f"prices: {path}: {name} has a price, but is not under instances; say there what it has"
                )
    return layer


@cache
def _shipped() -> Layer:
    return read(SHIPPED)


def load(path: str | Path | None = None) -> Table:
    """The table that comes with Ziggurat, behind a file of the user's if there is one.

    Raises:
        SpecError: The file cannot be read, or is no table.
    """
    own = [] if path is None else [read(Path(path))]
    return Table([*own, _shipped()])


def age_days(date: datetime.date | None, today: datetime.date) -> int:
    """Days since a price was taken; 0 for what has no date, and for a date to come."""
    return 0 if date is None else max(0, (today - date).days)
