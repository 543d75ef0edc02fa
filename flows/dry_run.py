"""`ziggurat run SPEC --dry-run`: the exact requests that every launcher of a spec would make.

One job of each kind that the spec has is shown: the first segment of a search trial, the first of a
retraining and a measurement on each device. Nothing is started, written or reached for; candidates are
sampled, since the searcher itself is not asked. What came out of a variable is shown as the variable.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ziggurat import prices
from ziggurat import spec as specs
from ziggurat.domain import TRAINING, Job, JobKind
from ziggurat.errors import SpecError
from ziggurat.events import job_to_json
from ziggurat.launchers import Local
from ziggurat.launchers.process import WorkerProcess
from ziggurat.launchers.remote import RemoteSetting
from ziggurat.protocols import Site
from ziggurat.spec import Spec
from ziggurat.spec_files import values_to_hide
from ziggurat.stages import first_jobs, places

RUN_ID = "dry-run"
"""Stands where the date and the hash of a real run stand."""


@dataclass(frozen=True)
class Planned:
    """A request that a launcher would make.

    Attributes:
        launcher: Key of the launcher in the spec.
        kind: What kind of launcher it is.
        job: What the job is for.
        key: The key of the job.
        request: The request as text; JSON where the launcher's own request is.
    """

    launcher: str
    kind: str
    job: str
    key: str
    request: str


def requests(path: Path, sets: Sequence[str], runs_dir: Path) -> list[Planned]:
    """One request for each kind of job and launcher that a spec has, without its secrets.

    Raises:
        SpecError: The spec is not valid, or a launcher cannot make a request of it.
    """
    spec, raw = specs.read(path, sets)
    spec.search.check()
    if spec.store is None and (lacking := places.storeless(spec)):
        raise SpecError("\n".join(lacking))
    folder = runs_dir.resolve() / f"{spec.name}-{RUN_ID}"
    hide = values_to_hide(raw, os.environ)
    return [_planned(spec, folder, title, job, hide) for title, job in first_jobs.jobs(spec)]


def _planned(spec: Spec, folder: Path, title: str, job: Job, hide: Mapping[str, str]) -> Planned:
    role = prices.role_of(spec, job)
    setting = prices.launcher_of(spec, role)
    site = Site(folder, prices.workers_of(spec, role), role, spec.open_store(folder.name))
    text = _request(setting, site, job)
    return Planned(places.roles(spec)[role], setting.kind, title, job.key, without(text, hide))


def _request(setting: Any, site: Site, job: Job) -> str:  # noqa: ANN401 - any launcher
    """What a launcher of other machines asks its scheduler, or what a process of this one is given."""
    served = job.kind not in TRAINING and not site.role
    if isinstance(setting, RemoteSetting) and not served:
        return setting.scheduler(site.folder).plan(setting.request(site, job))
    if not isinstance(setting, (Local, RemoteSetting)):
        return f"no machine is asked: {job_to_json(job)}"
    before = f"{site.role}-" if site.role else ""
    name = f"{before}service" if served or job.kind is JobKind.PROFILE else f"{before}worker-0"
    return f"{shlex.join(WorkerProcess.command(site.folder, name))} < {job_to_json(job)}"


def without(text: str, hide: Mapping[str, str]) -> str:
    """A request in which values of variables are the variables again, however they are quoted there."""
    for value, name in sorted(hide.items(), key=lambda item: -len(item[0])):
        for written in (json.dumps(value)[1:-1], shlex.quote(value), value):
            text = text.replace(written, name)
    return text


def plain(planned: Sequence[Planned]) -> list[dict[str, Any]]:
    """The requests as plain JSON; a request that is JSON itself becomes part of it."""
    return [{**asdict(one), "request": _parsed(one.request)} for one in planned]


def _parsed(text: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(text)
    except ValueError:
        return text


def text(planned: Sequence[Planned]) -> str:
    """The requests for people: a heading for each."""
    parts = [f"# {p.job}: {p.launcher} ({p.kind}), job {p.key}\n{p.request.rstrip()}\n" for p in planned]
    return "\n".join(["nothing is started; these are the requests", "", *parts]).rstrip()
