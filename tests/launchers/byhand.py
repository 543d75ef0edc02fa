"""Jobs that need no torch: a script that counts epochs, and the spec that describes it."""

import sys
from pathlib import Path
from typing import Any

import yaml

from tests import real
from ziggurat.domain import Candidate, Fidelity, Job, JobKind

SCRIPT = """\
import argparse, json, signal, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float)
parser.add_argument("--mode", default="good")
parser.add_argument("--epochs", type=int)
parser.add_argument("--pace", type=float, default=0.02)
parser.add_argument("--out", type=Path)
parser.add_argument("--resume", type=Path)
given = parser.parse_args()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
if given.mode == "bad":
    sys.exit("the rate brings bad luck")
done = json.loads(given.resume.read_text())["epoch"] if given.resume else 0
for epoch in range(done + 1, given.epochs + 1):
    time.sleep(given.pace)
    part = given.out / "state.part"
    part.write_text(json.dumps({"epoch": epoch}))
    part.rename(given.out / "state.json")
    print(f"epoch={epoch} val_accuracy={1 - given.rate / epoch}", flush=True)
"""


def settings(script: Path, **changes: Any) -> dict[str, Any]:
    """A spec whose trainings are the script's."""
    return {
        **real.plain(),
        "data": {"kind": "external"},
        "space": {"kind": "parameters", "choices": {"rate": {"min": 0.1, "max": 0.4}, "mode": ["good"]}},
        "objectives": [{"metric": "val_accuracy", "reference": 0.1}],
        "search": {
            "searcher": {"kind": "sobol"},
            "trials": 6,
            "workers": 2,
            "trainer": {
                "kind": "script",
                "command": [
                    *(sys.executable, str(script), "${args}"),
                    *("--epochs", "${epochs}", "--out", "${checkpoint_dir}"),
                ],
                "resume": ["--resume", "${checkpoint_dir}/state.json"],
                "metrics": {"val_accuracy": {"from": "stdout", "step": r"epoch=(\d+)"}},
                "grace_s": 5,
            },
        },
        **changes,
    }  # fmt: skip


def run_folder(home: Path, **changes: Any) -> Path:
    """A run directory with the spec, as a run would have made it; the script lies beside it."""
    script = home / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")
    folder = home / "run-1"
    (folder / "trials").mkdir(parents=True)
    (folder / "logs").mkdir()
    (folder / "spec.yaml").write_text(yaml.safe_dump(settings(script, **changes)), encoding="utf-8")
    return folder


def train(number: int, epochs: int = 2, mode: str = "good", **changes: Any) -> Job:
    """A job of one segment of a trial."""
    plain: dict[str, Any] = {
        "key": f"{number:05d}-train-0-0",
        "kind": JobKind.TRAIN,
        "stage": "search",
        "trial": number,
        "candidate": Candidate({"rate": 0.2, "mode": mode}),
        "ladder": (Fidelity(epochs),),
        "to_rung": 0,
    }
    return Job(**{**plain, **changes})
