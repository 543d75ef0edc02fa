"""Asks Ax for points, given evidence; a client is kept as long as new evidence only adds to what it knows.

The client is derived from the evidence and can be dropped at any time. This module imports Ax, which takes
seconds and speaks a lot; whoever imports and calls it keeps Ax quiet.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from ax.adapter.registry import Generators
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.generators.torch.botorch_modular.surrogate import SurrogateSpec
from ax.generators.torch.botorch_modular.utils import ModelConfig
from ax.utils.common.random import with_rng_seed
from botorch.models.fully_bayesian import SaasFullyBayesianSingleTaskGP
from botorch.models.map_saas import EnsembleMapSaasSingleTaskGP

from ziggurat.domain import Objective
from ziggurat.protocols import FloatArray
from ziggurat.searchers.evidence import Evidence, Point

OPTIMIZER = {
    "num_restarts": 4,
    "raw_samples": 128,
    "options": {"maxiter": 50, "sample_around_best": True},
}
"""Fast method: a fifth of the restarts and an eighth of the raw samples that Ax spends by default."""
SAMPLES = {"mc_samples": 32}
"""Fast method: a quarter of BoTorch's quasi-random samples, for half the time of an ask."""
COARSE = {"alpha": 1e-2}
"""Fast method, four objectives: share of the hypervolume that may be left out, for a quarter of the time."""
MANY = 4
NUTS = {"warmup_steps": 256, "num_samples": 128}
"""Fast method: half of BoTorch's steps for the fully Bayesian model, of which eight models remain."""
KEPT = 4
"""Clients that are kept, one for each model of each run in this process."""


@dataclass(frozen=True)
class Style:
    """How the model is made and how hard its acquisition is searched.

    Attributes:
        method: "fast", or "quality" for Ax's own effort.
        saas: Sparse axis-aligned prior: "off", "map" or "full".
    """

    method: str = "fast"
    saas: str = "off"


Model = tuple[tuple[int, ...], int, tuple[Objective, ...], Style]


class Mirror:
    """An Ax client together with what it has been told."""

    def __init__(self, evidence: Evidence, style: Style) -> None:
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
        self.client.set_generation_strategy(_strategy(style, len(objectives)))

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


def ask(evidence: Evidence, count: int, seed: int, style: Style) -> list[FloatArray]:
    """Up to `count` points that are expected to gain most, generated jointly, each of shape (dimensions,)."""
    key: Model = (evidence.axes, evidence.rung, evidence.objectives, style)
    mirror = _MIRRORS.pop(key, None)
    if mirror is None or not mirror.agrees(evidence):
        mirror = Mirror(evidence, style)
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


def _strategy(style: Style, objectives: int) -> GenerationStrategy:
    """One node that asks BoTorch; the first points come from elsewhere."""
    # without a result within the thresholds the same acquisition leads there: its logarithm has a slope
    kwargs: dict[str, Any] = {"use_p_feasible": False}
    options: dict[str, Any] = {}
    if style.method == "fast":
        kwargs["botorch_acqf_options"] = SAMPLES | (COARSE if objectives >= MANY else {})
        options["model_gen_options"] = {"optimizer_kwargs": OPTIMIZER}
    model = _saas(style)
    if model is not None:
        kwargs["surrogate_spec"] = SurrogateSpec(model_configs=[model])
    spec = GeneratorSpec(
        generator_enum=Generators.BOTORCH_MODULAR, generator_kwargs=kwargs, generator_gen_kwargs=options
    )
    return GenerationStrategy(name="model", nodes=[GenerationNode(name="botorch", generator_specs=[spec])])


def _saas(style: Style) -> ModelConfig | None:
    """The model with a sparse prior; None for Ax's default, a Gaussian process with one length a choice.

    Source: Eriksson and Jankowiak 2021, SAASBO, arXiv 2103.00349, section 4: most inverse lengths are drawn
    to 0. "full" samples them by NUTS; "map" fits an ensemble of four, each with its own sparsity.
    """
    if style.saas == "map":
        return ModelConfig(botorch_model_class=EnsembleMapSaasSingleTaskGP, name="map")
    if style.saas == "full":
        steps = {"disable_progbar": True, **(NUTS if style.method == "fast" else {})}
        return ModelConfig(botorch_model_class=SaasFullyBayesianSingleTaskGP, mll_options=steps, name="full")
    return None
