"""Asks Ax for points, given evidence; a client is kept as long as new evidence only adds to what it knows.

The client is derived from the evidence and can be dropped at any time. This module imports Ax, which takes
seconds and speaks a lot; whoever imports and calls it keeps Ax quiet.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from ax.adapter.registry import Generators
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.utils.common.random import with_rng_seed

from ziggurat.domain import Objective
from ziggurat.protocols import FloatArray
from ziggurat.searchers.evidence import Evidence, Point

OPTIMIZER = {
    "num_restarts": 4,
    "raw_samples": 128,
    "options": {"maxiter": 50, "sample_around_best": True},
}
"""Effort of the acquisition's optimiser: about half of what Ax spends by default."""
SAMPLES = {"mc_samples": 32}
"""Quasi-random samples of the acquisition: a quarter of BoTorch's default, for half the time of an ask."""
KEPT = 4
"""Clients that are kept, one for each model of each run in this process."""

Model = tuple[tuple[int, ...], int, tuple[Objective, ...]]


class Mirror:
    """An Ax client together with what it has been told."""

    def __init__(self, evidence: Evidence) -> None:
        """Make a client that knows nothing yet."""
        self.client = Client()
        self.completed: dict[int, tuple[Point, Point]] = {}
        self.pending: dict[int, tuple[Point, int]] = {}
        names = [f"x{axis}" for axis in evidence.axes]
        self.client.configure_experiment(
            name="ziggurat",
            parameters=[
                RangeParameterConfig(name=n, parameter_type="float", bounds=(0.0, 1.0)) for n in names
            ],
        )
        objectives = evidence.objectives
        self.client.configure_optimization(
            objective=", ".join(f"-loss{i}" for i in range(len(objectives))),
            outcome_constraints=thresholds(objectives),
        )
        self.client.set_generation_strategy(_strategy())

    def agrees(self, evidence: Evidence) -> bool:
        """Whether all that the client has been told still holds."""
        same = all(evidence.results.get(number) == told for number, told in self.completed.items())
        points = {n: p for n, (p, _) in evidence.results.items()} | dict(evidence.pending)
        return same and all(points.get(n, p) == p for n, (p, _) in self.pending.items())

    def follow(self, evidence: Evidence) -> None:
        """Tell the client what is new."""
        for number in [n for n in self.pending if n not in evidence.pending and n not in evidence.results]:
            self.client.mark_trial_failed(self.pending.pop(number)[1])
        for number, (point, losses) in evidence.results.items():
            if number not in self.completed:
                index = (
                    self.pending.pop(number)[1] if number in self.pending else self._attach(evidence, point)
                )
                self.client.complete_trial(index, raw_data={f"loss{i}": v for i, v in enumerate(losses)})
                self.completed[number] = (point, losses)
        for number, point in evidence.pending.items():
            if number not in self.pending:
                self.pending[number] = (point, self._attach(evidence, point))

    def ask(self, evidence: Evidence, count: int, seed: int) -> list[FloatArray]:
        """New points of the whole unit cube; an axis that is not free lies at 0.5."""
        with with_rng_seed(seed):
            trials = self.client.get_next_trials(max_trials=count)
        points = []
        for index, parameters in trials.items():
            # the candidate at the point comes back as a pending trial, at its own exact coordinates
            self.client.mark_trial_failed(index)
            point = np.full(evidence.dimensions, 0.5)
            point[list(evidence.axes)] = [float(parameters[f"x{axis}"]) for axis in evidence.axes]
            points.append(point)
        return points

    def _attach(self, evidence: Evidence, point: Point) -> int:
        return self.client.attach_trial({f"x{axis}": x for axis, x in zip(evidence.axes, point, strict=True)})


_MIRRORS: OrderedDict[Model, Mirror] = OrderedDict()


def ask(evidence: Evidence, count: int, seed: int) -> list[FloatArray]:
    """Up to `count` points that are expected to gain most, generated jointly, each of shape (dimensions,)."""
    key: Model = (evidence.axes, evidence.rung, evidence.objectives)
    mirror = _MIRRORS.pop(key, None)
    if mirror is None or not mirror.agrees(evidence):
        mirror = Mirror(evidence)
    mirror.follow(evidence)
    points = mirror.ask(evidence, count, seed)
    # kept only now: a client that raised may have been told half of it
    _MIRRORS[key] = mirror
    while len(_MIRRORS) > KEPT:
        _MIRRORS.popitem(last=False)
    return points


def thresholds(objectives: tuple[Objective, ...]) -> list[str]:
    """The tighter of reference and limit of each objective, as constraints that Ax turns into thresholds.

    With one objective there is no front that a threshold could bound, and Ax refuses one.
    """
    if len(objectives) == 1:
        return []
    bounds = [o.loss(o.reference if o.limit is None else o.limit) for o in objectives]
    tighter = [min(o.loss(o.reference), bound) for o, bound in zip(objectives, bounds, strict=True)]
    return [f"loss{i} <= {float(bound)!r}" for i, bound in enumerate(tighter)]


def _strategy() -> GenerationStrategy:
    """One node that asks BoTorch; the first points come from elsewhere."""
    spec = GeneratorSpec(
        generator_enum=Generators.BOTORCH_MODULAR,
        generator_kwargs={"botorch_acqf_options": SAMPLES},
        generator_gen_kwargs={"model_gen_options": {"optimizer_kwargs": OPTIMIZER}},
    )
    return GenerationStrategy(name="model", nodes=[GenerationNode(name="botorch", generator_specs=[spec])])
