"""A price table of today: what a cloud is asked for, and how its answers become a file.

`Cloud` is all that is needed of one; `aws.py` has Amazon's. Nothing here reaches for the network.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import yaml

from ziggurat.errors import SpecError, ZigguratError
from ziggurat.files import write_whole
from ziggurat.pricing.table import Block, Layer, Machine, Source, load

HEAD = """# Prices in US dollars for an hour of the whole machine, written by `ziggurat prices refresh`.
# Name this file in a spec by `prices: FILE`; what it lacks is taken from the table that comes with Ziggurat.
"""
SAID = {
    "list": "AWS Price List (GetProducts), Linux, shared tenancy",
    "spot": "AWS EC2 DescribeSpotPriceHistory, Linux/UNIX",
}


class Cloud(Protocol):
    """Tells prices."""

    def machines(self, region: str, names: Sequence[str]) -> Mapping[str, Machine]:
        """What machines have, of those that a region has."""

    def on_demand(self, region: str, names: Sequence[str]) -> Mapping[str, float]:
        """Price of an hour of machines, of those that a region sells."""

    def spot(self, region: str, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """Price of an hour of spot machines by zone and name."""


def fetch(cloud: Cloud, regions: Sequence[str], names: Sequence[str], today: datetime.date) -> Layer:
    """The prices of machines in regions, as they are now.

    Raises:
        ZigguratError: The cloud cannot be asked, or has none of the machines in any of the regions.
    """
    machines: dict[str, Machine] = {}
    blocks: list[Block] = []
    for region in regions:
        here = cloud.machines(region, names)
        machines |= {name: machine for name, machine in here.items() if name not in machines}
        sold = sorted(here, key=list(names).index)
        listed = _picked(cloud.on_demand(region, sold), sold)
        if listed:
            blocks.append(Block(source="list", region=region, market="on_demand", usd_per_hour=listed))
        for zone, prices in sorted(cloud.spot(region, sold).items()):
            found = _picked(prices, sold)
            if found:
                blocks.append(
                    Block(source="spot", region=region, zone=zone, market="spot", usd_per_hour=found)
                )
    if not blocks:
        raise ZigguratError(f"no price of {', '.join(names)} in {', '.join(regions)}; check the names")
    sources = {
        "list": Source.model_validate(
            {"date": today, "from": "AWS Price List (GetProducts), Linux, shared tenancy"}
        ),
        "spot": Source.model_validate(
            {"date": today, "from": "AWS EC2 DescribeSpotPriceHistory, Linux/UNIX"}
        ),
    }
    kept = {name: machines[name] for name in names if name in machines}
    used = {s: sources[s] for s in sources if any(b.source == s for b in blocks)}
    return Layer(sources=used, instances=kept, offers=blocks)


def _picked(prices: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    return {name: prices[name] for name in names if prices.get(name, 0) > 0}


def usual() -> list[str]:
    """Names of the machines in the table that comes with Ziggurat."""
    return list(load().machines)


def plain(layer: Layer) -> dict[str, Any]:
    """A layer as plain values, with nothing that says only what is so by default."""
    found: dict[str, Any] = layer.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"version": 1, **found}


def text(layer: Layer) -> str:
    """A layer as the text of a file."""
    return HEAD + yaml.safe_dump(plain(layer), sort_keys=False, width=110, allow_unicode=True)


def write(path: Path, layer: Layer) -> None:
    """Write a table file, whole or not at all.

    Raises:
        SpecError: It cannot be written.
    """
    try:
        write_whole(path, text(layer))
    except OSError as error:
        raise SpecError(f"--out {path}: cannot be written ({error.strerror}); name another file") from None
