"""What mirroring the journal costs: a directory and S3 (a real SeaweedFS on this machine), side by side.

A journal like that of a search with two rungs is written event by event, as a controller does. Printed are
the objects that it makes, the milliseconds that an event waits until it is in the store, and the seconds that
another machine takes to read the run and to take it, with and without the whole copy that is made at times.

    python benchmarks/mirror.py [--trials 100] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.servers.seaweed import WRITER, seaweed
from ziggurat.domain import Candidate, Fidelity, Job, JobKind, Measurement
from ziggurat.events import (
    Body,
    Decided,
    Measured,
    SegmentFinished,
    SegmentPlanned,
    SegmentStarted,
    TrialProposed,
)
from ziggurat.journal import Journal
from ziggurat.journal_chain import FOLDER, read
from ziggurat.journal_mirror import Mirror
from ziggurat.stores import DirectoryStore, S3Store, Store

LADDER = (Fidelity(1), Fidelity(3))


def written(trials: int) -> Iterator[list[Body]]:
    """What the engine records, in the portions in which it does."""
    for number in range(trials):
        candidate = Candidate({"width": number, "learning_rate": 0.01})
        yield [TrialProposed(number, number, "search", candidate, number, LADDER)]
        for rung in range(len(LADDER)):
            key = f"{number:05d}-train-{rung}-0"
            job = Job(key, JobKind.TRAIN, "search", number, candidate, LADDER, rung - 1, rung)
            found = tuple(
                Measurement(m, 0.5, step=rung + 1) for m in ("val_accuracy", "val_loss", "train_loss")
            )
            yield [SegmentPlanned(job, 1.0, 0.0)]
            yield [SegmentStarted(key, number, "local:1")]
            yield [Measured(key, number, 0, rung + 1, found)]
            yield [
                SegmentFinished(key, number, 1.0, 0.0, measurements=found, checkpoint=f"trials/{key}.ckpt")
            ]
            if rung + 1 < len(LADDER):
                yield [Decided("stopper", "continue", number, rung)]


def seconds(store: Store, folder: Path) -> dict[str, float]:
    """Seconds of reading a run, and of taking it on a machine that knows nothing of it."""
    began = time.perf_counter()
    read(store)
    midway = time.perf_counter()
    mirror = Mirror(store)
    mirror.take()
    mirror.settle(folder / "other.jsonl")
    return {"read, s": midway - began, "take over, s": time.perf_counter() - midway}


def measured(store: Store, folder: Path, trials: int) -> dict[str, float]:
    """One journal in one store."""
    mirror, path, waits = Mirror(store), folder / "journal.jsonl", []
    mirror.take()
    mirror.settle(path)
    with Journal(path, "run") as journal:
        for bodies in written(trials):
            events = journal.append(bodies, 1.0)
            began = time.perf_counter()
            mirror.append(events)
            waits.append(1000 * (time.perf_counter() - began))
        mirror.flush()
        length = len(path.read_bytes().splitlines())
    entries = list(store.entries(FOLDER))
    found: dict[str, float] = {
        "events": length,
        "objects": len(entries),
        "bytes": sum(entry.size for entry in entries),
        "wait of an event, median ms": statistics.median(waits),
        "wait of an event, 99 % ms": statistics.quantiles(waits, n=100)[98],
        "waits in all, s": sum(waits) / 1000,
        **seconds(store, folder),
    }
    (folder / "other.jsonl").unlink()
    mirror = Mirror(store)
    mirror.take()
    mirror.settle(path)
    mirror.compact(path)
    return found | {f"whole copy: {name}": value for name, value in seconds(store, folder).items()}


def main() -> None:
    """Measure both stores and print them side by side."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, seaweed() as server:
        os.environ.update(WRITER.environment())
        s3 = S3Store(bucket=server.bucket, prefix="mirror", endpoint=server.endpoint, region=server.region)
        found = {}
        for kind, store in (("directory", DirectoryStore(path=Path(name) / "store")), ("s3", s3)):
            folder = Path(name) / kind
            folder.mkdir()
            found[kind] = measured(store.open("run"), folder, options.trials)
    for row, value in found["directory"].items():
        print(f"{row:34} {value:12.5g} {found['s3'][row]:12.5g}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
