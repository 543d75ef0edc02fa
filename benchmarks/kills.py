"""Kill the controller (SIGKILL) at random moments, resume it each time, compare the end with a quiet run's.

The spec is a small search with the `sobol` searcher and the `never` stopper, so the end is a function of
the spec. Prints a line for each kill and one verdict; exits with 1 if a finished segment was paid twice, a
trial is missing, the front differs, or a process of a dead controller was still there when the run had been
resumed.

    python benchmarks/kills.py --kills 20
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

SPEC = """\
schema_version: 1
name: kills
seed: 1
data: {kind: digits, image: false}
space:
  kind: mlp
  depth: {min: 1, max: 2}
  width: [16, 32, 64]
  hyperparameters: {learning_rate: {min: 1e-3, max: 3e-2, log: true}, batch_size: [64, 128]}
objectives:
  - {metric: val_accuracy, reference: 0.5}
  - {metric: parameters, reference: 20000}
fidelities: [{epochs: 2}, {epochs: 6}]
validate: {candidates: 3, seeds: 1, proxy: false}
search: {searcher: {kind: sobol}, stopper: {kind: never}, trials: TRIALS, workers: 2}
retrain: {k: 2, seeds: 1, epochs: 6}
launcher: {kind: local, usd_per_hour: 1.0}
tracking: {enabled: false}
"""


def ziggurat(*arguments: str) -> list[str]:
    """The argument list of a command."""
    return [sys.executable, "-m", "flows.cli", *arguments]


def quiet(spec: Path, folder: Path) -> dict:
    """The result of a run that nobody disturbs."""
    done = subprocess.run(
        ziggurat("run", str(spec), "--runs-dir", str(folder), "--json"),
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def events(run_dir: Path) -> list[dict]:
    """All whole lines of a journal."""
    path = run_dir / "journal.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def done(run_dir: Path) -> bool:
    """Whether the run has ended by itself."""
    return any(e["type"] == "run_finished" and e["status"] == "completed" for e in events(run_dir))


def strangers(run_dir: Path, controller: int) -> list[int]:
    """Processes of the run that are not the living controller's children."""
    prefix, found = f"{run_dir.resolve()}::", []
    try:
        family = {controller, *(p.pid for p in psutil.Process(controller).children(recursive=True))}
    except psutil.Error:
        family = {controller}
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("ZIGGURAT_CONTROLLER", "").startswith(prefix)
                and process.pid not in family
            ):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def _watch(process: subprocess.Popen, seconds: float) -> None:
    """Wait some seconds, or until a process has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)


def _await_work(process: subprocess.Popen, run_dir: Path | None, folder: Path) -> None:
    """Wait until a controller has planned a segment of its own."""
    before = len(events(run_dir)) if run_dir else 0
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        here = run_dir or next((p for p in folder.iterdir() if not p.name.startswith(".")), None)
        if here and any(e["type"] == "segment_planned" for e in events(here)[before:]):
            return
        time.sleep(0.05)


def disturb(spec: Path, folder: Path, kills: int, rng: random.Random) -> tuple[Path, int]:
    """Start, kill and resume until the kills are used up: run directory and number of lingering processes."""
    command, run_dir, lingering = ziggurat("run", str(spec), "--runs-dir", str(folder), "--json"), None, 0
    for number in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        if rng.random() < 0.3:
            _watch(process, rng.uniform(0.0, 8.0))  # while it starts
        else:
            _await_work(process, run_dir, folder)
            _watch(process, rng.uniform(0.0, 1.2))  # short, so that the run lasts for all kills
        wait = time.monotonic() - began
        if process.poll() is not None:
            print(f"kill {number + 1}: the run had ended after {time.monotonic() - began:.1f} s", flush=True)
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found = [p for p in folder.iterdir() if (p / "spec.yaml").exists() and not p.name.startswith(".")]
        if found:
            run_dir = found[0]
            command = ziggurat("resume", str(run_dir), "--json")
            time.sleep(3.0)
            left = strangers(run_dir, process.pid)
            lingering += len(left)
            segments = sum(e["type"] == "segment_finished" for e in events(run_dir))
            print(
                f"kill {number + 1} after {wait:.1f} s: {segments} segments, {len(left)} processes left",
                flush=True,
            )
        else:
            print(f"kill {number + 1} after {wait:.1f} s: before the run directory was there", flush=True)
    final = subprocess.run(command, check=True, capture_output=True, text=True)
    run_dir = Path(json.loads(final.stdout.splitlines()[-1])["run_dir"])
    return run_dir, lingering


def judge(run_dir: Path, expected: dict, trials: int) -> list[str]:
    """What is wrong with the end of a disturbed run."""
    found = events(run_dir)
    planned = {e["job"]["key"]: e["job"] for e in found if e["type"] == "segment_planned"}
    ends = [e for e in found if e["type"] == "segment_finished" and "failure" not in e]
    paid = Counter(
        (
            planned[e["job"]]["trial"],
            planned[e["job"]]["kind"],
            planned[e["job"]]["to_rung"],
            planned[e["job"]].get("device"),
        )
        for e in ends
    )
    wrong = [f"segment {key} paid {n} times" for key, n in paid.items() if n > 1]
    search = [e for e in found if e["type"] == "trial_proposed" and e["stage"] == "search"]
    if len(search) != trials:
        wrong.append(f"{len(search)} search trials instead of {trials}")
    top = {t for t, kind, rung, _ in paid if kind == "train" and rung == 1}
    missing = [e["trial"] for e in search if e["trial"] not in top]
    if missing:
        wrong.append(f"trials {missing} did not reach the top rung")
    front = json.loads((run_dir / "report" / "front.json").read_text())["front"]

    def key(points: list[dict]) -> list[str]:
        names = ("val_accuracy", "parameters")
        return sorted(
            json.dumps([p["candidate"], [p["metrics"][n] for n in names]], sort_keys=True) for p in points
        )

    if key(front) != key(expected["front"]):
        wrong.append("the front differs from the quiet run's")
    return wrong


def main() -> int:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="ziggurat-kills-") as temporary:
        root = Path(temporary)
        spec = root / "spec.yaml"
        spec.write_text(SPEC.replace("TRIALS", str(given.trials)))
        expected = quiet(spec, root / "quiet")
        print(f"quiet run: {expected['segments']} segments, front of {len(expected['front'])}", flush=True)
        (root / "disturbed").mkdir()
        run_dir, lingering = disturb(spec, root / "disturbed", given.kills, random.Random(given.seed))
        wrong = judge(run_dir, expected, given.trials)
        if lingering:
            wrong.append(f"{lingering} processes of dead controllers were left")
        starts = sum(e["type"] == "run_started" for e in events(run_dir))
        print(
            f"{starts} controllers; "
            + ("; ".join(wrong) or "complete, nothing paid twice, front equal to the quiet run's")
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
