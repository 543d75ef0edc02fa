"""What a scheduler of other machines is asked for, and what it answers.

`Remote` is the launcher; a `Scheduler` only submits, looks and cancels. It keeps nothing that the scheduler
itself does not know, so another controller can go on with its jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from pydantic import Field

from ziggurat.setting import Setting


class Resources(Setting):
    """What one job needs of a machine."""

    cpus: int = Field(default=1, ge=1, le=1024, description="Processor cores of a job.")
    memory_mb: int | None = Field(
        default=None, ge=64, description="Memory of a job in MB; by default what the scheduler gives."
    )
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs of a job, for it alone.")
    gpu: str | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="Kind of GPU that is needed, such as A10G; `ziggurat estimate` then offers no other. "
        "What a job gets is up to the queue.",
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that train one trial together (DDP), usually one for each GPU.",
    )


@dataclass(frozen=True)
class Request:
    """One job, as a scheduler is asked to run it.

    Attributes:
        name: At most 63 characters of a-z, 0-9 and "-"; the same for the same job of the same run.
        command: Argument list, the program first.
        resources: What it needs.
        time_limit_s: Wall-clock limit in seconds, with time to stop.
        grace_s: Seconds between the signal to stop and the end by force.
        environment: Variables to set beside the scheduler's own.
        folder: Where logs may be written, on this machine.
    """

    name: str
    command: tuple[str, ...]
    resources: Resources
    time_limit_s: float
    grace_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()


class State(StrEnum):
    """Where a scheduler says a job stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    NODE_LOST = "node_lost"
    GONE = "gone"
    """The scheduler does not know it (any more)."""


OVER = frozenset(State) - {State.PENDING, State.RUNNING}
"""States that a job does not leave by itself."""


@dataclass(frozen=True)
class Condition:
    """The state of a job, and the scheduler's own words about it."""

    state: State
    text: str = ""


class Scheduler(Protocol):
    """Runs commands on machines."""

    def check(self) -> None:
        """Whether it can be reached and would take jobs; cheap.

        Raises:
            SpecError: It cannot, or a queue, an image or credentials are missing; one line with the cure.
        """

    def plan(self, request: Request) -> str:
        """The exact request that `submit` would make, as text, without reaching for anything."""

    def submit(self, request: Request) -> str:
        """Hand over a job and return a handle that any later controller can use.

        Raises:
            ZigguratError: It was refused; one line with the cure.
        """

    def look_up(self, name: str) -> str | None:
        """The handle of a job of this name that waits, runs or has just ended; None if there is none."""

    def conditions(self, handles: Sequence[str]) -> Mapping[str, Condition]:
        """Where jobs stand, with one question for all of them where the scheduler allows that.

        Raises:
            ZigguratError: It cannot be reached just now; it is asked again later.
        """

    def cancel(self, handle: str) -> None:
        """Send a job its signal to stop, and end it after its grace; of an ended job nothing happens."""

    def last_words(self, handle: str) -> str:
        """The last line of a job's output that says something, for a message; empty if there is none."""

    def close(self, *, leave: bool = False) -> None:
        """Give back what this process holds, and what it has started for the run if that does not go on.

        Args:
            leave: Another controller has the run now, and goes on with what is there.
        """
