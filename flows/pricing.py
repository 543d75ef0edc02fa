"""`ziggurat prices`: the price table, today's prices, and the cheapest machine for a need."""

from __future__ import annotations

import datetime
import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.forecast_words import MARKETS, columns, width
from flows.options import JsonOption, show
from ziggurat.errors import SpecError, near
from ziggurat.pricing import aws, refresh
from ziggurat.pricing.arbitrage import Choice, Loss, rank
from ziggurat.pricing.resolve import Crew, Need
from ziggurat.pricing.table import OLD_DAYS, Offer, Table, age_days, load

app = typer.Typer(no_args_is_help=True, help="Prices of machines: the table, today's, and the cheapest.")

RegionsOption = Annotated[
    list[str] | None, typer.Option("--region", metavar="REGION", help="Only there; may be repeated.")
]
InstancesOption = Annotated[
    list[str] | None, typer.Option("--instance", metavar="NAME", help="Only this machine; may be repeated.")
]
PRICES = Path("prices.yaml")
TableOption = Annotated[
    Path | None, typer.Option("--prices", metavar="FILE", help="A table of your own, before the one shipped.")
]


@app.command(name="list")
def listing(
    regions: RegionsOption = None,
    instances: InstancesOption = None,
    market: Annotated[
        str | None, typer.Option("--market", metavar="MARKET", help="on_demand, spot or own.")
    ] = None,
    prices: TableOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the price table, with the day of every price."""
    table = load(prices)
    _check(table, regions or [], instances or [], market)
    found = [
        o
        for o in table.offers()
        if (not regions or o.region in regions)
        and (not instances or o.instance in instances)
        and (market is None or o.market == market)
    ]
    today = _today()
    show([_plain(o) for o in found], _listed(found, today), as_json=as_json)


def _check(table: Table, regions: list[str], instances: list[str], market: str | None) -> None:
    for region in regions:
        if region not in table.regions:
            raise SpecError(
                f"--region {region}: the price table has no such region; {near(region, table.regions)}"
            )
    for name in instances:
        if name not in table.machines:
            raise SpecError(f"--instance {name}: not in the price table; {near(name, table.machines)}")
    if market is not None and market not in MARKETS:
        raise SpecError(f"--market {market}: {near(market, MARKETS)}")


def _plain(offer: Offer) -> dict[str, Any]:
    return {
        "instance": offer.instance,
        **offer.machine.model_dump(
            include={"vcpus", "memory_gb", "gpus", "gpu", "gpu_memory_gb", "burstable"}
        ),
        "market": offer.market,
        "region": offer.region,
        "zone": offer.zone,
        "usd_per_hour": offer.usd_per_hour,
        "date": None if offer.date is None else str(offer.date),
        "source": offer.source,
    }


def _listed(found: list[Offer], today: datetime.date) -> str:
    if not found:
        return "no price; fetch some by `ziggurat prices refresh`"
    rows = [
        {
            "machine": o.instance,
            "vCPUs": str(o.machine.vcpus),
            "GB": f"{o.machine.memory_gb:g}",
            "GPUs": f"{o.machine.gpus} {o.machine.gpu}" if o.machine.gpus else "-",
            "where": o.place,
            "market": MARKETS[o.market],
            "USD/h": f"{o.usd_per_hour:.5g}",
            "date": "-" if o.date is None else str(o.date),
        }
        for o in found
    ]
    old = [age_days(o.date, today) for o in found if age_days(o.date, today) > OLD_DAYS]
    lines = columns(rows, {"GPUs", "where", "market", "date"})
    if old:
        lines += [
            "",
            f"{len(old)} of {len(found)} prices are older than {OLD_DAYS} days, the oldest {max(old)}",
        ]
    return "\n".join(lines)


@app.command(name="refresh")
def refreshing(
    regions: RegionsOption = None,
    instances: InstancesOption = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The table to write.")] = Path(
        "prices.yaml"
    ),
    as_json: JsonOption = False,
) -> None:
    """Fetch today's prices from AWS, spot prices by zone, and write them as a table.

    Credentials are AWS's own; without --region the region of AWS's configuration is asked, without --instance
    every machine of the shipped table.
    """
    if out.is_dir():
        raise SpecError(f"--out {out}: is a directory; name a file in it")
    where = regions or [aws.own_region()]
    aws.check_regions(where)
    names = instances or refresh.usual()
    layer = refresh.fetch(aws.Aws(), where, names, _today())
    refresh.write(out, layer)
    lacking = [n for n in names if n not in layer.instances]
    counts = {b.market: 0 for b in layer.offers}
    for block in layer.offers:
        counts[block.market] += len(block.usd_per_hour)
    found = ", ".join(f"{n} {MARKETS[m]}" for m, n in counts.items())
    text = f"{out}: {found} prices of {len(layer.instances)} machines in {', '.join(where)}"
    if lacking:
        text += f"; not there: {', '.join(lacking)}"
    text += f"\nnext: `prices: {out}` in the spec"
    data = {"file": str(out), "machines": len(layer.instances), "prices": counts, "lacking": lacking}
    show(data, text, as_json=as_json)


@app.command()
def cheapest(  # noqa: PLR0913, PLR0917 - options
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="Processors of a worker.")] = 1,
    memory_gb: Annotated[float, typer.Option("--memory-gb", min=0, help="Memory of a worker.")] = 0.0,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="GPUs of a worker.")] = 0,
    gpu: Annotated[str | None, typer.Option("--gpu", metavar="KIND", help="Such as A10G.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Workers at the same time.")] = 1,
    checkpoint_s: Annotated[
        float, typer.Option("--checkpoint-s", min=0, help="Between checkpoints.")
    ] = 600.0,
    start_s: Annotated[float, typer.Option("--start-s", min=0, help="Until a new machine trains.")] = 300.0,
    regions: RegionsOption = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many to show.")] = 10,
    prices: TableOption = None,
    as_json: JsonOption = False,
) -> None:
    """The cheapest machines for a worker, spot interruptions counted."""
    table = load(prices)
    _check(table, regions or [], [], None)
    kinds = sorted({m.gpu for m in table.machines.values() if m.gpu})
    if gpu is not None and gpu.lower() not in {k.lower() for k in kinds}:
        raise SpecError(f"--gpu {gpu}: no machine of the price table has it; {near(gpu, kinds)}")
    if gpu is not None and not gpus:
        raise SpecError(f"--gpu {gpu}: give --gpus as well, how many of them")
    crew = Crew(Need(cpus, memory_gb, gpus, gpu), workers)
    found = rank(table, crew, Loss(checkpoint_s, start_s), regions or [])[:count]
    data = [_plain(c.offer) | _cost(c) for c in found]
    show(data, _ranked(found, crew), as_json=as_json)


def _cost(choice: Choice) -> dict[str, Any]:
    return {
        "workers_on_it": choice.carried,
        "worker_usd_per_hour": choice.usd_per_hour,
        "useful_usd_per_hour": choice.useful_usd,
        "interruptions_per_hour": choice.rate,
        "reason": choice.reason,
    }


def _ranked(found: list[Choice], crew: Crew) -> str:
    if not found:
        return f"no machine of the price table has {crew.need}"
    rows = [
        {
            "machine": c.offer.instance,
            "where": c.offer.place,
            "market": MARKETS[c.offer.market],
            "USD/h": f"{c.offer.usd_per_hour:.4g}",
            "a worker": f"{c.usd_per_hour:.4g}",
            "lost every": f"{1 / c.rate:.0f} h" if c.rate else "never",
            "useful hour": f"{c.useful_usd:.4g}",
        }
        for c in found
    ]
    what = f"one of {crew.workers} workers" if crew.workers > 1 else "a worker"
    head = f"{what} with {crew.need}; a useful hour is one in which nothing is repeated"
    return "\n".join([textwrap.fill(head, width()), *columns(rows, {"where", "market"})])


def _today() -> datetime.date:
    return datetime.datetime.now(tz=datetime.UTC).date()
