"""What a segment costs on Ray beside its training: on a warm worker, on a new one, and as a cold process.

Ray listens on all addresses of a machine; run it where nobody else can reach it:
    RAY_AUTH_MODE=disabled unshare -n -p -f --mount-proc --kill-child bash -c \
        'ip link set lo up; exec python benchmarks/ray_overhead.py'
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from ziggurat.domain import Candidate, Fidelity, Job, JobKind
from ziggurat.launchers.ray_launcher import Ray
from ziggurat.protocols import Launcher, Progress, Site

ROOT = Path(__file__).parents[1]
WARM_JOBS = 8
CHOICES = {"depth": 1, "width": 8, "dropout": 0.0, "activation": "relu", "norm": "none"}
SPEC = {
    "name": "overhead",
    "data": {"kind": "digits", "image": False, "limit": 600},
    "space": {
        "kind": "mlp",
        "depth": [1, 2],
        "width": [8, 16, 24, 32],
        "dropout": [0.0],
        "activation": ["relu"],
        "norm": ["none"],
        "hyperparameters": {"learning_rate": [0.02], "batch_size": [32]},
    },
    "objectives": [{"metric": "val_accuracy", "reference": 0.1}],
    "fidelities": [{"epochs": 1}],
    "search": {"searcher": {"kind": "sobol"}, "trials": 8},
    "tracking": {"enabled": False},
}


def job(number: int) -> Job:
    """A segment of one epoch."""
    candidate = Candidate({**CHOICES, "learning_rate": 0.02, "batch_size": 32})
    key = f"{number:05d}-train-0-0"
    return Job(key, JobKind.TRAIN, "search", number, candidate=candidate, ladder=(Fidelity(1),), to_rung=0)


def done(launcher: Launcher, work: Job) -> tuple[float, Progress]:
    """Seconds from start to result as the controller sees them, and the result."""
    began = time.monotonic()
    launcher.start(work)
    while not (progress := launcher.poll(work.key)).done:
        launcher.wait(0.02)
    assert progress.failure is None, progress.failure
    return time.monotonic() - began, progress


def main() -> None:
    """Measure and print."""
    folder = Path(tempfile.mkdtemp(prefix="overhead-")) / "run"
    (folder / "trials").mkdir(parents=True)
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    os.environ["PYTHONPATH"] = str(ROOT)
    launcher = Ray(poll_s=0.05).launch(Site(folder, 1, role="measured"))
    first, _ = done(launcher, job(0))
    print(f"first segment: Ray, an actor, imports and data: {first:.2f} s")
    rows = [done(launcher, job(n)) for n in range(1, WARM_JOBS + 1)]
    whole = statistics.median(seconds for seconds, _ in rows)
    beside = statistics.median(seconds - progress.seconds for seconds, progress in rows)
    print(f"a segment on a warm worker: {whole:.2f} s, of them beside the training {beside:.2f} s")
    launcher.close()
    cold = []
    for number in range(1, 3):
        (folder / f"trials/{number:05d}/{number:05d}-train-0-0.json").unlink()
        began = time.monotonic()
        command = [sys.executable, "-m", "ziggurat.once", str(folder), job(number).key]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cold.append(time.monotonic() - began)
    print(f"the same segment in a process of its own: {min(cold):.2f} s")


if __name__ == "__main__":
    main()
