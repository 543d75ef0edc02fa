"""Builders for tests with a user's script: one that knows nothing of Ziggurat, and specs that use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SCRIPT = '''
"""Pretends to train: reward grows with epochs and falls with the distance of x from 3."""
import json, os, sys

given = dict(a.split("=", 1) for a in sys.argv[1:])
if given.get("mode") == "test":
    state = json.load(open(os.path.join(given["dir"], "state.json")))
    print("test_reward=%g" % (state["reward"] - 1))
elif given.get("mode") == "profile":
    print("latency_p50_ms=%g" % (1 + float(given["x"])))
    print("parameters=%d" % (10 * float(given["x"]) + 1))
else:
    x, epochs = float(given["x"]), int(given["epochs"])
    path = os.path.join(given["dir"], "state.json")
    begun = json.load(open(path))["epochs"] if given.get("resume") else 0
    for epoch in range(begun + 1, epochs + 1):
        reward = -(x - 3) ** 2 - 10.0 / epoch + 0.001 * (int(given["seed"]) % 7)
        print("epoch %d reward=%g" % (epoch, reward), flush=True)
    print("starts_from=%d" % begun)
    json.dump({"epochs": epochs, "reward": reward, "seed": given["seed"]}, open(path, "w"))
'''


def write(folder: Path) -> Path:
    """The script in a folder."""
    path = folder / "user_script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def trainer(path: Path, *, resumes: bool = True, **changes: Any) -> dict[str, Any]:
    """A trainer of the script; without `resumes` it begins anew at every rung."""
    program = ["${python}", "-I", "-S", str(path)]
    return {
        "kind": "script",
        "command": [
            *program,
            "${args_no_hyphens}",
            "epochs=${epochs}",
            "seed=${seed}",
            "dir=${checkpoint_dir}",
        ],
        **({"resume": ["resume=yes"]} if resumes else {}),
        "metrics": {"reward": {"from": "stdout", "step": r"epoch (\d+)"}},
        **changes,
    }


def testing(path: Path) -> dict[str, Any]:
    """Its test command."""
    return {
        "command": ["${python}", "-I", "-S", str(path), "mode=test", "dir=${checkpoint_dir}"],
        "metrics": {"test_reward": "stdout"},
    }


def profiling(path: Path) -> dict[str, Any]:
    """Its profile command."""
    return {"command": ["${python}", "-I", "-S", str(path), "mode=profile", "x=${x}"]}


def plain(path: Path, **changes: Any) -> dict[str, Any]:
    """A spec that searches the script's two parameters; changes replace whole keys."""
    return {
        "name": "scripted",
        "space": {
            "kind": "parameters",
            "choices": {"x": {"min": 0.0, "max": 6.0}, "y": ["a", "b"]},
            "hyperparameters": ["y"],
        },
        "objectives": [{"metric": "reward", "goal": "maximize", "reference": -50}],
        "fidelities": [{"epochs": 1}, {"epochs": 3}],
        "validate": {"enabled": False},
        "search": {
            "searcher": {"kind": "sobol"},
            "stopper": {"kind": "asha", "reduction_factor": 3},
            "trials": 6,
            "trainer": trainer(path),
        },
        "retrain": {"k": 1, "seeds": 2, "epochs": 4},
        "tracking": {"enabled": False},
        **changes,
    }
