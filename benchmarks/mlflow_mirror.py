"""What the mirror in MLflow costs a long search: processor and wall time, with and without an outage.

The journal of a search of some hours is made up (three rungs, a third of the trials reaching each next one,
three metrics an epoch), and mirrored as the mirror's thread does it: what has happened since the last batch
is written, and then it rests. Time between batches is not waited for, it is taken from the events' own times.
Everything is measured in one run, against SQLite and, with `--on server`, MLflow's server on PostgreSQL:

    (a) the whole search, at its pace;
    (b) the same with the server away for a fifth of the time, and what catching up takes;
    (c) what a controller feels that does its own work meanwhile: how late it wakes up, while the thread of a
        real mirror writes the whole journal without rests, which is the worst there is.

    python -m benchmarks.mlflow_mirror [--trials 2000] [--hours 2] [--on sqlite server] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from ziggurat.domain import Candidate, Fidelity, Goal, Job, JobKind, Measurement, Objective, RunStatus
from ziggurat.events import (
    Body,
    Decided,
    Event,
    Measured,
    RunFinished,
    RunStarted,
    SegmentFinished,
    SegmentPlanned,
    SegmentStarted,
    StageFinished,
    StageStarted,
    TrialProposed,
)
from ziggurat.files import write_whole
from ziggurat.listeners import Tracking
from ziggurat.listeners.mlflow_about import About
from ziggurat.listeners.mlflow_client import Place
from ziggurat.listeners.mlflow_fold import Fold
from ziggurat.listeners.mlflow_mirror import BATCH, GATHER_S, LONGEST_REST_S, REST, REST_BEHIND, MlflowMirror
from ziggurat.listeners.mlflow_writer import Writer

LADDER = (Fidelity(3), Fidelity(9), Fidelity(27))
SHARE = 3
"""One trial of so many is trained to the next rung."""
OBJECTIVES = (
    Objective("val_accuracy", Goal.MAXIMIZE, 0.1),
    Objective("parameters", Goal.MINIMIZE, 1e5),
)
AWAY = (0.4, 0.6)
"""From which to which part of the search the server is away."""
BEGAN = 1_700_000_000.0


def told(number: int, run: str, trials: int, hours: float) -> Iterator[tuple[float, Body]]:
    """What happens to one trial, at its times."""
    each = hours * 3600 / trials
    at, accuracy = BEGAN + number * each, 0.5 + 0.4 * ((number * 7919) % trials) / trials
    choices = {f"choice_{i}": (number * (i + 3)) % 17 for i in range(12)}
    candidate = Candidate({**choices, "learning_rate": 0.001 * (1 + number % 50)})
    size = Measurement("parameters", float(1000 + (number * 104729) % 90_000))
    yield at, TrialProposed(number, number, "search", candidate, number, LADDER, static=(size,))
    top = sum(number % SHARE**rung == 0 for rung in range(1, len(LADDER)))
    for rung in range(top + 1):
        key = f"{number:05d}-train-{rung}-0"
        job = Job(key, JobKind.TRAIN, "search", number, candidate, LADDER, rung - 1, rung)
        yield at, SegmentPlanned(job, 1.0, 0.0)
        yield at, SegmentStarted(key, number, "local:1")
        found: tuple[Measurement, ...] = ()
        for epoch in range(LADDER[rung - 1].epochs + 1 if rung else 1, LADDER[rung].epochs + 1):
            at += each / 4
            value = accuracy * (1 - 0.5 / epoch)
            found = tuple(
                Measurement(m, v, step=epoch)
                for m, v in (("val_accuracy", value), ("val_loss", 1 - value), ("train_loss", 1.1 - value))
            )
            yield at, Measured(key, number, 0, epoch, found)
        used = {"cpu_utilisation": 0.9, "memory_mb": 500.0}
        yield at, SegmentFinished(key, number, each, 0.001, measurements=(*found, size), usage=used)
        if rung < top or rung + 1 < len(LADDER):
            yield at, Decided("stopper", "continue" if rung < top else "stop", number, rung)


def journal(run: str, trials: int, hours: float) -> list[Event]:
    """A whole search, in the order of time."""
    rows = [row for number in range(trials) for row in told(number, run, trials, hours)]
    rows.sort(key=lambda row: row[0])
    end = rows[-1][0]
    first: list[tuple[float, Body]] = [
        (BEGAN, RunStarted("bench", "0", "a" * 64)),
        (BEGAN, StageStarted("search")),
    ]
    last: list[tuple[float, Body]] = [
        (end, StageFinished("search", "ok")),
        (end, RunFinished(RunStatus.COMPLETED)),
    ]
    return [Event(seq, utc, run, body) for seq, (utc, body) in enumerate([*first, *rows, *last])]


class Counted:
    """A client that counts what it is asked."""

    def __init__(self, client: Any) -> None:
        """Stand in front of a client."""
        self._client, self.asked = client, 0

    def __getattr__(self, name: str) -> Any:
        """The client's method, counted."""
        self.asked += 1
        return getattr(self._client, name)


@dataclass
class Cost:
    """What mirroring took.

    Attributes:
        batches: How often it wrote.
        requests: What it asked MLflow for in all.
        cpu_s: Processor time of the mirror's thread.
        wall_s: Time in which it was writing.
        search_s: Time of the search itself.
        late_s: How long after the search's end everything was written.
    """

    batches: int = 0
    requests: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    search_s: float = 0.0
    late_s: float = 0.0

    @property
    def share(self) -> float:
        """Writing time per time of the search."""
        return self.wall_s / self.search_s


def at_pace(place: Place, events: Sequence[Event], cursor: Path, *, outage: bool) -> Cost:
    """Mirror a journal as the thread does, with the events' own times for the time between batches."""
    about = About(OBJECTIVES)
    writer, fold = Writer(Tracking(), place, about, events[0].run_id), Fold(about)
    writer._client = counted = Counted(writer._client)  # type: ignore[assignment]
    begin, end = events[0].utc, events[-1].utc
    cost, done, now = Cost(search_s=end - begin), 0, begin + GATHER_S
    away = [begin + part * cost.search_s for part in AWAY]
    while done < len(events):
        if outage and away[0] <= now < away[1]:
            now = away[1]
        stop = done
        while stop < min(len(events), done + BATCH) and events[stop].utc <= now:
            stop += 1
        if stop == done:
            now = events[done].utc + GATHER_S
            continue
        cpu, wall = time.thread_time(), time.perf_counter()
        fold.add(events[done:stop])
        writer.write(events[done:stop], fold, fold.told(done, stop), lambda: False)
        fold.forget(stop)
        known = {str(number): child.run_id for number, child in sorted(writer.children.items())}
        write_whole(cursor, json.dumps({"mirrored": stop, "trials": known}))
        took, passed = time.thread_time() - cpu, time.perf_counter() - wall
        behind = sum(1 for e in events[stop : stop + BATCH] if e.utc <= now)
        rest = (REST if behind < BATCH else REST_BEHIND) * took
        now += passed + (GATHER_S if behind == 0 else 0.0) + min(rest, LONGEST_REST_S) * (now <= end)
        cost.batches, cost.cpu_s, cost.wall_s = cost.batches + 1, cost.cpu_s + took, cost.wall_s + passed
        done = stop
    cost.requests, cost.late_s = counted.asked, max(0.0, now - end)
    return cost


def lateness(seconds: float, over: Callable[[], bool]) -> list[float]:
    """By how many milliseconds a controller wakes up late that works for 5 ms every 50 ms."""
    late, end = [], time.monotonic() + seconds
    while time.monotonic() < end and not over():
        due = time.monotonic() + 0.05
        time.sleep(0.05)
        late.append(1000 * (time.monotonic() - due))
        busy = time.thread_time()
        while time.thread_time() - busy < 0.005:
            json.dumps({"a": list(range(20))})
    return late


def felt(place: Place, events: Sequence[Event], folder: Path, seconds: float = 20.0) -> dict[str, float]:
    """How late a controller wakes up alone, and beside a mirror that writes without rests."""
    alone = lateness(seconds / 2, lambda: False)
    mirror = MlflowMirror(Tracking(), place, folder, About(OBJECTIVES))
    mirror.hurry(on=True)
    mirror.replay(events)
    began, busy = time.monotonic(), time.process_time()
    beside = lateness(seconds, lambda: not mirror.behind)
    used = (time.process_time() - busy) / (time.monotonic() - began)
    mirror.close(120.0)
    return {
        "alone: median, ms": statistics.median(alone),
        "alone: 99 %, ms": statistics.quantiles(alone, n=100)[98],
        "beside: median, ms": statistics.median(beside),
        "beside: 99 %, ms": statistics.quantiles(beside, n=100)[98],
        "beside: processors used": used,
    }


def measured(
    name: str, uri: str, root: str | None, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """All three, against one MLflow."""
    place = Place(uri, "bench", root)
    found: dict[str, Any] = {}
    for kind, outage in (("at its pace", False), ("with an outage", True)):
        events = journal(f"{name}-{kind.replace(' ', '-')}", options.trials, options.hours)
        cost = at_pace(place, events, folder / "cursor.json", outage=outage)
        found[kind] = vars(cost) | {
            "share": cost.share,
            "cpu_share": cost.cpu_s / cost.search_s,
            "events": len(events),
        }
        print(
            f"{name}, {kind}: {len(events)} events in {cost.batches} batches and {cost.requests} requests, "
            f"{cost.wall_s:.1f} s ({100 * cost.share:.2f} % of {cost.search_s / 3600:.1f} h), "
            f"{cost.cpu_s:.1f} s of processor time ({100 * cost.cpu_s / cost.search_s:.2f} %), "
            f"complete {cost.late_s:.1f} s after the end",
            flush=True,
        )
    found["felt"] = felt(place, journal(f"{name}-felt", options.trials, options.hours), folder)
    for row, value in found["felt"].items():
        print(f"{name}, a controller's lateness, {row}: {value:.2f}", flush=True)
    return found


def main() -> None:
    """Measure SQLite, and a server if wanted."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--on", nargs="+", choices=["sqlite", "server"], default=["sqlite"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers are ended whatever happens
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root, found = (folder / "artifacts").as_uri(), {}
        if "sqlite" in options.on:
            uri = f"sqlite:///{folder / 'mlflow.db'}"
            found["sqlite"] = measured("SQLite", uri, root, folder, options)
        if "server" in options.on:
            from tests.servers import mlflow, postgres

            database = postgres.start(folder)
            stack.callback(database.stop)
            server = mlflow.start(database.url("mlflow"))
            stack.callback(server.stop)
            (folder / "mlflow.json").unlink(missing_ok=True)
            found["server"] = measured("server on PostgreSQL", server.url, None, folder, options)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
