"""What a trial costs beside its training: a bare loop, one process for each trial, and Ziggurat, in one run.

Twelve fixed candidates of a two-layer perceptron on handwritten digits (the space of the Ax and TorchX
tutorial: two widths, learning rate, dropout, batch size, one to four epochs) are trained

    (a) one after the other in a bare PyTorch loop,
    (b) each in a fresh process, two at a time,
    (c) by Ziggurat's search stage with two workers.

With `--search` it also runs two searches and compares the time of the stage with what it must take at least.

    python benchmarks/overhead.py [--search] [--json OUT]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil

TRIALS, WORKERS = 12, 2
SPEC = """\
schema_version: 1
name: overhead
data: {kind: digits, image: false}
space:
  kind: mlp
  depth: 2
  width: {min: 16, max: 128}
  dropout: {min: 0.0, max: 0.5}
  activation: relu
  norm: none
  hyperparameters: {learning_rate: {min: 1e-4, max: 1e-2, log: true}, batch_size: {min: 32, max: 256}}
objectives:
  - {metric: val_accuracy, reference: 0.1}
  - {metric: parameters, reference: 30000}
fidelities: [{epochs: 4}]
validate: {enabled: false}
search:
  searcher: {kind: sobol}
  stopper: {kind: never}
  trials: 12
  workers: 2
  trainer: {kind: lightning, schedule: {name: constant}}
retrain: {enabled: false}
tracking: {enabled: false}
"""


def candidates() -> list[dict[str, Any]]:
    """The twelve fixed candidates, with their epochs."""
    rng = np.random.default_rng(0)
    return [
        {
            "width_1": int(rng.integers(16, 129)),
            "width_2": int(rng.integers(16, 129)),
            "dropout": float(rng.uniform(0, 0.5)),
            "learning_rate": float(10 ** rng.uniform(-4, -2)),
            "batch_size": int(rng.integers(32, 257)),
            "epochs": int(rng.integers(1, 5)),
        }
        for _ in range(TRIALS)
    ]


def bare(candidate: dict[str, Any]) -> float:
    """Train one candidate in a bare loop; returns its validation accuracy."""
    import torch
    from torch import nn

    from ziggurat.datasets import Digits

    data = Digits(image=False).load()
    torch.manual_seed(0)
    a, b, p = candidate["width_1"], candidate["width_2"], candidate["dropout"]
    model = nn.Sequential(
        nn.Linear(64, a),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(a, b),
        nn.ReLU(),
        nn.Dropout(p),
        nn.Linear(b, 10),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=candidate["learning_rate"])
    for _ in range(candidate["epochs"]):
        for rows in torch.randperm(len(data.train_y)).split(candidate["batch_size"]):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.train_x[rows]), data.train_y[rows]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = model(data.validation_x).argmax(1) == data.validation_y
        model.train()
    return float(right.float().mean())


def sequential() -> float:
    """Seconds of (a), imports not counted."""
    import torch

    torch.set_num_threads(1)
    bare(candidates()[0])
    began = time.perf_counter()
    for candidate in candidates():
        bare(candidate)
    return time.perf_counter() - began


def processes() -> float:
    """Seconds of (b)."""

    def one(candidate: dict[str, Any]) -> None:
        command = [sys.executable, __file__, "--one", json.dumps(candidate)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    began = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, candidates()))
    return time.perf_counter() - began


def ziggurat(folder: Path) -> dict[str, float]:
    """(c): seconds of the pool's start and of the stage, and what the loop adds to a segment."""
    from ziggurat import runs, stages
    from ziggurat import spec as specs
    from ziggurat.domain import Candidate, Fidelity, JobKind
    from ziggurat.session import Session
    from ziggurat.stages.common import proposed

    path = folder / "spec.yaml"
    path.write_text(SPEC)
    run = runs.create(*specs.read(path), folder / "runs")
    began = time.perf_counter()
    session = Session(run)
    try:
        while session.engine.pool.free(JobKind.TRAIN) < WORKERS or not session.engine.pool.free(
            JobKind.PROPOSE
        ):
            session.engine.pool.wait(0.05)
        up = time.perf_counter()
        run.record(
            proposed(
                run.history,
                "search",
                i,
                Candidate({**fixed(c)}),
                offset=i,
                seed=i,
                ladder=(Fidelity(c["epochs"]),),
            )
            for i, c in enumerate(candidates())
        )
        begun = time.perf_counter()
        stages.search(session.engine)
        ended = time.perf_counter()
        return {"start_s": up - began, "stage_s": ended - begun, **added(run)}
    finally:
        session.close()


def fixed(candidate: dict[str, Any]) -> dict[str, Any]:
    """A candidate's choices in Ziggurat's space."""
    plain = {k: v for k, v in candidate.items() if k != "epochs"}
    return {**plain, "depth": 2, "activation": "relu", "norm": "none"}


def added(run: Any) -> dict[str, float]:
    """What lies between two trainings on one worker, and how long the trainings themselves took."""
    from ziggurat.domain import JobKind
    from ziggurat.launchers.results import result_path

    trained, gaps = [], []
    by_worker: dict[str, list[Any]] = {}
    for segment in run.history.successes(JobKind.TRAIN):
        by_worker.setdefault(str(segment.handle), []).append(segment)
        plain = json.loads(result_path(run.folder, segment.job.key).read_text())
        trained.append(plain["payload"]["train_s"])
        gaps.append(segment.end.seconds - trained[-1])
    for segments in by_worker.values():
        for one, following in itertools.pairwise(segments):
            gaps.append(following.started_utc - one.finished_utc)
    return {"trained_s": sum(trained), "added_ms": 1000 * sum(gaps) / len(trained), "segments": len(trained)}


def report(a: float, b: float, c: dict[str, float]) -> list[str]:
    """The comparison in lines."""
    each = c["stage_s"] / TRIALS
    return [
        f"(a) bare loop, one after the other      {a:7.2f} s  {a / TRIALS * 1000:7.0f} ms a trial",
        f"(b) a fresh process for each, 2 at once {b:7.2f} s  {b / TRIALS * 1000:7.0f} ms a trial",
        f"(c) Ziggurat, 2 workers                 {c['stage_s']:7.2f} s  {each * 1000:7.0f} ms a trial, "
        f"after {c['start_s']:.1f} s for the pool to be up",
        f"(b) / (c) per trial, pool up: {b / c['stage_s']:.1f} x; with the start of the pool: "
        f"{b / (c['stage_s'] + c['start_s']):.1f} x",
        f"the loop adds {c['added_ms']:.1f} ms to a segment ({c['trained_s']:.2f} s of training in "
        f"{c['segments']:.0f} segments)",
    ]


def busy() -> tuple[float, float]:
    """CPU seconds that the machine has spent on anything, and those of this process and its workers."""
    whole = psutil.cpu_times()
    here = psutil.Process()
    ours = [p.cpu_times() for p in (here, *here.children(recursive=True))]
    return whole.user + whole.nice + whole.system, sum(t.user + t.system for t in ours)


def search(searcher: str, folder: Path, trials: int) -> dict[str, float]:
    """Time of a search stage of trials of about a second, against what it must take at least."""
    from ziggurat import runs, stages
    from ziggurat import spec as specs
    from ziggurat.domain import JobKind
    from ziggurat.session import Session

    path = folder / "spec.yaml"
    path.write_text(SPEC)
    sets = [
        f"search.searcher={{kind: {searcher}}}",
        f"search.trials={trials}",
        "fidelities=[{epochs: 40}]",
        "objectives.1={metric: latency_p50_ms, reference: 1.0}",
    ]
    run = runs.create(*specs.read(path, sets), folder / "runs")
    session = Session(run)
    try:
        stages.preflight(session.engine)
        while session.engine.pool.free(JobKind.TRAIN) < WORKERS or not session.engine.pool.free(
            JobKind.PROPOSE
        ):
            session.engine.pool.wait(0.05)
        began, before = time.perf_counter(), busy()
        stages.search(session.engine)
        stage, after = time.perf_counter() - began, busy()
        rows = [json.loads(p.read_text()) for p in (run.folder / "trials").glob("*/*.json")]
        names = [p.name for p in (run.folder / "trials").glob("*/*.json")]
        generation = sum(r["cpu_s"] for r, n in zip(rows, names, strict=True) if "-propose-" in n)
        training = sum(
            r["cpu_s"]
            for r, n in zip(rows, names, strict=True)
            if "-propose-" not in n and "inspect" not in n
        )
        bound = max(generation, (generation + training) / (os.cpu_count() or 1))
        done = run.history.stages["search"]
        return {
            "stage_s": stage,
            "generation_s": generation,
            "training_s": training,
            "bound_s": bound,
            "ratio": stage / bound,
            # on a machine that is busy with other things the stage takes longer than its bound
            "others_s": max(0.0, after[0] - before[0] - (after[1] - before[1])),
            "utilisation": session.result()["utilisation"],
            "waited_s": float(str(done.summary["waited_s"])) if done else 0.0,
            "seconds_a_trial": statistics.mean(
                s.end.seconds for s in run.history.successes(JobKind.TRAIN) if s.end
            ),
        }
    finally:
        session.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--search", action="store_true", help="also run two searches, with sobol and with ax")
    parser.add_argument("--trials", type=int, default=40, help="trials of these searches")
    parser.add_argument("--json", type=Path, help="write all numbers to a file")
    given = parser.parse_args(arguments)
    if given.one:
        bare(json.loads(given.one))
        return
    numbers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ziggurat-overhead-") as folder:
        numbers = {"bare_s": sequential(), "processes_s": processes(), "ziggurat": ziggurat(Path(folder))}
        print("\n".join(report(numbers["bare_s"], numbers["processes_s"], numbers["ziggurat"])), flush=True)
        for searcher in ("sobol", "ax") if given.search else ():
            found = numbers[searcher] = search(searcher, Path(folder), given.trials)
            print(
                f"search with {searcher}: stage {found['stage_s']:.1f} s, at least {found['bound_s']:.1f} s "
                f"({found['ratio']:.2f} x; generation {found['generation_s']:.1f} s and training "
                f"{found['training_s']:.1f} s of CPU), utilisation {found['utilisation']:.0%}, "
                f"{found['seconds_a_trial']:.2f} s a trial, workers waited {found['waited_s']:.1f} s, "
                f"other programs took {found['others_s']:.1f} s of CPU meanwhile",
                flush=True,
            )
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
