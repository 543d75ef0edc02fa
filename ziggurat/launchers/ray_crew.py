"""The actors of a run on Ray: how they are named, started, found again and let go."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ziggurat
from ziggurat.launchers import ray_cluster
from ziggurat.launchers.ray_cluster import MB
from ziggurat.launchers.scheduler import State

if TYPE_CHECKING:
    from ziggurat.launchers.ray_launcher import Ray

ANSWER_S = 5.0
"""Seconds that actors of an earlier controller, or those that are let go, have to answer."""
CALLS_AT_ONCE = 1000
_taken: set[str] = set()
"""Actors that some launcher of this process has, so that two of the same settings do not share them."""


def prefix_of(folder: Path) -> str:
    """What the names of all actors of a run begin with."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', folder.name)}--"


def name_of(settings: Ray, folder: Path, number: int | str) -> str:
    """The name of an actor; what comes before the number is shared by those that are alike."""
    counts = {"resources", "custom_resources", "labels", "runtime_env", "python"}
    text = json.dumps(
        [settings.model_dump(mode="json", include=counts), ziggurat.__version__], sort_keys=True
    )
    return f"{prefix_of(folder)}{hashlib.sha256(text.encode()).hexdigest()[:8]}-{number}"


def options(settings: Ray, name: str) -> dict[str, Any]:
    """What Ray is told of an actor."""
    wanted: dict[str, dict[str, Any]] = {
        "resources": dict(settings.custom_resources),
        "label_selector": dict(settings.labels),
        "runtime_env": settings.runtime_env,
    }
    memory = settings.resources.memory_mb
    return {
        "name": name,
        "namespace": settings.namespace,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": CALLS_AT_ONCE,
        "num_cpus": settings.resources.cpus,
        "num_gpus": settings.resources.gpus,
        **({} if memory is None else {"memory": memory * MB}),
        **{option: value for option, value in wanted.items() if value},
    }


class Crew:
    """The actors of one launcher."""

    def __init__(self, settings: Ray, folder: Path) -> None:
        """Enter the cluster.

        Raises:
            SpecError: That is not possible.
        """
        self.settings, self.folder = settings, folder
        self.ray = ray_cluster.enter(settings)
        self._actors: dict[str, Any] = {}
        self._mine: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether an actor is known, and as far as that is known, lives."""
        return name in self._actors

    def __iter__(self) -> Iterator[str]:
        """Names of the actors that are known."""
        return iter(list(self._actors))

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - Ray's handle
        """A known actor."""
        return self._actors[name]

    def adopt(self) -> dict[str, dict[str, State]]:
        """Take over the actors that an earlier controller has left, and say what jobs they know."""
        mine = name_of(self.settings, self.folder, "")
        names = [n for n in self._names() if n.startswith(mine) and n not in _taken]
        for name in names:
            self._take(name)
        return self.jobs(names)

    def _names(self) -> list[str]:
        """All actors of the run, those of other launchers included."""
        ours = (self.settings.namespace, prefix_of(self.folder))
        found = self.ray.util.list_named_actors(all_namespaces=True)
        return [n["name"] for n in found if n["namespace"] == ours[0] and n["name"].startswith(ours[1])]

    def find(self, name: str) -> str | None:
        """The actor of the run that knows a job."""
        return next((actor for actor, jobs in self.jobs(self._names()).items() if name in jobs), None)

    def jobs(self, names: Iterable[str]) -> dict[str, dict[str, State]]:
        """The jobs that actors know; one that does not answer knows none."""
        ray, asked = self.ray, {}
        for name in names:
            if self.meet(name):
                asked[self._actors[name].names.remote()] = name
        answers: dict[str, dict[str, State]] = {}
        if asked:
            ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S)
            for ref in ready:
                try:
                    answers[asked[ref]] = ray.get(ref)
                except ray.exceptions.RayError:
                    self.forget(asked[ref])
        return answers

    def meet(self, name: str) -> bool:
        """Whether an actor is there, whoever has started it."""
        if name not in self._actors:
            try:
                self._actors[name] = self.ray.get_actor(name, namespace=self.settings.namespace)
            except ValueError:
                return False
        return True

    def idle(self, busy: set[str]) -> str | None:
        """An actor without a job, if there is one."""
        return next((a for a in self._actors if a in self._mine and a not in busy), None)

    def hire(self) -> str:
        """A new actor, under a name that none has had here."""
        from ziggurat.launchers.ray_worker import Worker

        number = 0
        while (name := name_of(self.settings, self.folder, number)) in self._mine | _taken:
            number += 1
        start = self.ray.remote(Worker).options(**options(self.settings, name))
        self._actors[name] = start.remote(self.settings.keep_warm_s)
        self._take(name)
        return name

    def _take(self, name: str) -> None:
        self._mine.add(name)
        _taken.add(name)

    def forget(self, name: str) -> None:
        """An actor has gone, or takes no further jobs."""
        self._actors.pop(name, None)

    def kill(self, name: str) -> None:
        """End an actor at once."""
        actor = self._actors.pop(name, None)
        if actor is not None:
            self.ray.kill(actor)

    def dismiss(self, going: set[str]) -> None:
        """End the idle at once, and have those that are busy go after their jobs have stopped."""
        stopping = [self._actors[a].retire.remote("its run is over") for a in going if a in self._actors]
        for name in [n for n in self if n in self._mine and n not in going]:
            self.kill(name)
        if stopping:
            self.ray.wait(stopping, num_returns=len(stopping), timeout=ANSWER_S)

    def wait(self, refs: list[Any], seconds: float) -> list[Any]:
        """Those of some questions that have been answered, or cannot be, within some seconds."""
        return list(self.ray.wait(refs, num_returns=len(refs), timeout=max(0.0, seconds))[0]) if refs else []

    def wait_for_one(self, refs: list[Any], seconds: float) -> None:
        """Wait until one of some questions is answered, or some seconds have passed."""
        self.ray.wait(refs, num_returns=1, timeout=seconds)

    def disperse(self) -> None:
        """Leave the cluster."""
        self._actors.clear()
        _taken.difference_update(self._mine)
        ray_cluster.leave()
