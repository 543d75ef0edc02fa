"""One search on several launchers: equal candidates and fronts, and what a segment costs beside its training.

Only `launcher:` differs. With `sobol`, `never` and equal seeds all runs must propose the same candidates and
find the same front. The overhead of a segment is the time from its plan to its end in the journal, less the
seconds that its training took inside the worker: queue, start of a process, imports, building the model, and
the controller's looks at the job. The first segment of each worker is given apart, since warm workers start
then.

Slurm is started on loopback as root where it is installed (Debian: slurm-wlm, munge), Ray in a network
namespace of its own (unshare), since it listens on all addresses.

    python benchmarks/launchers.py [--only local slurm] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import kills
import yaml

from tests.servers.slurm import SlurmServer, why_not
from ziggurat.launchers.results import result_key

CHANGES = {"name": "launchers", "validate": {"enabled": False}, "retrain": {"enabled": False}}
"""What this search has not of the one that is disturbed by kills."""
LAUNCHERS: dict[str, dict[str, Any]] = {
    "local": {"kind": "local"},
    "local_cwd": {"kind": "torchx", "scheduler": "local_cwd", "poll_s": 0.2},
    "slurm": {
        "kind": "torchx",
        "scheduler": "slurm",
        "settings": {"partition": "low"},
        "poll_s": 0.2,
        "resources": {"memory_mb": 900},
    },
    "ray": {"kind": "ray", "poll_s": 0.2},
}
NAMESPACE = (
    "unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child",
    "bash", "-c", 'ip link set lo up; exec "$@"', "inside",
)  # fmt: skip


@contextmanager
def around(name: str, folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """What a launcher needs to be there: words before the command, and variables."""
    if name == "slurm":
        (folder / "slurm").mkdir()
        server = SlurmServer(folder / "slurm")
        try:
            yield [], server.environment
        finally:
            server.close()
    elif name == "ray":
        yield [*NAMESPACE], {"RAY_AUTH_MODE": "disabled"}
    else:
        yield [], {}


def run(name: str, folder: Path, trials: int) -> tuple[Path, dict[str, Any]]:
    """Run the search on a launcher: run directory and result."""
    folder.mkdir()
    spec = folder / "spec.yaml"
    base = yaml.safe_load(kills.SPEC.replace("TRIALS", str(trials)))
    spec.write_text(yaml.safe_dump(base | CHANGES | {"launcher": LAUNCHERS[name]}))
    with around(name, folder) as (before, variables):
        done = subprocess.run(
            [*before, *kills.ziggurat("run", str(spec), "--runs-dir", str(folder / "runs"), "--json")],
            capture_output=True, text=True, check=False, env=os.environ | variables,
        )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"{name}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return Path(result["run_dir"]), result


def overheads(run_dir: Path) -> tuple[list[float], list[float], list[float]]:
    """Seconds beside the training: of the two first segments, of other trials' first, of all next ones."""
    found = kills.events(run_dir)
    planned = {e["job"]["key"]: e for e in found if e["type"] == "segment_planned"}
    starts: list[float] = []
    nexts: list[float] = []
    for end in (e for e in found if e["type"] == "segment_finished" and "failure" not in e):
        begin = planned[end["job"]]
        if begin["job"]["kind"] == "train":
            result = json.loads((run_dir / result_key(end["job"])).read_text())
            of = nexts if begin["job"].get("to_rung", -1) > 0 else starts
            of.append(end["utc"] - begin["utc"] - result["payload"]["train_s"])
    return starts[:2], starts[2:], nexts


def outcome(run_dir: Path) -> str:
    """All candidates and the front, as text to compare."""
    proposed = [
        [e["index"], e["candidate"], e["seed"]]
        for e in kills.events(run_dir)
        if e["type"] == "trial_proposed" and e["stage"] == "search"
    ]
    front = json.loads((run_dir / "report" / "front.json").read_text())["front"]
    points = [[p["candidate"], [p["metrics"][m] for m in ("val_accuracy", "parameters")]] for p in front]
    return json.dumps([sorted(proposed, key=lambda p: p[0]), sorted(points, key=str)], sort_keys=True)


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--only", nargs="+", choices=list(LAUNCHERS), default=list(LAUNCHERS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.trials < 3:
        parser.error(f"--trials is {given.trials}; give at least 3, two of which start the workers")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows: dict[str, dict[str, Any]] = {}
    ends = set()
    print("seconds beside the training: of the two first segments, of later trials' first, of all next ones")
    print(f"{'launcher':10} {'wall s':>7} {'first (mean)':>14} {'later (median)':>14} {'next (median)':>14}")
    with tempfile.TemporaryDirectory(prefix="ziggurat-launchers-") as temporary:
        for name in given.only:
            if name == "slurm" and (reason := why_not()):
                print(f"{name:10} left out: {reason}")
                continue
            run_dir, result = run(name, Path(temporary) / name, given.trials)
            first, later, nexts = overheads(run_dir)
            ends.add(outcome(run_dir))
            rows[name] = {
                "wall_s": result["wall_s"],
                "first_s": first,
                "later_s": later,
                "next_s": nexts,
            }
            print(
                f"{name:10} {result['wall_s']:7.1f} {statistics.mean(first):14.2f} "
                f"{statistics.median(later):14.2f} {statistics.median(nexts):14.2f}",
                flush=True,
            )
    equal = len(ends) == 1
    print("all proposed the same candidates and found the same front" if equal else "THE ENDS DIFFER")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
