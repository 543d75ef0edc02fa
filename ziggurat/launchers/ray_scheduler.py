"""A scheduler whose machines are warm Ray actors, one for each job that runs at a time.

Actors are detached and named after the run, so that a restarted controller finds them and their jobs again.
Ray restarts no actor and repeats no job: a lost one is told with Ray's own cause, and the next job gets a
fresh actor, which waits for a node if it must. A job's handle is `ACTOR/NAME`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat.errors import ZigguratError
from ziggurat.launchers import ray_cluster, ray_crew
from ziggurat.launchers.ray_cluster import one_line
from ziggurat.launchers.ray_crew import Crew
from ziggurat.launchers.ray_place import Assignment, Told
from ziggurat.launchers.ray_process import Chair
from ziggurat.launchers.scheduler import OVER, Condition, Request, State

if TYPE_CHECKING:
    from ziggurat.launchers.ray_launcher import Ray

ENTRY = "ziggurat.once"
"""The module whose jobs can be done in a warm process. It lies above the launchers, which know its name only:
it is imported beside the actor, because a job's command names it."""
SLACK_S = 15.0
"""Seconds beyond its grace after which a job's whole actor is ended, since that does not answer."""
MUTE_S = 60.0
"""Seconds without a connection to an actor after which it is given up, though Ray says it lives."""
SETTLE_S = 1.0
"""Seconds that the end of a job may be behind its result, before another actor is started."""
PLACED_S = 20.0
"""Seconds without a node after which a new actor's job goes to another one, should that be idle by then."""
REMEMBERED = 200
"""Ended jobs whose last words are kept."""


@dataclass
class Watch:
    """A job that was submitted or found again, and the outstanding question about it."""

    actor: str
    name: str
    ref: Any = None
    assignment: Assignment | None = None
    since: float = field(default_factory=time.monotonic)
    told: Told = field(default_factory=lambda: Told(State.PENDING))
    found_again: bool = False
    answered: bool = False
    kill_at: float | None = None
    mute_since: float | None = None

    @property
    def handle(self) -> str:
        """What stands for it in journals."""
        return f"{self.actor}/{self.name}"

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.told.state in OVER


class RayScheduler:
    """The workers of one run on Ray."""

    def __init__(self, settings: Ray, folder: Path) -> None:
        """Begin; the cluster is entered when it is first needed."""
        self.settings, self.folder = settings, folder
        self._entered: Crew | None = None
        self._watches: dict[str, Watch] = {}

    def check(self) -> None:
        """Whether Ray is installed and answers, and has a node that is large enough.

        Raises:
            SpecError: It does not.
        """
        ray_cluster.check(self.settings)

    def plan(self, request: Request) -> str:
        """The actor and the call that a job becomes; values of variables are not shown."""
        settings, assignment = self.settings, self._assignment(request)
        name = ray_crew.name_of(settings, self.folder, "NUMBER")
        job = {
            "name": request.name,
            "command": list(request.command),
            "done_by": f"{ENTRY}, in a warm process" if assignment.chair.warm else "a process of its own",
            "environment": sorted(request.environment),
            "limit_s": request.time_limit_s,
            "grace_s": request.grace_s,
        }
        shown = {
            "ray.init": {"address": settings.address or "local", "namespace": settings.namespace},
            "Worker.options": ray_crew.options(settings, name),
            "Worker.do": job,
        }
        return "\n".join(f"{what}: {json.dumps(about)}" for what, about in shown.items())

    def _assignment(self, request: Request) -> Assignment:
        """A request as a worker takes it: jobs of the run are done warm, everything else is a process."""
        python, *rest = request.command
        warm = len(rest) == 4 and rest[:2] == ["-m", ENTRY]  # noqa: PLR2004 - -m MODULE RUN KEY
        of_ray = self.settings.python is None and python == sys.executable
        chair = Chair(
            python=python if warm and not of_ray else None,
            warm=tuple(rest[1:3]) if warm else (),
            environment=tuple(sorted(request.environment.items())),
            cwd=None if "working_dir" in self.settings.runtime_env else str(Path.cwd()),
        )
        return Assignment(
            name=request.name,
            chair=chair,
            key=rest[3] if warm else "",
            command=() if warm else request.command,
            limit_s=request.time_limit_s,
            grace_s=request.grace_s,
            start_s=self.settings.start_timeout_s,
        )

    @property
    def _crew(self) -> Crew:
        """The actors; the cluster is entered, and those of an earlier controller are found."""
        if self._entered is None:
            self._entered = Crew(self.settings, self.folder)
            for actor, jobs in self._entered.adopt().items():
                for name in [n for n, state in jobs.items() if state not in OVER]:
                    self._attach(actor, name)
        return self._entered

    def submit(self, request: Request) -> str:
        """Give a job to an idle actor, or to a new one."""
        crew, assignment = self._crew, self._assignment(request)
        self._settle(crew)
        for handle in [h for h, w in self._watches.items() if w.over][:-REMEMBERED]:
            del self._watches[handle]
        try:
            actor = crew.idle(self._busy) or crew.hire()
            ref = crew[actor].do.remote(assignment)
        except ImportError as error:
            raise ZigguratError(
                f"Ray does not take job {request.name}: {one_line(error)} on the cluster; "
                "install Ziggurat on its nodes, or give launcher.runtime_env"
            ) from error
        except (ValueError, TypeError, RuntimeError, crew.ray.exceptions.RayError) as error:
            raise ZigguratError(f"Ray does not take job {request.name}: {one_line(error)}") from error
        watch = Watch(actor, request.name, ref, assignment)
        self._watches[watch.handle] = watch
        return watch.handle

    @property
    def _busy(self) -> set[str]:
        """Actors that have a job."""
        return {w.actor for w in self._watches.values() if not w.over}

    def _settle(self, crew: Crew) -> None:
        """Let an actor that is about to become idle say so: an actor too many might never have a node."""
        self._collect()
        deadline = time.monotonic() + SETTLE_S
        while crew.idle(self._busy) is None and (left := deadline - time.monotonic()) > 0:
            begun = [w.ref for w in self._watches.values() if w.answered and not w.over]
            if not begun:
                return
            crew.wait_for_one(begun, left)
            self._collect()

    def _move(self, crew: Crew) -> None:
        """Give jobs whose actors have no node to actors that have become idle meanwhile."""
        now = time.monotonic()
        for watch in [w for w in self._watches.values() if not w.over and not w.answered]:
            idle = crew.idle(self._busy)
            if idle is None:
                return
            if watch.assignment is not None and watch.kill_at is None and now - watch.since > PLACED_S:
                crew.kill(watch.actor)
                watch.actor, watch.ref = idle, crew[idle].do.remote(watch.assignment)

    def look_up(self, name: str) -> str | None:
        """The handle of a job that an actor of the run knows."""
        crew = self._crew
        known = next((h for h, w in self._watches.items() if w.name == name), None)
        actor = crew.find(name) if known is None else None
        return known or (f"{actor}/{name}" if actor else None)

    def _attach(self, actor: str, name: str) -> Watch:
        """Begin to watch a job of an earlier controller."""
        watch = Watch(actor, name, found_again=True)
        self._watches[watch.handle] = watch
        place = actor if self._crew.meet(actor) else self._crew.find(name)
        if place is None:
            watch.told = Told(State.GONE, f"Ray knows no actor {actor} (any more)")
        else:
            watch.actor, watch.ref = place, self._crew[place].watch.remote(name, State.PENDING)
        return watch

    def conditions(self, handles: Sequence[str]) -> Mapping[str, Condition]:
        """Where jobs stand, from the answers that have come in; those found again are waited for."""
        crew = self._crew
        for handle in [h for h in handles if h not in self._watches]:
            self._attach(*handle.split("/", 1))
        fresh = [w for w in self._watches.values() if w.found_again and not w.over]
        crew.wait([w.ref for w in fresh], ray_crew.ANSWER_S)
        for watch in fresh:
            watch.found_again = False
        self._collect()
        self._give_up()
        self._move(crew)
        found = {h: self._watches[h].told for h in handles}
        return {h: Condition(told.state, told.text) for h, told in found.items()}

    def _collect(self) -> None:
        """Take in the answers that are there, and ask again about what has not ended."""
        waiting = {w.ref: w for w in self._watches.values() if not w.over}
        try:
            ready = self._crew.wait(list(waiting), 0)
        except Exception as error:
            raise ZigguratError(f"Ray does not answer: {one_line(error)}") from error
        for watch in [waiting[ref] for ref in ready]:
            self._hear(watch)
            if watch.over:
                watch.ref = None
            elif watch.actor in self._crew:
                watch.ref = self._crew[watch.actor].watch.remote(watch.name, watch.told.state)
            else:
                watch.told = Told(State.NODE_LOST, "its worker has gone")

    def _hear(self, watch: Watch) -> None:
        """Take in one answer, or Ray's reason why there is none."""
        crew, errors = self._crew, self._crew.ray.exceptions
        try:
            told: Told = crew.ray.get(watch.ref)
        except errors.ActorUnavailableError as error:
            watch.mute_since = watch.mute_since or time.monotonic()
            watch.told = replace(watch.told, text=one_line(error))
            return
        except errors.RayError as error:
            watch.told = self._end_of(watch, error)
            crew.forget(watch.actor)
            return
        watch.mute_since, watch.answered, watch.told = None, True, told
        if told.leaving and watch.over:
            crew.forget(watch.actor)

    def _end_of(self, watch: Watch, error: Exception) -> Told:
        """What became of a job whose actor cannot answer any more."""
        errors, text = self._crew.ray.exceptions, one_line(_cause(error))
        if watch.kill_at is not None:
            return Told(State.CANCELLED, "ended by force")
        if isinstance(error, errors.OutOfMemoryError):
            return Told(State.OUT_OF_MEMORY, text)
        if isinstance(error, errors.ActorDiedError) and not error.actor_init_failed:
            return Told(State.PREEMPTED if error.preempted else State.NODE_LOST, text)
        return Told(State.FAILED, text)

    def _give_up(self) -> None:
        """End actors that do not answer, though Ray takes them for living."""
        now = time.monotonic()
        for watch in [w for w in self._watches.values() if not w.over]:
            if watch.kill_at is not None and now > watch.kill_at:
                watch.told = Told(State.CANCELLED, "ended by force: its worker did not answer")
            elif watch.mute_since is not None and now - watch.mute_since > MUTE_S:
                watch.told = Told(State.NODE_LOST, watch.told.text)
            else:
                continue
            self._crew.kill(watch.actor)

    def cancel(self, handle: str) -> None:
        """Have a job write its checkpoint and end; one whose actor has no node yet ends at once."""
        crew = self._crew
        watch = self._watches.get(handle) or self._attach(*handle.split("/", 1))
        if not watch.over and not watch.answered:
            crew.wait([watch.ref], 1.0)
        self._collect()
        if watch.over or watch.kill_at is not None:
            return
        watch.kill_at = time.monotonic() + self.settings.grace_s + SLACK_S
        if watch.answered:
            crew[watch.actor].stop.remote(watch.name, "stopped on request")
        else:
            crew.kill(watch.actor)
            watch.told = Told(State.CANCELLED, "before it had a node")

    def last_words(self, handle: str) -> str:
        """The last line of a job's output, as it was told with its end."""
        watch = self._watches.get(handle)
        return watch.told.words if watch is not None else ""

    def close(self, *, leave: bool = False) -> None:
        """Disconnect; actors stay for another controller, or end after their jobs have stopped."""
        crew = self._entered
        if crew is None:
            return
        try:
            if not leave:
                self._dismiss(crew)
        finally:
            self._entered = None
            self._watches.clear()
            crew.disperse()

    def _dismiss(self, crew: Crew) -> None:
        """Let all actors go; a Ray that ends with the controller waits until jobs have stopped."""
        going = [w for w in self._watches.values() if not w.over and w.answered]
        crew.dismiss({w.actor for w in going})
        deadline = time.monotonic() + self.settings.grace_s
        while self.settings.address is None and (left := deadline - time.monotonic()) > 0:
            going = [w for w in going if not w.over]
            if not going:
                return
            crew.wait([going[0].ref], left)
            self._collect()


def _cause(error: Exception) -> str:
    """Ray's own words for the death of an actor, without the particulars of ours."""
    lines = str(error).splitlines()
    told = [
        line for line in lines[1:] if not re.match(r"\s+(class_name|actor_id|pid|name|namespace|ip):", line)
    ]
    return " ".join(told or lines)
