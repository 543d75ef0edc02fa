"""A finished run of a backbone against the network it began with: test accuracy, latency and size of each.

The whole network (nothing pruned, nothing quantised, weights as given) and each retrained model are measured
on the first device of the run's spec, one after the other. The exported files are run on the test images too.
The test part is looked at again here, and nobody counts it: it tells how good something is, nothing is to be
chosen by it.

    python benchmarks/lastmile.py RUN_DIR
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

from ziggurat import runs
from ziggurat.bench import Bench
from ziggurat.choices import Choices
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.profilers import runtime
from ziggurat.spaces import Backbone
from ziggurat.trainers import Lightning

WHOLE = {"prune_": 0, "bits_": 32}
"""What a choice is in the whole network, by the beginning of its name."""


@dataclass(frozen=True)
class Row:
    """What is shown of a model; shares between 0 and 1, NaN where there is no file."""

    name: str
    test: float
    test_file: float
    p50_ms: float
    noise: float
    size_mb: float
    file_mb: float
    parameters: int

    def text(self) -> str:
        """The row of the table."""
        return (
            f"{self.name:14}  {self.test:7.2%}  {self.test_file:9.2%}  {self.p50_ms:.4f} +- {self.noise:5.1%}"
            f"  {self.size_mb:7.3f}  {self.file_mb:7.3f}  {self.parameters:10,}"
        )


def whole(choices: Choices) -> Candidate:
    """The candidate that leaves the network as it is; what changes only its training is anything."""
    picked = {}
    for name, choice in choices.items():
        kept = next((value for start, value in WHOLE.items() if name.startswith(start)), None)
        picked[name] = choice.at(1.0) if kept is None else kept
    return Candidate(picked)


def accuracy(logits: Tensor, y: Tensor) -> float:
    """Share of right answers."""
    return float((logits.argmax(1) == y).float().mean())


def measured(bench: Bench, name: str, model: nn.Module, candidate: Candidate, file: Path | None) -> Row:
    """Measure a model with its weights, and its exported file if there is one."""
    spec = bench.spec
    x, y = spec.data.load_test()
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(part) for part in x.split(500)])
    device = spec.devices[0]
    found = {
        m.metric: m.value for m in device.profile(model, torch.zeros(1, *bench.signature.shape), candidate)
    }
    static = {m.metric: m.value for m in bench.static(candidate)}
    answers = torch.from_numpy(runtime.run(file.read_bytes(), x.numpy())) if file is not None else None
    return Row(
        name=name,
        test=accuracy(logits, y),
        test_file=accuracy(answers, y) if answers is not None else float("nan"),
        p50_ms=found["latency_p50_ms"],
        noise=found["latency_noise"],
        size_mb=static["model_size_mb"],
        file_mb=found.get("file_size_mb", float("nan")),
        parameters=int(static["parameters"]),
    )


def study(folder: Path) -> list[Row]:
    """The whole network, then the retrained models in the order of their trials.

    Raises:
        SpecError: It is no run of a backbone.
    """
    spec, history = runs.look(folder)
    if not isinstance(spec.space, Backbone):
        raise SpecError(f"{folder}: space.kind is '{spec.space.kind}'; give a run of kind backbone")
    bench = Bench(spec, spec.data.signature())
    full = whole(spec.space.choices())
    rows = [measured(bench, "whole network", bench.build(full, 0), full, None)]
    trainer = spec.retrain.trainer or spec.search.trainer
    for trial in history.of_stage("retrain"):
        if trial.checkpoint is None or not isinstance(trainer, Lightning):
            continue
        model = bench.build(trial.candidate, trial.seed)
        trainer.load_weights(model, folder / trial.checkpoint)
        file = folder / "trials" / f"{trial.number:05d}" / "model.onnx"
        name = f"model {trial.number}"
        rows.append(measured(bench, name, model, trial.candidate, file if file.is_file() else None))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 2 if something is wrong with what was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sys.path.insert(0, str(Path.cwd()))
    try:
        rows = study(given.run_dir)
    except SpecError as error:
        print(error, file=sys.stderr)
        return 2
    print("model              test  test file  latency p50 (ms)  size MB  file MB  parameters")
    print("\n".join(row.text() for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
