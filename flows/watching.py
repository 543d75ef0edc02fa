"""`ziggurat watch`: tells when a controller falls silent; and the test of the channels of a spec."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import JsonOption
from ziggurat import spec as specs
from ziggurat.errors import SpecError
from ziggurat.listeners import channels
from ziggurat.spec_files import expand
from ziggurat.watch_post import Post
from ziggurat.watching import Change, Watcher, rows

TICK_S = 0.5
CONFIRM_S = 30.0
"""Seconds for which the last messages are waited for."""
WELL = 0
SILENT = 1


def watch(
    place: Annotated[
        str, typer.Argument(metavar="[PLACE]", help="A runs directory, a run, or a store's URL of either.")
    ] = "runs",
    every: Annotated[
        float, typer.Option("--every", min=1, max=3600, help="Seconds between two looks at a run.")
    ] = 10.0,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url", metavar="ADDRESS", help="Tell here, such as '${SLACK_URL}', not where specs say."
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Look until each run is known to be alive or silent, and end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell when the controller of a run falls silent; works without Prefect, wherever runs are seen."""
    post = Post(_addresses(url or []), os.environ)
    watcher = Watcher(place, post, min(every, 1.0) if once else every)
    over = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: over.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        _look_on(watcher, over, once=once, as_json=as_json)
        left = _deliver(watcher, post, once=once, as_json=as_json)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    found = rows(watcher.runs.values())
    if once:
        typer.echo(json.dumps(found) if as_json else _table(found) or f"{place}: holds no run")
        if left or any(row["state"] == "silent" for row in found):
            raise typer.Exit(SILENT)


def _addresses(urls: list[str]) -> list[str]:
    """Addresses with their variables filled in; no message repeats one.

    Raises:
        SpecError: A variable is not set, or Apprise cannot use an address.
    """
    found = []
    for position, text in enumerate(urls):
        address = str(expand(text, os.environ, f"--url[{position}]"))
        if not channels.usable(address):
            raise SpecError(
                f"--url[{position}]: Apprise cannot use this address of {channels.scheme(address)}; "
                "write it as its service demands, such as mailto://USER:PASSWORD@HOST"
            )
        found.append(address)
    return found


def _look_on(watcher: Watcher, over: threading.Event, *, once: bool, as_json: bool) -> None:
    """Look until asked to end, or, if that is enough, until everything is known."""
    while not over.is_set():
        for change in watcher.look():
            if not once:
                _say(change, as_json=as_json)
        if once and watcher.settled:
            return
        over.wait(TICK_S)


def _deliver(watcher: Watcher, post: Post, *, once: bool, as_json: bool) -> int:
    """Wait for what is under way; how much has not arrived."""
    deadline, waits = time.monotonic() + CONFIRM_S, True
    while waits:
        waits = bool(post.under_way) and time.monotonic() < deadline
        time.sleep(TICK_S / 5 if waits else 0.0)
        for change in watcher.confirmed():
            if not once:
                _say(change, as_json=as_json)
    return post.close(0.0)


def _say(change: Change, *, as_json: bool) -> None:
    now = time.time()
    if as_json:
        typer.echo(json.dumps({"utc": now, **vars(change)}))
        return
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
    typer.echo(f"{stamp}  {change.run}  {change.state}: {change.text}")


def _table(found: list[dict[str, Any]]) -> str:
    width = max((len(row["run"]) for row in found), default=0)
    return "\n".join(
        f"{row['run']:<{width}}  {row['state']:<7}"
        + (f"  process {row['pid']} on {row['host']}" if row["state"] in {"alive", "quiet", "silent"} else "")
        for row in found
    )


def try_channels(path: Path) -> dict[str, bool]:
    """Send a test message to every channel of a spec; whether each has taken it.

    Raises:
        SpecError: The spec is not valid, or names no channel that can be used.
    """
    spec, _ = specs.read(path)
    spec.alerts.check()
    addresses = spec.alerts.addresses()
    if not addresses:
        raise SpecError(f"{path}: alerts names no channel; add an address to alerts.channels or alerts.urls")
    message = channels.Message(
        0,
        f"[{spec.name}] Test of alerts",
        "If you read this, alerts of this channel arrive.",
        "info",
        time.time(),
    )
    return channels.try_all(addresses, message)


def tried_text(path: Path, found: dict[str, bool]) -> str:
    """What came of the test, in lines; no address is shown."""
    spec, _ = specs.read(path)
    lines = []
    for label, url in spec.alerts.addresses().items():
        words = "arrived" if found[label] else "did NOT arrive: refused, or not to be reached"
        lines.append(f"{_key(label)} ({channels.scheme(url)}): {words}")
    return "\n".join(lines)


def _key(label: str) -> str:
    return f"alerts.{label}" if re.match(r"urls\[", label) else f"alerts.channels.{label}"
