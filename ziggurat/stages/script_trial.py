"""A user's script is tried: one short training where trainings run, before anything depends on it.

Where subset validation follows, its probes show the same and are paid from the budget; so this is done only
where there is none, or where somebody asks for checks or a forecast alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ziggurat.contexts import seed_for
from ziggurat.domain import Job, JobKind, Recipe
from ziggurat.errors import ZigguratError
from ziggurat.events import candidate_from_plain
from ziggurat.inspection import Check
from ziggurat.scripted import script_of
from ziggurat.segments import climb

if TYPE_CHECKING:
    from ziggurat.engine import Engine
    from ziggurat.spec import Spec

STAGE = "preflight"
TRY_S = 600.0
"""Seconds after which a trial is given up, which says nothing against the script."""


def patience_s(spec: Spec) -> float | None:
    """Seconds that the script's profile command may take; None without one."""
    script = script_of(spec, Recipe.SEARCH)
    return None if script is None or script.profile_by is None else script.profile_by.timeout_s


def try_script(engine: Engine, found: dict[str, Any]) -> list[Check]:
    """Train the first probe to the lowest rung; what an epoch takes is added to the facts."""
    spec = engine.run.spec
    script = script_of(spec)
    probe = next(iter(found["probes"]), None)
    if script is None or probe is None:
        return []
    ladder = spec.ladder()[:1]
    job = Job(
        key=f"service-try-script-{engine.run.history.length}-{engine.run.mark[-8:]}",
        kind=JobKind.TRAIN,
        stage=STAGE,
        candidate=candidate_from_plain(probe["candidate"]),
        ladder=ladder,
        to_rung=0,
        seed=seed_for(spec, STAGE, 0),
        time_limit_s=2 * TRY_S,
    )
    try:
        took = float(engine.call(job, TRY_S)["train_s"])
    except ZigguratError as error:
        if str(error).startswith(f"{JobKind.TRAIN.value} took longer"):
            text = f"a dry trial did not end within {TRY_S:g} s, so the script has not been seen to work"
            return [Check("search.trainer", None, text, "lower epochs or data_fraction of the lowest rung")]
        return [Check("search.trainer", ok=False, text=f"dry trial: {error}")]
    found["facts"]["epoch_s"] = round(took / climb(ladder), 6)
    epochs = ladder[0].epochs
    text = f"a dry trial of {epochs} epoch{'s' if epochs > 1 else ''} took {took:.1f} s and told its metrics"
    return [Check("search.trainer", ok=True, text=text)]
