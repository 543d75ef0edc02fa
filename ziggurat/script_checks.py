"""What the preflight finds out where trainings are a user's script: what can be known without starting it.

The script itself is started by the stage that asked for this, as a training like any other, so that it runs
where trainings run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ziggurat import choices, inspection, scripted
from ziggurat.checks import Check, Findings
from ziggurat.combinations import builds
from ziggurat.contexts import rng_for
from ziggurat.datasets import External
from ziggurat.domain import Recipe
from ziggurat.errors import SpecError
from ziggurat.events import to_plain
from ziggurat.representatives import representatives
from ziggurat.space_checks import BUILDS
from ziggurat.trainers.script_arguments import texts

if TYPE_CHECKING:
    from ziggurat.jobs import Desk
    from ziggurat.trainers import Script

SHOWN = 80
"""Characters of a command that are shown."""
HERE = "local"
"""The kind of launcher whose jobs see what this machine sees."""


def inspect_script(desk: Desk, found: Findings, probes: int) -> None:
    """Inspect scripts, data and space; facts and candidates for probing are added to the findings."""
    spec = desk.spec
    with found.step("data"):
        _data(desk, found)
    for key, recipe in (("search.trainer", Recipe.SEARCH), ("retrain.trainer", Recipe.RETRAIN)):
        script = scripted.script_of(spec, recipe)
        if script is not None and (recipe is Recipe.SEARCH or spec.retrain.trainer is not None):
            _script(desk, found, key, script)
    for text in scripted.shortcomings(spec):
        found.checks.append(Check("search.trainer", None, text))
    unknown = scripted.unchecked(spec) if spec.retrain.enabled else []
    if unknown:
        found.checks.append(Check("measure", None, f"{scripted.NOT_CHECKED}: {'; '.join(unknown)}"))
    if found.failed:
        return
    if builds(spec.space):
        _models(desk, found, probes)
    else:
        with found.step("space"):
            _parameters(desk, found, probes)


def _data(desk: Desk, found: Findings) -> None:
    data = desk.spec.data
    assert isinstance(data, External)
    where = "read by the script"
    if data.path is not None:
        where += f" from {data.path}"
    try:
        fingerprint = data.fingerprint()
    except SpecError as error:
        if desk.spec.launcher.kind == HERE:
            raise
        found.checks.append(Check("data", None, f"{error} (or is only on the machines of the launcher)"))
        fingerprint = ""
    found.facts |= {f"chance.{name}": value for name, value in data.chance.items()}
    found.facts["fingerprint"] = fingerprint or scripted.test_fingerprint(desk.spec)
    found.good("data", where + (f", fingerprint {fingerprint}" if fingerprint else ""))


def _script(desk: Desk, found: Findings, key: str, script: Script) -> None:
    """Look whether a script can be started; on other machines than this one that shows only there."""
    with found.step(key):
        try:
            inspection.check_trainer(key, script)
        except SpecError as error:
            if desk.spec.launcher.kind == HERE:
                raise
            found.checks.append(Check(key, None, f"{error} (this machine was looked at, not the launcher's)"))
        else:
            found.good(key, f"{' '.join(texts(script.command))[:SHOWN]} can be started")


def _parameters(desk: Desk, found: Findings, probes: int) -> None:
    """Sample candidates for probing; nothing else is known of them."""
    declared = desk.spec.space.choices()
    rng = rng_for(desk.spec, "preflight", 1)
    drawn = (choices.sample(declared, rng) for _ in range(inspection.POOL * probes))
    pool = list({c.key: c for c in drawn}.values())
    chosen = representatives(declared, pool, [math.nan] * len(pool), probes)
    found.probes = [{"candidate": to_plain(c), "static": []} for c in chosen]
    size = choices.count(declared)
    found.good("space", f"{len(declared)} parameters of the script, {size:g} combinations")


def _models(desk: Desk, found: Findings, probes: int) -> None:
    """Build candidates of a space with models, and look at limits that these decide."""
    with found.step("space"):
        desk.spec.space.check(desk.signature)
        rng = rng_for(desk.spec, "preflight", 0)
        sampled = [choices.sample(desk.spec.space.choices(), rng) for _ in range(BUILDS)]
        built = sum(bool(desk.static(c)) for c in sampled)
        if built <= len(sampled) // 2:
            raise SpecError(
                f"space: {len(sampled) - built} of {len(sampled)} sampled candidates cannot be built; see "
                "the log of the service, and narrow the space"
            )
        found.good("space", f"{built} of {len(sampled)} sampled candidates can be built")
    script = scripted.script_of(desk.spec)
    if script is not None and script.profile_by is None:
        inspection.check_devices(desk, found)
        if not found.failed:
            with found.step("devices"):
                inspection.check_measurable(desk, found)
    if not found.failed:
        with found.step("limits"):
            inspection.check_limits(desk, found, probes)
