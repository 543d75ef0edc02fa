"""One job of each kind that a run will have, before there are any: what the launchers are asked about.

Candidates are sampled, since the searcher itself is not asked.
"""

from __future__ import annotations

from ziggurat import prices
from ziggurat.choices import sample
from ziggurat.contexts import rng_for, seed_for
from ziggurat.domain import Job, JobKind, Recipe
from ziggurat.spec import Spec


def jobs(spec: Spec) -> list[tuple[str, Job]]:
    """The first segments of search and retraining, and a measurement on each device, with names."""
    found = [("search", _train(spec, "search", 0, Recipe.SEARCH))]
    if spec.retrain.enabled:
        found.append(("retraining", _train(spec, "retrain", spec.search.trials, Recipe.RETRAIN)))
    for device in spec.devices:
        job = Job(
            key=f"00000-profile-{device.name}-0",
            kind=JobKind.PROFILE,
            stage="measure",
            trial=0,
            candidate=found[0][1].candidate,
            seed=seed_for(spec, "search", 0),
            device=device.name,
            exclusive=True,
        )
        found.append((f"measuring on {device.name}", job))
    return found


def job_of(spec: Spec, role: str) -> Job:
    """A job that the launcher of a role will have."""
    return next((job for _, job in jobs(spec) if prices.role_of(spec, job) == role), jobs(spec)[0][1])


def _train(spec: Spec, stage: str, number: int, recipe: Recipe) -> Job:
    return Job(
        key=f"{number:05d}-train-0-0",
        kind=JobKind.TRAIN,
        stage=stage,
        trial=number,
        candidate=sample(spec.space.choices(), rng_for(spec, stage, 0)),
        ladder=spec.ladder() if recipe is Recipe.SEARCH else spec.retrain.ladder(),
        to_rung=0,
        seed=seed_for(spec, stage, 0),
        recipe=recipe,
    )
