"""What runs inside a Ray actor: a place where jobs are done, and answers about them.

All calls return at once, or as soon as there is news, so that questions and requests to stop get through
while a job trains. Nothing here knows the controller: another one may ask about the same jobs.
"""

from __future__ import annotations

import asyncio
import logging
import time

from ziggurat.launchers.ray_place import Assignment, Place, Told
from ziggurat.launchers.scheduler import State

log = logging.getLogger(__name__)

TICK_S = 0.05
LONGEST_WATCH_S = 30.0
"""After which a question is answered without news, so that those of dead controllers do not pile up."""
NOTICE_S = 2.0
"""Seconds between two looks whether the node is to leave."""
LINGER_S = 5.0
"""Seconds in which the end of the last job can be asked for, before a worker goes that is to go."""


class Worker:
    """A Ray actor: a place that is tended, and that leaves when it is of no use any more."""

    def __init__(self, keep_warm_s: float) -> None:
        """Begin without jobs.

        Args:
            keep_warm_s: Seconds without a job after which it ends itself.
        """
        self._keep_warm_s = keep_warm_s
        self._place = Place()
        self._tending: asyncio.Task[None] | None = None
        self._looked = 0.0

    async def do(self, assignment: Assignment) -> Told:
        """Take a job."""
        self._wake()
        return self._place.take(assignment)

    async def watch(self, name: str, known: State) -> Told:
        """What is known of a job, as soon as that is something else than what the asker knows."""
        self._wake()
        until = time.monotonic() + LONGEST_WATCH_S
        while (told := self._place.about(name)).state is known and time.monotonic() < until:
            await asyncio.sleep(TICK_S)
        return told

    async def stop(self, name: str, why: str) -> None:
        """Have a job write its checkpoint and end."""
        self._wake()
        self._place.stop(name, why)

    async def names(self) -> dict[str, State]:
        """The jobs it knows."""
        self._wake()
        return {name: task.told.state for name, task in self._place.tasks.items()}

    async def retire(self, why: str) -> None:
        """Have all jobs end, and leave after them."""
        self._wake()
        self._place.leave(why, State.CANCELLED)

    def _wake(self) -> None:
        if self._tending is None:
            self._tending = asyncio.get_running_loop().create_task(self._tend())

    async def _tend(self) -> None:
        while not self._useless():
            self._place.tend()
            self._look_out()
            await asyncio.sleep(TICK_S)
        self._place.close()
        _end_actor()

    def _useless(self) -> bool:
        unused = time.monotonic() - self._place.idle_since
        return self._place.idle and unused > (LINGER_S if self._place.leaving else self._keep_warm_s)

    def _look_out(self) -> None:
        """Whether the node has been told to leave, as spot machines are."""
        if self._place.leaving or time.monotonic() - self._looked < NOTICE_S:
            return
        self._looked = time.monotonic()
        deadline = _leaves_at()
        if deadline is not None:
            within = max(0.0, deadline - time.time()) if deadline else None
            self._place.leave("its node is to leave the Ray cluster", State.PREEMPTED, within)


def _leaves_at() -> float | None:
    """When this node is to have left, as seconds since the epoch; 0 if no time is set, None if it stays."""
    import ray
    from ray._private import state  # Ray tells nobody else

    try:
        nodes = state.state.get_draining_nodes()
    except Exception as error:  # noqa: BLE001 - an interface that Ray does not promise; jobs go on without it
        log.warning("Ray does not say which nodes are to leave: %s", error)
        return None
    at = nodes.get(ray.get_runtime_context().get_node_id())
    return None if at is None else at / 1000


def _end_actor() -> None:
    """End this actor for good."""
    import ray

    ray.kill(ray.get_runtime_context().current_actor)
