"""Which machine is the cheapest for a worker, once the time that spot interruptions cost is counted.

A spot machine that is taken back `rate` times an hour, each time losing `lost` hours, does one useful hour in
`1 + rate * lost` hours (first order: interruptions while work is repeated are left out), so a useful hour
costs `price * (1 + rate * lost)`. Pure functions; nothing is random, and ties have a fixed order.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ziggurat.pricing.resolve import Crew, carries, per_worker
from ziggurat.pricing.table import HEADS, Offer, Table, said


@dataclass(frozen=True)
class Loss:
    """What an interruption costs.

    Attributes:
        checkpoint_s: Work that is lost at most: the time between two checkpoints.
        start_s: Until a worker trains again.
    """

    checkpoint_s: float
    start_s: float

    @property
    def hours(self) -> float:
        """Hours from an interruption until training is where it was."""
        return (self.checkpoint_s + self.start_s) / 3600


@dataclass(frozen=True)
class Choice:
    """An offer that suits, with what it costs.

    Attributes:
        offer: The machine.
        carried: Workers that it has room for.
        usd_per_hour: Price of an hour of a worker.
        useful_usd: The same for an hour in which nothing is repeated.
        rate: Interruptions per hour.
        reason: Why it costs that, in words.
    """

    offer: Offer
    carried: int
    usd_per_hour: float
    useful_usd: float
    rate: float
    reason: str


def rank(table: Table, crew: Crew, loss: Loss, regions: Collection[str] = ()) -> list[Choice]:
    """All offers that suit some workers, the cheapest useful hour first.

    Args:
        table: Prices and interruptions.
        crew: What a worker needs, and how many there are.
        loss: What an interruption costs.
        regions: Where machines may be; anywhere if none is named. Machines of the user's own always may.
    """
    found = [
        _choice(table, offer, carried, crew, loss)
        for offer in table.offers()
        if not offer.machine.burstable
        and (offer.region is None or not regions or offer.region in regions)
        and bool(offer.machine.gpus) == bool(crew.need.gpus)
        and (carried := carries(offer.machine, crew.need)) > 0
    ]
    return sorted(found, key=_order)


def _choice(table: Table, offer: Offer, carried: int, crew: Crew, loss: Loss) -> Choice:
    price = per_worker(offer.usd_per_hour, carried, crew.workers)
    rate = table.rate(offer.instance, offer.region) if offer.market == "spot" else 0.0
    more = rate * loss.hours
    words = f"{offer.usd_per_hour:g} USD/h {said(offer.market)}, room for {carried}"
    if rate:
        words += f", lost every {1 / rate:.0f} h at {loss.hours * 60:.1f} min: +{more:.1%}"
    return Choice(offer, carried, price, price * (1 + more), rate, words)


def _order(choice: Choice) -> tuple[object, ...]:
    offer = choice.offer
    return (
        choice.useful_usd,
        HEADS.index(offer.market),  # at the same price, what is not taken back
        offer.machine.vcpus,
        offer.instance,
        offer.region or "",
        offer.zone or "",
    )


def dedicated(choices: Collection[Choice]) -> Choice | None:
    """The cheapest that is never taken back."""
    return next((c for c in choices if c.offer.market != "spot"), None)
