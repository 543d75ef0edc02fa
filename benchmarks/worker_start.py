"""What the start of workers costs: spawned, each importing for itself, and forked from a warm template.

For each way a pool of two workers and the service is started and closed several times in a process of its
own, on a spec of handwritten digits. Printed are the seconds until all three are ready and the seconds of
processor time of everything that was started, for the first pool of a controller (the template imports then)
and for later ones, and the ratio of the two ways.

    python benchmarks/worker_start.py [--pools 4] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil

from ziggurat.domain import JobKind
from ziggurat.launchers import Local
from ziggurat.launchers.pool import Pool

SPEC = """\
schema_version: 1
name: start
data: {kind: digits, image: false}
space: {kind: mlp, depth: 2, width: {min: 16, max: 128}}
objectives:
  - {metric: val_accuracy, reference: 0.1}
  - {metric: parameters, reference: 30000}
fidelities: [{epochs: 1}]
tracking: {enabled: false}
"""


def busy() -> float:
    """Seconds of processor time of all descendants of this process, those already collected included."""
    here = os.times()
    total = here.children_user + here.children_system
    for process in psutil.Process().children(recursive=True):
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def measure(how: str, workers: int, pools: int) -> list[dict[str, float]]:
    """Start and close pools one after the other."""
    found = []
    with tempfile.TemporaryDirectory(prefix="ziggurat-start-") as temporary:
        for number in range(pools):
            folder = Path(temporary, str(number))
            (folder / "trials").mkdir(parents=True)
            (folder / "spec.yaml").write_text(SPEC)
            cpu, began = busy(), time.monotonic()
            pool = Pool(Local(start=how), folder, workers)
            while pool.free(JobKind.TRAIN) < workers or not pool.free(JobKind.PROFILE):
                pool.wait(0.05)
            found.append({"wall_s": time.monotonic() - began, "cpu_s": busy() - cpu})
            pool.close()
    return found


def main() -> None:
    """Measure both ways in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pools", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=["fork", "spawn"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measure(given.only, given.workers, given.pools)))
        return
    table = {}
    for how in ("spawn", "fork"):
        words = ["--only", how, "--pools", str(given.pools), "--workers", str(given.workers)]
        done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
        first, *later = json.loads(done.stdout)
        for which, rows in (("first pool", [first]), ("later pools", later)):
            for name in ("wall_s", "cpu_s"):
                table[how, which, name] = statistics.median(row[name] for row in rows)
    print(f"{given.workers} workers and the service{'spawned':>17}{'forked':>9}{'ratio':>8}")
    for which in ("first pool", "later pools"):
        for name, words in (("wall_s", "seconds until ready"), ("cpu_s", "processor seconds")):
            spawned, forked = table["spawn", which, name], table["fork", which, name]
            print(f"{which + ', ' + words:<33}{spawned:9.2f}{forked:9.2f}{spawned / forked:8.1f}")


if __name__ == "__main__":
    main()
