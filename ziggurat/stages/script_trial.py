"""A user's script is tried: one short training where trainings run, before anything depends on it.

Where subset validation follows, its probes show the same and are paid from the budget; so this is done only
where there is none, or where somebody asks for checks or a forecast alone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ziggurat.checks import Check
from ziggurat.contexts import seed_for
from ziggurat.domain import FailureKind, Job, JobKind, Recipe
from ziggurat.errors import CallFailed, ZigguratError
from ziggurat.events import candidate_from_plain
from ziggurat.scripted import script_of
from ziggurat.segments import climb

if TYPE_CHECKING:
    from ziggurat.engine import Engine
    from ziggurat.spec import Spec

STAGE = "preflight"
TRY_S = 600.0
"""Seconds after which a trial is given up, which says nothing against the script."""
TRIES = 3
"""Candidates of which one must be trained: a script may fail for some of them."""
SHOWN = 200
"""Characters of a candidate that are shown."""
_KEY = re.compile(r"(?<![\w.])trainer\.")
_LOG = re.compile(r" \(log: [^)]*\)$")
"""What goes with the run of the preflight."""


def patience_s(spec: Spec) -> float | None:
    """Seconds that the script's profile command may take; None without one."""
    script = script_of(spec, Recipe.SEARCH)
    return None if script is None or script.profile_by is None else script.profile_by.timeout_s


def try_script(engine: Engine, found: dict[str, Any]) -> list[Check]:
    """Train a probe to the lowest rung; what an epoch takes is added to the facts.

    If it fails, others are tried: what fails for some candidates only is told, and left to the tolerance.
    """
    failed: list[Check] = []
    for probe in found["probes"][:TRIES] if script_of(engine.run.spec) is not None else ():
        try:
            check = _try(engine, found, probe, len(failed))
        except CallFailed as error:
            failed.append(_told(probe, error))
            if error.kind == FailureKind.LOST.value:
                break  # the machines are to blame, not the candidate
        else:
            return [*(replace(c, ok=None) for c in failed), check]
    return failed[:1]


def _told(probe: dict[str, Any], error: CallFailed) -> Check:
    """What is said of a probe that has failed."""
    choices = candidate_from_plain(probe["candidate"]).choices
    given = ", ".join(f"{name}={value}" for name, value in choices.items())
    why = _LOG.sub("", _KEY.sub("search.trainer.", str(error)))
    return Check("search.trainer", ok=False, text=f"a dry trial with {given[:SHOWN]} failed: {why}")


def _try(engine: Engine, found: dict[str, Any], probe: dict[str, Any], number: int) -> Check:
    """Train one probe.

    Raises:
        CallFailed: It has failed.
    """
    spec = engine.run.spec
    ladder = spec.ladder()[:1]
    job = Job(
        key=f"service-try-script-{engine.run.history.length + number}-{engine.run.mark[-8:]}",
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
    except CallFailed:
        raise
    except ZigguratError as error:
        if str(error).startswith(f"{JobKind.TRAIN.value} took longer"):
            text = f"a dry trial did not end within {TRY_S:g} s, so the script has not been seen to work"
            return Check("search.trainer", None, text, "lower epochs or data_fraction of the lowest rung")
        return Check("search.trainer", ok=False, text=f"dry trial: {error}")
    found["facts"]["epoch_s"] = round(took / climb(ladder), 6)
    epochs = ladder[0].epochs
    text = f"a dry trial of {epochs} epoch{'s' if epochs > 1 else ''} took {took:.1f} s and told its metrics"
    return Check("search.trainer", ok=True, text=text)
