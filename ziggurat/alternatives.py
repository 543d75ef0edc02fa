"""What a run would cost on other machines: the offers of the price table that suit its launchers, ranked."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from ziggurat import prices
from ziggurat.estimate import StageForecast
from ziggurat.launcher_prices import crew_of
from ziggurat.launchers import AnyLauncher, Local, Ray
from ziggurat.pricing.arbitrage import Choice, Loss, dedicated, rank
from ziggurat.pricing.resolve import Crew, Need
from ziggurat.pricing.table import OLD_DAYS, Offer, Table, age_days
from ziggurat.scripted import script_of
from ziggurat.spec import Spec

NEW_MACHINE_S = 300.0
"""Seconds until another machine trains in place of a lost one: it boots, pulls an image and imports."""
NEW_WORKER_S = 60.0
"""The same where machines are there already, as on Ray or here."""
SHOWN = 5


@dataclass(frozen=True)
class Alternative:
    """A machine that would do, and what the work of a launcher would cost on it.

    Attributes:
        choice: The offer, with its price for a worker.
        usd: Cost of all the work, interruptions counted.
        comparable: It has the GPU that the times were measured on, as far as is known.
    """

    choice: Choice
    usd: float
    comparable: bool


@dataclass(frozen=True)
class Place:
    """A launcher, its work, and where that would be cheaper.

    Attributes:
        key: The launcher in the spec.
        need: What a worker takes.
        workers: Busy at the same time.
        hours: Worker hours of all its stages.
        usd: What they cost at the spec's price.
        usd_per_hour: That price.
        loss: What an interruption costs.
        found: The cheapest first.
        suitable: How many offers suit.
    """

    key: str
    need: Need
    workers: int
    hours: float
    usd: float
    usd_per_hour: float
    loss: Loss
    found: tuple[Alternative, ...]
    suitable: int


def places(
    spec: Spec, rows: Sequence[StageForecast], table: Table, regions: Collection[str] = ()
) -> list[Place]:
    """The launchers that train, each with the cheapest machines for its work."""
    apart = spec.retrain.launcher is not None
    full = [r for r in rows if r.stage == prices.RETRAIN and apart]
    rest = [r for r in rows if r not in full and r.stage != "measure"]
    found = [_place(spec, "launcher", prices.MAIN, rest, (table, regions))]
    if full:
        found.append(_place(spec, "retrain.launcher", prices.RETRAIN, full, (table, regions)))
    return found


def _place(
    spec: Spec, key: str, role: str, rows: Sequence[StageForecast], market: tuple[Table, Collection[str]]
) -> Place:
    table, regions = market
    launcher = prices.launcher_of(spec, role)
    workers = prices.workers_of(spec, role)
    hours = sum(r.seconds for r in rows) / 3600
    loss = loss_of(spec, launcher, rows)
    crew = replace(_crew(launcher, workers, table), one_machine=False)
    choices = rank(table, crew, loss, regions)
    here = None if launcher.price is None else table.machines.get(launcher.price.instance)
    found = [
        Alternative(c, hours * c.useful_usd, here is None or here.gpu == c.offer.machine.gpu)
        for c in shown(choices)
    ]
    return Place(
        key, crew.need, workers, hours, hours * launcher.usd_per_hour, launcher.usd_per_hour, loss,
        tuple(found), len(choices),
    )  # fmt: skip


def _crew(launcher: AnyLauncher, workers: int, table: Table) -> Crew:
    """Who is to be placed; the kind of GPU is that of the machine that the launcher names, if any."""
    crew = crew_of(launcher, workers)
    machine = None if launcher.price is None else table.machines.get(launcher.price.instance)
    if crew.need.gpus and crew.need.gpu is None and machine is not None:
        return replace(crew, need=replace(crew.need, gpu=machine.gpu))
    return crew


def shown(choices: Sequence[Choice]) -> list[Choice]:
    """The cheapest few; the last of them is one that is never taken back, if no other is."""
    found = list(_spread(choices))
    head = found[:SHOWN]
    safe = dedicated(found)
    return head if safe is None or safe in head else [*head[: SHOWN - 1], safe]


def _spread(choices: Sequence[Choice]) -> Iterable[Choice]:
    """The cheapest of every machine and market: further regions and zones would crowd out the others."""
    seen: set[tuple[str, str]] = set()
    for choice in choices:
        kind = (choice.offer.instance, choice.offer.market)
        if kind not in seen:
            seen.add(kind)
            yield choice


def loss_of(spec: Spec, launcher: AnyLauncher, rows: Sequence[StageForecast]) -> Loss:
    """What an interruption costs: the work since the last checkpoint, at most, and a new start.

    Checkpoints are written at every rung, and in between where the trainer says so; a script that cannot
    resume loses the whole training.
    """
    segments, trials = sum(r.segments for r in rows), sum(r.trials for r in rows)
    parts = segments if spec.resumable else trials
    each = sum(r.seconds for r in rows) / max(1.0, parts)
    trainer = script_of(spec) or spec.search.trainer
    every = getattr(trainer, "checkpoint_s", None) if spec.resumable else None
    start = NEW_WORKER_S if isinstance(launcher, (Local, Ray)) else NEW_MACHINE_S
    return Loss(each if every is None else min(each, float(every)), start)


def stale(spec: Spec, today: datetime.date, places: Sequence[Place] = ()) -> list[str]:
    """Warnings about old prices: those of the spec's launchers, and those that are offered."""
    offers: list[Offer] = [a.choice.offer for place in places for a in place.found]
    old = [days for o in offers if (days := age_days(o.date, today)) > OLD_DAYS]
    found = prices.aged(spec, today)
    if old:
        found.append(f"{len(old)} of the {len(offers)} prices offered are up to {max(old)} days old")
    return found
