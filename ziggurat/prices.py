"""Which launcher a job belongs to, and what an hour there costs: pure functions of the spec and the job.

A job is charged at the price of the launcher it runs on, and measuring also at the price of the device.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from ziggurat.checks import Check
from ziggurat.domain import Job, JobKind, Recipe
from ziggurat.pricing import Price
from ziggurat.pricing.table import OLD_DAYS, age_days
from ziggurat.scripted import devices, script_of

if TYPE_CHECKING:
    from ziggurat.launchers import AnyLauncher
    from ziggurat.spec import Spec

MAIN, RETRAIN = "", "retrain"
"""Roles of the launchers that train; those of devices are `device.NAME`."""
DEVICE = "device."
REFRESH = "`ziggurat prices refresh --out prices.yaml` and `prices: prices.yaml` bring today's"
"""What is done about old prices."""


def role_of(spec: Spec, job: Job) -> str:
    """The role of the launcher that a job belongs to."""
    if job.kind is JobKind.TRAIN and job.recipe is Recipe.RETRAIN and spec.retrain.launcher is not None:
        return RETRAIN
    if job.kind is JobKind.PROFILE:
        return device_role(spec, job.device or "")
    return MAIN


def device_role(spec: Spec, name: str) -> str:
    """The role of the launcher that measures on a device: the run's own, or the device's."""
    device = next((d for d in spec.devices if d.name == name), None)
    return MAIN if device is None or device.launcher is None else DEVICE + name


def launcher_of(spec: Spec, role: str) -> AnyLauncher:
    """The launcher of a role."""
    if role == RETRAIN and spec.retrain.launcher is not None:
        return spec.retrain.launcher
    own = next((d.launcher for d in spec.devices if DEVICE + d.name == role), None)
    return own or spec.launcher


def workers_of(spec: Spec, role: str) -> int:
    """How many trainings run at the same time on the launcher of a role; none on one that only measures."""
    if role.startswith(DEVICE):
        return 0
    own = spec.retrain.workers if role == RETRAIN else None
    return own or spec.search.workers


def described(spec: Spec, device: str) -> str:
    """What a device is, and on which machines it is measured."""
    found = next(d for d in spec.devices if d.name == device)
    own = f"the launcher '{found.launcher.kind}' of its own" if found.launcher is not None else ""
    script = script_of(spec, Recipe.RETRAIN)
    by_script = script is not None and script.profile_by is not None
    what = "the profile command of the script" if by_script else found.describe()
    return f"{what}, measured by {own or f'the launcher {spec.launcher.kind!r} of the run'}"


def job_launcher(spec: Spec, job: Job) -> AnyLauncher:
    """The launcher that a job runs on."""
    return launcher_of(spec, role_of(spec, job))


def retrain_usd_per_hour(spec: Spec) -> float:
    """Price of an hour of a worker that retrains."""
    return launcher_of(spec, RETRAIN).usd_per_hour


def measure_usd_per_hour(spec: Spec, device: str | None) -> float:
    """Price of an hour of measuring on a device, or on the sealed test part for None."""
    if device is None:
        return spec.launcher.usd_per_hour
    own = next((d.usd_per_hour for d in spec.devices if d.name == device), 0.0)
    return launcher_of(spec, device_role(spec, device)).usd_per_hour + own


def usd_per_hour(spec: Spec, job: Job) -> float:
    """Price of an hour of a job."""
    if job.kind is JobKind.PROFILE:
        return measure_usd_per_hour(spec, job.device or "")
    return job_launcher(spec, job).usd_per_hour


def dearest_usd_per_hour(spec: Spec, stage: str) -> float:
    """Price of an hour of the dearest job that a stage may have."""
    if stage == RETRAIN:
        return retrain_usd_per_hour(spec)
    devices = measured_in(spec, stage)
    return max([spec.launcher.usd_per_hour, *(measure_usd_per_hour(spec, d) for d in devices)])


def measured_in(spec: Spec, stage: str) -> list[str]:
    """Names of the devices that a stage measures on."""
    if stage in {"preflight", "measure"}:
        return devices(spec, Recipe.RETRAIN if stage == "measure" else Recipe.SEARCH)
    measured = spec.metrics.measured
    searched = stage in {*spec.searching, "baseline"} and any(m in measured for m in spec.inputs())
    return [spec.devices[0].name] if searched else []


def processes_of(spec: Spec, job: Job | None = None) -> int:
    """How many processes train one trial together where a job runs, or where the search does."""
    launcher = spec.launcher if job is None else job_launcher(spec, job)
    resources = getattr(launcher, "resources", None)
    return 1 if resources is None else int(resources.processes)


def priced(spec: Spec) -> dict[str, Price]:
    """Machines of the price table that launchers of a spec name, by the launchers' keys."""
    launchers = [("launcher", spec.launcher), ("retrain.launcher", spec.retrain.launcher)]
    launchers += [(f"devices[{i}].launcher", device.launcher) for i, device in enumerate(spec.devices)]
    return {key: at.price for key, at in launchers if at is not None and at.price is not None}


def aged(spec: Spec, today: datetime.date) -> list[str]:
    """What is to be said about prices that are old."""
    days = {key: (age_days(price.date, today), price.date) for key, price in priced(spec).items()}
    return [f"{key}.price is {age} days old ({date})" for key, (age, date) in days.items() if age > OLD_DAYS]


def checks(spec: Spec, today: datetime.date) -> list[Check]:
    """Whether the prices that money is counted by are young enough; nothing where the user has given them."""
    old = aged(spec, today)
    if old:
        return [Check("prices", None, "; ".join(old), f"{REFRESH}, or give usd_per_hour")]
    return [Check("prices", ok=True, text=str(price.origin)) for price in priced(spec).values()]
