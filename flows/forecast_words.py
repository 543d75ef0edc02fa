"""The forecast in words and tables, for a terminal of any width."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ziggurat.prices import REFRESH

NARROW = 100
"""Columns below which some are left out."""
MARKETS = {"on_demand": "on demand", "spot": "spot", "own": "own"}
KEYS = {"limit_usd": "the limit", "plan_usd": "the plan", "limit_hours": "the limit of time"}
UNITS = ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h"), (float("inf"), 86_400, "days"))


def width() -> int:
    """Columns of the terminal; 120 where there is none."""
    return int(os.environ.get("COLUMNS") or shutil.get_terminal_size((120, 24)).columns)


def lasting(seconds: float) -> str:
    """A time with three digits at most."""
    _, unit, name = next(u for u in UNITS if seconds < u[0])
    return f"{seconds / unit:.3g} {name}"


def usd(value: float) -> str:
    """Money: cents from a dollar on, and four digits behind the point below."""
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.4f}"


def columns(rows: Sequence[Mapping[str, str]], left: Iterable[str] = ()) -> list[str]:
    """Rows of equal keys as aligned columns: numbers to the right, those named to the left."""
    heads = list(rows[0])
    left = {heads[0], *left}
    widths = {h: max(len(h), *(len(r[h]) for r in rows)) for h in heads}

    def joined(cells: Mapping[str, str]) -> str:
        parts = (cells[h].ljust(widths[h]) if h in left else cells[h].rjust(widths[h]) for h in heads)
        return "  ".join(parts).rstrip()

    return [joined({h: h for h in heads}), *(joined(r) for r in rows)]


def text(data: Mapping[str, Any], wide: int) -> str:
    """The whole forecast."""
    parts = ["\n".join(_stages(data)), "\n".join(textwrap.fill(s, wide) for s in _sums(data))]
    parts += ["\n".join(_place(p, wide)) for p in data["places"]]
    if data["warnings"]:
        said = f"warning: {'; '.join(data['warnings'])}; {REFRESH}"
        parts.append(textwrap.fill(said, wide, break_on_hyphens=False))
    return "\n\n".join(parts)


def _stages(data: Mapping[str, Any]) -> list[str]:
    spent = data["spent_usd"] > 0
    rows = [
        {
            "stage": row["stage"],
            "trials": f"{row['trials']:.0f}",
            "worker time": lasting(row["seconds"]),
            "wall time": lasting(row["wall_s"]),
            "USD": usd(row["usd"]),
            "90 % interval": f"{usd(row['low_usd'])} to {usd(row['high_usd'])}",
            **({"spent": usd(row["spent_usd"])} if spent else {}),
        }
        for row in data["stages"]
    ]
    total = {
        "stage": "total",
        "trials": "",
        "worker time": lasting(sum(row["seconds"] for row in data["stages"])),
        "wall time": lasting(data["total_wall_s"]),
        "USD": usd(data["total_usd"]),
        "90 % interval": f"{usd(data['low_usd'])} to {usd(data['high_usd'])}",
        **({"spent": usd(data["spent_usd"])} if spent else {}),
    }
    return columns([*rows, total])


def _sums(data: Mapping[str, Any]) -> list[str]:
    price = data["price"] or f"{data['usd_per_hour']:g} USD for an hour of a worker"
    lines = [f"times: {data['basis']}; price: {price}"]
    if not data["usd_per_hour"]:
        lines[-1] += ", so money means nothing here: give launcher.usd_per_hour or launcher.price"
    verdicts = [f"{v} {KEYS[k]} ({_bound(k, data[k])})" for k, v in data["verdicts"].items()]
    lines.append("budget: " + ("; ".join(verdicts) or "there is no limit; set budget.limit_usd"))
    search = sum(r["usd"] for r in data["stages"] if r["stage"] not in {"validate", "retrain", "measure"})
    naive = data["naive_search_usd"]
    lines.append(f"naive: every trial to the top rung would cost {usd(naive)} USD, the search {usd(search)}")
    return lines


def _bound(key: str, value: float) -> str:
    return f"{value:g} h" if key == "limit_hours" else f"{usd(value)} USD"


def _place(place: Mapping[str, Any], wide: int) -> list[str]:
    """The cheapest machines for the work of one launcher."""
    lost = place["interruption"]
    head = (
        f"{place['launcher']}: {place['worker_hours']:.3g} worker hours, {place['workers']} at a time, each "
        f"with {place['need']['words']}; at {place['usd_per_hour']:g} USD/h they cost {usd(place['usd'])} USD"
    )
    lines = [textwrap.fill(head, wide)]
    if not place["machines"]:
        return [*lines, "  no machine of the price table suits"]
    lines += [
        f"  {line}" for line in columns([_machine(m, wide) for m in place["machines"]], {"where", "market"})
    ]
    note = (
        f"{place['suitable']} offers suit. An interruption loses up to {lasting(lost['checkpoint_s'])} of "
        f"work and {lasting(lost['start_s'])} until a new start; it is part of the cost."
    )
    if not all(m["same_gpu"] for m in place["machines"]):
        note += " Machines with * have another GPU: the times were not measured there."
    return [*lines, textwrap.fill(note, wide, initial_indent="  ", subsequent_indent="  ")]


def _machine(machine: Mapping[str, Any], wide: int) -> dict[str, str]:
    rate = machine["interruptions_per_hour"]
    row = {
        "machine": machine["instance"] + ("" if machine["same_gpu"] else " *"),
        "where": machine["zone"] or machine["region"] or "-",
        "market": MARKETS[machine["market"]],
        "USD/h": f"{machine['machine_usd_per_hour']:.4g}",
        "a worker": f"{machine['usd_per_hour']:.4g}",
        "lost every": f"{1 / rate:.0f} h" if rate else "never",
        "all work": usd(machine["usd"]),
    }
    if wide >= NARROW:
        row["holds"] = str(machine["workers_on_it"])
        row["priced on"] = machine["date"] or "-"
        row["GPU"] = machine["gpu"] or "-"
    return row
