"""What a decision of `frontier` costs: CPU milliseconds, on replayed histories of some results.

The space is made up: six unordered choices of five operations, 15,625 cells as in NAS-Bench-201, an accuracy
that training tells and a size that is known. Two rungs; a third of the candidates has reached the top. Every
decision that is timed is carried out, so the next one takes in a new result and looks at all cells again.

    python benchmarks/decisions.py [--results 700 5000] [--decisions 30]
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from tests.support import ACCURACY, PARAMETERS, Story
from ziggurat.choices import Choices, Values
from ziggurat.domain import Candidate, Fidelity, Promotion
from ziggurat.protocols import Context
from ziggurat.strategies import Frontier

OPERATIONS = ("none", "skip", "small", "large", "pool")
WEIGHT = {"none": 0, "skip": 1, "small": 20, "large": 90, "pool": 2}
EDGES = 6
LADDER = (Fidelity(12), Fidelity(200))
CHOICES: Choices = {f"edge_{i}": Values(values=list(OPERATIONS)) for i in range(EDGES)}


class World:
    """All cells, and a story of trainings of some of them."""

    def __init__(self, results: int) -> None:
        """Tell a history with so many results."""
        self.rng = np.random.default_rng(0)
        products = itertools.product(OPERATIONS, repeat=EDGES)
        self.cells = [Candidate(dict(zip(CHOICES, cell, strict=True))) for cell in products]
        self.story = Story(ladder=LADDER)
        begun = -(-results * 3 // 4)  # so that with a third of these the results are as many as wanted
        for row in self.rng.permutation(len(self.cells))[:begun]:
            self.train(self.story.propose(self.cells[row], self.static([self.cells[row]])[0]))
        for number in range(results - begun):
            self.train(number)

    def static(self, candidates: Sequence[Candidate]) -> list[Mapping[str, float]]:
        """The size of candidates."""
        return [{"parameters": float(sum(WEIGHT[str(v)] for v in c.choices.values()))} for c in candidates]

    def train(self, number: int) -> None:
        """Take a trial to its next rung, where it pauses."""
        trial = self.story.trial(number)
        size = self.static([trial.candidate])[0]["parameters"]
        value = 0.9 - 8.0 / (20.0 + size) - 0.2 / (trial.rung + 2) + self.rng.normal(0, 0.01)
        if self.story.finish(number, val_accuracy=float(value)).rung < len(LADDER) - 1:
            self.story.verdict(number, "pause")

    def context(self) -> Context:
        """What the strategy sees."""
        return self.story.context(
            choices=CHOICES,
            objectives=(ACCURACY, PARAMETERS),
            static=self.static,
            listing=self.cells,
            trials=15_625,
        )

    def decide(self) -> float:
        """CPU seconds of one decision, which is carried out."""
        context, began = self.context(), time.process_time()
        (found,) = Frontier().propose_batch(context, 1)
        took = time.process_time() - began
        new = not isinstance(found, Promotion)
        self.train(self.story.propose(found, self.static([found.candidate])[0]) if new else found.trial)
        return took


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each number of results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=int, nargs="+", default=[700, 5000])
    parser.add_argument("--decisions", type=int, default=30)
    given = parser.parse_args(arguments)
    print("results   first, model built anew (s)   then, median (ms)   then, longest (ms)")
    for results in given.results:
        world = World(results)
        first = world.decide()
        later = [1000 * world.decide() for _ in range(given.decisions)]
        print(f"{results:>7}{first:>30.2f}{statistics.median(later):>20.1f}{max(later):>21.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
