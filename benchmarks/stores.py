"""What a store costs: a directory and S3 (a real SeaweedFS on this machine), side by side in one run.

Small things are put and got one after the other, as beats and results are; large files are uploaded and
downloaded as checkpoints are. Every round visits both stores, so that a busy machine slows both. Printed are
medians over the rounds, and how many times longer S3 takes than the directory.

    python benchmarks/stores.py [--rounds 5] [--small 100] [--mb 64] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.servers.seaweed import WRITER, seaweed
from ziggurat.stores import ABSENT, Bucket, Directory, DirectoryStore, S3Store

MB = 1 << 20


def seconds(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measured(store: Directory | Bucket, folder: Path, name: str, small: int, mb: int) -> dict[str, float]:
    """Milliseconds of each small operation and MB/s of large ones."""
    keys = [f"{name}/{i:04d}.json" for i in range(small)]
    data = b"x" * 1000

    def create() -> None:
        for key in keys:
            store.put(key, data, only_if=ABSENT)

    def put() -> None:
        for key in keys:
            store.put(key, data)

    def get() -> None:
        for key in keys:
            store.get(key)

    large = f"{name}/large.ckpt"
    found = {
        "create, ms": 1000 * seconds(create) / small,
        "put, ms": 1000 * seconds(put) / small,
        "get, ms": 1000 * seconds(get) / small,
        f"list {small}, ms": 1000 * seconds(lambda: list(store.entries(f"{name}/"))),
        "upload, MB/s": mb / seconds(lambda: store.upload(folder / "source", large)),
        "download, MB/s": mb / seconds(lambda: store.download(large, folder / "target")),
    }
    store.delete([*keys, large])
    return found


def run(rounds: int, small: int, mb: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds, by operation and store."""
    os.environ.update(WRITER.environment())
    rows: dict[str, list[dict[str, float]]] = {"directory": [], "s3": []}
    with seaweed() as server, tempfile.TemporaryDirectory(prefix="ziggurat-stores-") as name:
        folder = Path(name)
        (folder / "source").write_bytes(os.urandom(MB) * mb)
        settings = {
            "directory": DirectoryStore(path=folder / "store"),
            "s3": S3Store(bucket=server.bucket, endpoint=server.endpoint),
        }
        opened = {kind: setting.open("run") for kind, setting in settings.items()}
        for store in opened.values():
            store.check()
        for i in range(rounds):
            for kind, store in opened.items():
                rows[kind].append(measured(store, folder, f"round-{i}", small, mb))
    names = list(rows["s3"][0])
    return {n: {kind: statistics.median(r[n] for r in rows[kind]) for kind in rows} for n in names}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=100)
    parser.add_argument("--mb", type=int, default=64)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = run(options.rounds, options.small, options.mb)
    print(f"{'':16}{'directory':>12}{'s3':>12}{'times slower':>14}")
    for name, row in found.items():
        ratio = row["directory"] / row["s3"] if name.endswith("MB/s") else row["s3"] / row["directory"]
        print(f"{name:16}{row['directory']:12.2f}{row['s3']:12.2f}{ratio:14.1f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
