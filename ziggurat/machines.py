"""All machines of a run behind one launcher: each job goes to the launcher that its role has in the spec.

Most runs have one launcher. Retraining and each device may have one of their own; such a launcher is started
by the first stage that needs it and closed with that stage, so that nothing dear is idle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from ziggurat import prices
from ziggurat.budget import Vain
from ziggurat.domain import Job, JobKind, Recipe
from ziggurat.protocols import Launcher, Progress, Site
from ziggurat.spec import Spec


class Machines:
    """The launchers of a run, by role."""

    def __init__(
        self, spec: Spec, folder: Path, perform: Callable[[Job], Progress], utc: float = 0.0
    ) -> None:
        """Start the run's own launcher; the others wait until they are needed."""
        self._spec, self._folder, self._perform, self._utc = spec, folder, perform, utc
        self._store = spec.open_store(folder.name)
        self._launchers: dict[str, Launcher] = {}
        self._vain: list[tuple[str, Vain]] = []
        self.since: dict[str, float] = {}
        """When the machines of each launcher were started, by the clock of the run."""
        self._roles: dict[str, str] = {}
        self._trains = prices.MAIN
        self.clock = self._launcher(prices.MAIN).clock

    def _launcher(self, role: str) -> Launcher:
        """The launcher of a role, started if it is not."""
        if role not in self._launchers:
            setting, workers = prices.launcher_of(self._spec, role), prices.workers_of(self._spec, role)
            site = Site(self._folder, workers, role, self._store, self._perform, self._utc)
            self._launchers[role] = launcher = setting.launch(site)
            self.since[role] = launcher.clock.monotonic()
        return self._launchers[role]

    def _of(self, job: Job) -> Launcher:
        return self._launcher(prices.role_of(self._spec, job))

    def prepare(self, stage: str) -> None:
        """Start the launchers that a stage needs; from now on `free` is about those that train for it."""
        self._trains = prices.MAIN
        if stage == "retrain":
            recipe = Job("", JobKind.TRAIN, stage, recipe=Recipe.RETRAIN)
            self._trains = prices.role_of(self._spec, recipe)
        for role in (self._trains, *(self._device_role(d) for d in prices.measured_in(self._spec, stage))):
            self._launcher(role)

    def release(self) -> None:
        """Close all launchers but the run's own, once the stage that needed them is over."""
        self._trains = prices.MAIN
        for role in [r for r in self._launchers if r != prices.MAIN]:
            self._end(role)
            self._roles = {key: r for key, r in self._roles.items() if r != role}

    def rest(self) -> None:
        """Close all launchers, so that no machine is held; one that is needed again is started again."""
        self.release()
        if prices.MAIN in self._launchers:
            self._end(prices.MAIN)

    def _end(self, role: str, *, leave: bool = False) -> None:
        """Close a launcher; nothing is paid for it from here on."""
        launcher = self._launchers.pop(role)
        try:
            launcher.close(leave=leave)
        finally:
            self.since.pop(role, None)
            self._vain += [(role, vain) for vain in launcher.vain()]

    def vain(self) -> list[tuple[str, Vain]]:
        """What machines were paid for beside jobs since this was asked last, with their roles."""
        for role, launcher in self._launchers.items():
            self._vain += [(role, vain) for vain in launcher.vain()]
        told, self._vain = self._vain, []
        return told

    def _device_role(self, device: str) -> str:
        return prices.device_role(self._spec, device)

    def plan(self, job: Job) -> str:
        """The exact request that `start` would make, as text; its launcher is started if it is not."""
        return self._of(job).plan(job)

    def free(self, kind: JobKind) -> int:
        """How many jobs of a kind can be started now, by the launcher that trains in this stage."""
        role = self._trains if kind is JobKind.TRAIN else prices.MAIN
        return self._launcher(role).free(kind)

    def free_on(self, device: str) -> int:
        """How many models can be measured on a device now."""
        return self._launcher(self._device_role(device)).free(JobKind.PROFILE)

    def room(self, job: Job) -> int:
        """How many jobs like this one can be started now."""
        return self._of(job).free(job.kind)

    def start(self, job: Job) -> str:
        """Start a job where it belongs; the handle names the role unless it is the run's own launcher."""
        role = prices.role_of(self._spec, job)
        handle = self._launcher(role).start(job)
        self._roles[job.key] = role
        return f"{role}/{handle}" if role else handle

    def find(self, job: Job, handle: str = "") -> Progress | None:
        """A job that an earlier controller has started where it belongs: its result, or where it stands."""
        role = prices.role_of(self._spec, job)
        found = self._launcher(role).find(job, handle.removeprefix(f"{role}/") if role else handle)
        if found is not None and not found.done:
            self._roles[job.key] = role
        return found

    def poll(self, key: str) -> Progress:
        """Where a started job stands."""
        progress = self._launcher(self._roles.get(key, prices.MAIN)).poll(key)
        if progress.done:
            self._roles.pop(key, None)
        return progress

    def has(self, key: str) -> bool:
        """Whether a job was started or found here, and its end has not been told yet."""
        return key in self._roles

    def elapsed(self, key: str) -> float:
        """Worker seconds of a job so far; 0 if it does not run here."""
        return self._launchers[self._roles[key]].elapsed(key) if key in self._roles else 0.0

    def cancel(self, key: str, grace_s: float) -> None:
        """Ask a job to checkpoint and stop, and end it after some seconds; does not block."""
        if key in self._roles:
            self._launchers[self._roles[key]].cancel(key, grace_s)

    def wait(self, seconds: float) -> None:
        """Return when there is something to poll, or after some seconds, which the launchers share."""
        launchers = list(self._launchers.values())
        for launcher in launchers:
            launcher.wait(seconds / len(launchers))

    def close(self, *, leave: bool = False) -> None:
        """End all workers of all launchers, even if one of them cannot be closed."""
        self._roles = {}
        with contextlib.ExitStack() as ends:
            for role in list(self._launchers):
                ends.callback(self._end, role, leave=leave)
