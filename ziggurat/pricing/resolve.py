"""From a machine of the price table to the price of an hour of a worker, with where it comes from.

A worker's share of a machine follows from what it takes: as many workers are on a machine as its processors,
memory and GPUs carry, and machines that are rented for them are paid whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ziggurat.errors import SpecError
from ziggurat.pricing.setting import Price
from ziggurat.pricing.table import Machine, Offer, Table, said


@dataclass(frozen=True)
class Need:
    """What one worker takes of a machine.

    Attributes:
        cpus: Processors.
        memory_gb: Memory in GB of 2**30 bytes; 0 if nothing is said.
        gpus: GPUs.
        gpu: Kind of GPU; None for any.
    """

    cpus: int = 1
    memory_gb: float = 0.0
    gpus: int = 0
    gpu: str | None = None

    def __str__(self) -> str:
        """In words."""
        parts = [f"{self.cpus} {'cpu' if self.cpus == 1 else 'cpus'}"]
        if self.memory_gb:
            parts.append(f"{self.memory_gb:.3g} GB of memory")
        if self.gpus:
            parts.append(
                f"{self.gpus} {'GPU' if self.gpus == 1 else 'GPUs'}" + (f" {self.gpu}" if self.gpu else "")
            )
        return ", ".join(parts)


@dataclass(frozen=True)
class Crew:
    """Who shares the machines of a launcher.

    Attributes:
        need: What each worker takes.
        workers: How many work at the same time.
        one_machine: They are on one machine whatever it has, as processes on this one are.
    """

    need: Need
    workers: int = 1
    one_machine: bool = False


def carries(machine: Machine, need: Need) -> int:
    """How many workers a machine has room for; 0 if it lacks something or has another kind of GPU."""
    if need.gpus and need.gpu is not None and (machine.gpu or "").lower() != need.gpu.lower():
        return 0
    rooms = [machine.vcpus // need.cpus]
    if need.memory_gb > 0:
        rooms.append(math.floor(min(rooms[0], machine.memory_gb / need.memory_gb + 1e-9)))
    if need.gpus > 0:
        rooms.append(machine.gpus // need.gpus)
    return min(rooms)


def per_worker(usd_per_hour: float, carried: int, workers: int) -> float:
    """Price of an hour of one of some workers: whole machines, enough for all, divided among them."""
    return usd_per_hour * math.ceil(workers / carried) / workers


def worker_price(table: Table, price: Price, crew: Crew, region: str | None = None) -> Price:
    """The same machine with what was found: `origin` and `date`; the number is `worker_usd`'s."""
    offer = _offer(table, price, region)
    carried = _carried(offer, crew)
    return price.model_copy(update={"origin": _origin(offer, carried, crew), "date": offer.date})


def worker_usd(table: Table, price: Price, crew: Crew, region: str | None = None) -> float:
    """Price of an hour of a worker on a machine of the table.

    Raises:
        SpecError: The table has no such price, or the machine is too small; it begins with the key.
    """
    offer = _offer(table, price, region)
    return per_worker(offer.usd_per_hour, _carried(offer, crew), crew.workers)


def _offer(table: Table, price: Price, region: str | None) -> Offer:
    return table.lookup(price.instance, price.market, price.region or region, price.zone)


def _carried(offer: Offer, crew: Crew) -> int:
    if crew.one_machine:
        return max(1, crew.workers)
    found = carries(offer.machine, crew.need)
    if found == 0:
        has = Need(offer.machine.vcpus, offer.machine.memory_gb, offer.machine.gpus, offer.machine.gpu)
        raise SpecError(
            f"instance: {offer.instance} has {has}, but a worker takes {crew.need}; name a larger one"
        )
    return found


def _origin(offer: Offer, carried: int, crew: Crew) -> str:
    machines = math.ceil(crew.workers / carried)
    many = f"{machines} machines" if machines > 1 else "a machine"
    where = "" if offer.market == "own" else f" {said(offer.market)} in {offer.place}"
    day = "" if offer.date is None else f" on {offer.date}"
    shared = f"{crew.workers} workers on {many}" if crew.workers > 1 else "one worker on a machine"
    source = offer.source.partition(" (")[0]
    return f"{offer.instance}{where}{day}: {offer.usd_per_hour:g} USD/h, {shared}; {source}"
