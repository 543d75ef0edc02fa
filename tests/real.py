"""Builders for tests with real worker processes: small specs, a user's module that misbehaves, sessions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ziggurat import runs, spec, stages
from ziggurat.domain import Candidate, Fidelity, Job, JobKind
from ziggurat.events import Event
from ziggurat.history import History
from ziggurat.journal import read_events
from ziggurat.launchers import Local
from ziggurat.launchers.pool import Pool
from ziggurat.protocols import Progress
from ziggurat.session import Session

ROOT = Path(__file__).parents[1]
PATIENCE_S = 40.0
"""Deadline of every wait, far beyond what it takes."""

MODELS = """
import ctypes, os, signal, subprocess, sys, time
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, mode):
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        self.mode, self.batches = mode, 0

    def forward(self, x):
        if self.training and len(x) > 1:
            self.batches += 1
            ACTIONS.get(self.mode, lambda net: None)(self)
        elif self.mode == "lazy" and len(x) == 1:
            time.sleep(0.004)
        return self.inner(x)


def raise_(net):
    raise RuntimeError("the user's own words")


def segv(net):
    ctypes.string_at(0)


def kill(net):
    os.kill(os.getpid(), signal.SIGKILL)


def grow(net):
    net.held = bytearray(os.urandom(1)) * 700_000_000
    time.sleep(30)


def memory(net):
    raise MemoryError("no room for a tensor")


def chatter(net):
    line = '{"is": "done", "key": "none"}\\n'
    sys.stdout.write(line * (10_000_000 // len(line) // 5))
    os.write(1, line.encode() * 1000)
    subprocess.run(["echo", line], check=True)


def brood(net):
    if net.batches == 1:
        child = subprocess.Popen(["sleep", "600"], process_group=0)
        print("child", child.pid, file=open("child.pid", "w"))
    time.sleep(0.02)


def creep(net):
    time.sleep(0.0 if net.batches < 15 else 0.14)


ACTIONS = {
    "raise": raise_, "segv": segv, "kill": kill, "grow": grow, "memory": memory, "chatter": chatter,
    "brood": brood, "creep": creep,
    "exit": lambda net: os._exit(7),
    "sysexit": lambda net: sys.exit(3),
    "slow": lambda net: time.sleep(0.05),
    "deaf": lambda net: os.closerange(3, 64) or time.sleep(30),
    "endless": lambda net: time.sleep(600),
}


def shuffled():
    rng = np.random.default_rng(0)
    return rng.random((1200, 64), dtype=np.float32), rng.permutation(np.arange(1200) % 10)


def build(choices):
    mode = choices.get("mode", "good")
    if mode == "unbuildable" or choices.get("width") == 13:
        raise ValueError("13 units bring bad luck")
    if mode == "deadly":
        os._exit(9)
    return Net(choices["width"], mode)
"""


def use_models(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Write the user's module and let workers find it; the working directory is the folder."""
    (folder / "user_models.py").write_text(MODELS, encoding="utf-8")
    patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    patch.chdir(folder)


def python_space(**declared: Any) -> dict[str, Any]:
    """A space of the user's module; every choice is declared as YAML has it."""
    return {
        "kind": "python",
        "function": "user_models:build",
        "choices": {"width": [8], **declared},
        "hyperparameters": {"learning_rate": {"min": 0.01, "max": 0.03}, "batch_size": [32]},
    }


def plain(**changes: Any) -> dict[str, Any]:
    """A spec that takes a second: digits, networks of 8 units, no tracking; changes replace whole keys."""
    return {
        "name": "small",
        "data": {"kind": "digits", "image": False, "limit": 600},
        "space": {
            "kind": "mlp",
            "depth": {"min": 1, "max": 2},
            "width": [4, 8, 16],
            "dropout": [0.0],
            "activation": ["relu"],
            "norm": ["none"],
            "hyperparameters": {
                "learning_rate": {"min": 0.005, "max": 0.05, "log": True},
                "batch_size": [32],
            },
        },
        "objectives": [
            {"metric": "val_accuracy", "reference": 0.1},
            {"metric": "parameters", "reference": 3000},
        ],
        "fidelities": [{"epochs": 1}, {"epochs": 2}],
        "validate": {"enabled": False},
        "search": {"searcher": {"kind": "sobol"}, "trials": 6, "workers": 2},
        "retrain": {"k": 1, "seeds": 1, "epochs": 2, "segment_epochs": 1},
        "devices": [{"kind": "torch", "repetitions": 20, "warmup": 2, "max_seconds": 0.2}],
        "launcher": {"kind": "local", "usd_per_hour": 1.0},
        "tracking": {"enabled": False},
        **changes,
    }


def create(runs_dir: Path, settings: Mapping[str, Any]) -> runs.Run:
    """A new run of a spec."""
    raw = dict(settings)
    return runs.create(spec.parse(raw, "test"), raw, runs_dir)


@contextmanager
def session(run: runs.Run) -> Iterator[Session]:
    """A session that is closed, whatever happens."""
    here = Session(run, None)
    try:
        yield here
    finally:
        here.close()


def whole(here: Session) -> None:
    """All stages, without Prefect."""
    for stage in (stages.preflight, stages.validate, stages.search, stages.retrain, stages.measure):
        stage(here.engine)
    here.run.finish(here.status())
    here.raise_alerts()


def events(folder: Path) -> list[Event]:
    """The events of a run directory."""
    return [event for event, _ in read_events(folder / "journal.jsonl")]


def until(condition: Callable[[], Any], step: Callable[[], object] = lambda: time.sleep(0.02)) -> Any:
    """The first true value of a condition; an error if there is none within a minute."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "waited in vain"
        step()


def pool_in(folder: Path, workers: int, **settings: Any) -> Pool:
    """A pool on a run directory of its own, for the user's module."""
    (folder / "trials").mkdir(parents=True)
    text = yaml.safe_dump(plain(space=python_space(mode=["good"])))
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    return Pool(Local(**settings), folder, workers)


def train(number: str, mode: str = "good", epochs: int = 1, **changes: Any) -> Job:
    """A job of one segment of a trial."""
    return Job(
        **{
            "key": f"{number}-train-0-0",
            "kind": JobKind.TRAIN,
            "stage": "search",
            "trial": int(number),
            "candidate": Candidate({"mode": mode, "width": 8, "learning_rate": 0.02, "batch_size": 32}),
            "ladder": (Fidelity(epochs),),
            "to_rung": 0,
            **changes,
        }
    )


def ended(pool: Pool, key: str) -> tuple[Progress, list[Any]]:
    """How a started job ends, and the rows it gave on its way."""
    rows: list[Any] = []

    def done() -> Progress | None:
        progress = pool.poll(key)
        rows.extend(progress.rows)
        return progress if progress.done else None

    return until(done, lambda: pool.wait(0.1)), rows


def begun(pool: Pool, job: Job) -> int:
    """Start a job as soon as a worker is free; its process id is returned."""
    until(lambda: pool.free(job.kind), lambda: pool.wait(0.1))
    return int(pool.start(job).removeprefix("local:"))


def done(pool: Pool, job: Job) -> Progress:
    """Start a job and wait for its end."""
    begun(pool, job)
    return ended(pool, job.key)[0]


def front(history: History) -> set[tuple[float, float]]:
    """Accuracy and size of all search trials at the top rung, exactly."""
    found = [t for t in history.of_stage("search") if t.rung == t.top_rung]
    return {(t.value("val_accuracy"), t.value("parameters")) for t in found}
