"""Whether jobs can run, and leave what they make, where the spec says: all its launchers and its store.

Nothing is started; a launcher of other machines asks its scheduler and writes the request that it would make,
the local one looks at this machine.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ziggurat import prices
from ziggurat.checks import Check, Findings
from ziggurat.domain import Recipe
from ziggurat.errors import SpecError
from ziggurat.launchers import Local
from ziggurat.launchers.remote import RemoteSetting
from ziggurat.protocols import Site
from ziggurat.scripted import script_of
from ziggurat.spec import Spec
from ziggurat.stages import first_jobs

if TYPE_CHECKING:
    from ziggurat.stores import Store

APART_S = 10.0
"""By how much clocks may differ without a word."""
_KEY = re.compile(r"(?<![\w.])launcher\.")


def roles(spec: Spec) -> dict[str, str]:
    """The roles of a spec's launchers, each with the key it has in the spec."""
    found = {prices.MAIN: "launcher"}
    if spec.retrain.enabled and spec.retrain.launcher is not None:
        found[prices.RETRAIN] = "retrain.launcher"
    devices = enumerate(spec.devices)
    own = {prices.DEVICE + d.name: f"devices[{i}].launcher" for i, d in devices if d.launcher is not None}
    return found | own


def storeless(spec: Spec) -> list[str]:
    """What is wrong for want of a store: a line for each launcher that needs one, whether or not there is."""
    settings = {key: prices.launcher_of(spec, role) for role, key in roles(spec).items()}
    return [
        f"{key}: machines of kind '{setting.kind}' do not see the run directory; set store to where they can "
        "read and write"
        for key, setting in settings.items()
        if isinstance(setting, RemoteSetting) and setting.needs_store
    ]


def launchers(spec: Spec) -> list[Check]:
    """A check for every launcher, by its key in the spec."""
    found = Findings()
    if spec.store is None:
        found.checks += [Check("launcher", ok=False, text=line) for line in storeless(spec)]
    for role, key in roles(spec).items():
        setting = prices.launcher_of(spec, role)
        found.checks += _together(spec, role, key)
        if isinstance(setting, RemoteSetting):
            with found.step("launcher", f"see {key} in the spec"):
                _asked(setting, key)
                size = _planned(spec, setting, role)
                told = f"takes jobs (a request of {size} characters was written, not sent)"
                found.good("launcher", f"{key}: '{setting.kind}' {told}")
        elif isinstance(setting, Local):
            found.checks.append(_local(setting, key, prices.workers_of(spec, role)))
        else:
            found.good("launcher", f"{key}: '{setting.kind}' needs no machine")
    return found.checks


def _together(spec: Spec, role: str, key: str) -> list[Check]:
    """What is wrong if several processes are to train what only one can."""
    recipe = {prices.MAIN: Recipe.SEARCH, prices.RETRAIN: Recipe.RETRAIN}.get(role)
    processes = getattr(getattr(prices.launcher_of(spec, role), "resources", None), "processes", 1)
    if recipe is None or processes == 1 or script_of(spec, recipe) is None:
        return []
    text = f"{key}.resources.processes is {processes}, but a script starts its processes itself"
    return [
        Check("launcher", ok=False, text=text, cure="set it to 1 and have the script's command start them")
    ]


def _asked(setting: RemoteSetting, key: str) -> None:
    """Have a launcher ask; its errors name its keys without knowing under which key it stands itself."""
    try:
        setting.check()
    except SpecError as error:
        text = _KEY.sub(f"{key}.", str(error))
        raise SpecError(text if key in text else f"{key}: {text}") from None


def _planned(spec: Spec, setting: RemoteSetting, role: str) -> int:
    """Characters of a request as it would be made; nothing is asked for."""
    folder = Path.cwd() / "runs" / f"{spec.name}-check"
    site = Site(folder, prices.workers_of(spec, role), role, spec.open_store(folder.name))
    return len(setting.scheduler(folder).plan(setting.request(site, first_jobs.job_of(spec, role))))


def _local(setting: Local, key: str, workers: int) -> Check:
    """Whether workers find what they are set up for; only a lack of GPUs is a reason to stop."""
    try:
        setting.gpu_shares(workers)
    except SpecError as error:
        return Check("launcher", False, _KEY.sub(f"{key}.", str(error)))
    processors = len(os.sched_getaffinity(0))
    workers = max(1, workers)
    if workers * setting.threads > processors:
        text = f"{key}: {workers} workers of {setting.threads} threads share {processors} processors"
        return Check("launcher", None, text, f"lower {key}.threads or the workers to go faster")
    memory = psutil.virtual_memory().total / 1e6
    limit = setting.memory_limit_mb or 0.0
    if workers * limit > memory:
        text = f"{key}: {workers} workers of up to {limit:.0f} MB share {memory:.0f} MB"
        return Check("launcher", None, text, f"lower {key}.memory_limit_mb or the workers to be safe")
    return Check("launcher", ok=True, text=f"{key}: {workers} workers of {setting.threads} threads")


def store(opened: Store | None) -> list[Check]:
    """Checks for the store, if there is one: it is written, read and deleted in, its clock compared."""
    if opened is None:
        return []
    found = Findings()
    with found.step("store", "see store in the spec"):
        opened.check()
        found.good("store", f"{opened.url}: written, read, deleted; nothing is overwritten unasked")
    if not found.failed:
        with found.step("clock", "see store in the spec"):
            found.checks.append(clock(opened))
    return found.checks


def clock(opened: Store) -> Check:
    """Whether this machine and the store agree about the time.

    Files and leases carry the store's time, and signed requests are refused beyond 15 minutes.
    """
    before = time.time()
    theirs = opened.utc()
    if theirs is None:
        return Check("clock", ok=True, text="the store does not tell its time")
    # a store tells whole seconds, and its answer takes its time
    apart = max(0.0, before - theirs - 1.0, theirs - time.time() - 1.0)
    text = f"this machine and the store differ by {apart:.0f} s"
    if apart <= APART_S:
        return Check("clock", ok=True, text=text)
    return Check("clock", None, text, "set this machine's clock (chrony, systemd-timesyncd)")
