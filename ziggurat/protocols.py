"""The verbs: what a strategy, a space, a trainer, a launcher, a profiler and a listener must be able to do.

Implementations share no base class; they are called through these protocols and found through the unions of
their packages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ziggurat.budget import Vain
from ziggurat.domain import (
    Candidate,
    Decision,
    Failure,
    Fidelity,
    Job,
    JobKind,
    Measurement,
    Objective,
    Promotion,
    Proposal,
    Retirement,
    Trial,
)
from ziggurat.events import Event
from ziggurat.history import History
from ziggurat.operations import Operation
from ziggurat.stores import Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ziggurat.choices import Choices


@dataclass(frozen=True)
class Forecast:
    """What a segment is expected to take."""

    seconds: float
    usd: float


@dataclass(frozen=True)
class Signature:
    """What a model takes, (features,) or (channels, height, width), and how many classes it tells apart."""

    shape: tuple[int, ...]
    classes: int


@dataclass(frozen=True)
class Context:
    """What every decision may use.

    Attributes:
        choices: Choices of the space.
        objectives: Objectives in the order of the spec.
        history: What has happened.
        stage: Stage the decision belongs to.
        ladder: Fidelities in growing order; a rung is an index into it.
        static: Static metrics of candidates by name, for all that can be known without training.
        forecast: Expected cost of taking a candidate from one rung to another.
        rng: Random generator for this one decision.
        trials: Number of trials the stage may propose.
        chance: Value that a model without any skill reaches, by metric.
        hyperparameters: Choices that do not change the model, so that weights fit whatever they are.
        listing: All candidates, of a space that lists them and knows their static metrics at once.
        twins: For a candidate that computes what others do, the one that stands for all of them to a model.
    """

    choices: Choices
    objectives: tuple[Objective, ...]
    history: History
    stage: str
    ladder: tuple[Fidelity, ...]
    static: Callable[[Sequence[Candidate]], Sequence[Mapping[str, float]]]
    forecast: Callable[[Candidate, int, int], Forecast]
    rng: np.random.Generator
    trials: int
    chance: Mapping[str, float]
    hyperparameters: frozenset[str] = frozenset()
    listing: Sequence[Candidate] | None = None
    twins: Mapping[Candidate, Candidate] = field(default_factory=dict)

    @property
    def top(self) -> int:
        """Index of the highest rung."""
        return len(self.ladder) - 1

    def mine(self) -> list[Trial]:
        """Trials of this stage in the order of their index."""
        return self.history.of_stage(self.stage)


class SearchSpace(Protocol):
    """What can be searched."""

    def choices(self) -> Choices:
        """Choices by name, in the order of declaration."""

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """An untrained model; initialised from torch's global generator, which the caller seeds."""


class DecomposableSpace(SearchSpace, Protocol):
    """A space whose models are made of operations that can be measured one by one.

    `build` makes a model of the very operations that `operations` lists, with nothing beside them but
    additions, concatenations and reshapes that are not worth measuring.
    """

    def operations(self, candidate: Candidate, signature: Signature) -> tuple[Operation, ...]:
        """The operations of a candidate, each as often as it occurs, in order; no torch is imported."""

    def all_operations(self, signature: Signature) -> tuple[Operation, ...]:
        """Every operation that some candidate has, at every shape that it can take, once each."""

    def build_operation(self, operation: Operation) -> nn.Module:
        """An untrained module of one operation; it takes `operation.inputs` tensors of (n, *shape)."""


class Searcher(Protocol):
    """Decides what is tried next."""

    def propose(self, context: Context) -> Proposal | None:
        """A candidate worth a trial; None if there is none (now, or any more)."""

    def propose_batch(self, context: Context, count: int) -> Sequence[Proposal]:
        """Up to `count` candidates, at least one if there is one."""


class Stopper(Protocol):
    """Decides how far a trial is trained."""

    def decide(self, trial: Trial, context: Context) -> Decision:
        """What happens to a trial that has just reached `trial.rung`, below the top."""

    def promote(self, context: Context) -> Trial | None:
        """The paused trial that earns the next rung now, if one does."""


class Strategy(Protocol):
    """Decides both at once: what is tried next, and how far each trial is trained."""

    def propose_batch(self, context: Context, count: int) -> Sequence[Proposal | Promotion | Retirement]:
        """Up to `count` segments worth their money now; none if there is none (now, or any more).

        Paused trials may be ended beside them.
        """

    def decide(self, trial: Trial, context: Context) -> Decision:
        """What happens to a trial that has just reached `trial.rung`, below the top."""

    def promote(self, context: Context) -> Trial | None:
        """None: promotions are proposed."""


Report = Callable[[Sequence[Measurement]], None]  # called by a trainer after every epoch; raises to stop it


@dataclass(frozen=True)
class Data:
    """Examples of the parts that training may see, in memory.

    Attributes:
        train_x: (n, *shape) float32.
        train_y: (n,) int64.
        validation_x: (m, *shape) float32.
        validation_y: (m,) int64.
        signature: Shape of the dataset.
        seed: Seed of the split; stratified subsets derive from it.
    """

    train_x: Tensor
    train_y: Tensor
    validation_x: Tensor
    validation_y: Tensor
    signature: Signature
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """What a training hands back.

    Attributes:
        measurements: Final ones.
        checkpoint: What it wrote.
        said: A script's last words, if it has told less than it should.
    """

    measurements: tuple[Measurement, ...]
    checkpoint: Path
    said: str = ""


class Trainer(Protocol):
    """Trains a model from one rung to the next."""

    def train(
        self, model: nn.Module, job: Job, data: Data, report: Report, folder: Path, resume: Path | None
    ) -> Trained:
        """Train to `job.to_rung` from `resume` (None: from nothing), writing the checkpoint into `folder`."""


class Profiler(Protocol):
    """Measures a model on one device."""

    @property
    def name(self) -> str:
        """Its name in the spec and in reports."""

    def check(self) -> None:
        """Whether the device is there and what measures it is installed; cheap.

        Raises:
            SpecError: It is not.
        """

    def describe(self) -> str:
        """What the device is and how it is measured, in a few words for reports."""

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers depend on: hardware, versions of libraries, threads, type, batch size."""

    def profile(
        self, model: nn.Module, example: Tensor, candidate: Candidate | None = None
    ) -> Sequence[Measurement]:
        """Latency, memory and the like of a model in evaluation mode, which is left as it is.

        Args:
            model: (n, *shape) to (n, classes).
            example: (1, *shape), one example as a batch.
            candidate: What the model was built from, for devices that want it as JSON.

        Raises:
            SpecError: The device cannot run or measure it.
        """


@dataclass(frozen=True)
class Progress:
    """What a launcher knows about a job.

    Attributes:
        done: Whether the job has ended.
        seconds: Worker seconds so far.
        rows: New (step, measurements) since the last poll.
        measurements: Final results, if done without failure.
        checkpoint: Path of the checkpoint relative to the run directory, if one was written.
        failure: Why there is no result, if done with a failure.
        retry: The failure does not count against the trial.
        payload: Further results as plain JSON, such as proposals.
        usage: What it has used of its machine so far, by name; empty where nobody knows.
    """

    done: bool
    seconds: float
    rows: tuple[tuple[int, tuple[Measurement, ...]], ...] = ()
    measurements: tuple[Measurement, ...] = ()
    checkpoint: str | None = None
    failure: Failure | None = None
    retry: bool = False
    payload: Any = None
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Clock:
    """Time as a launcher's machines have it, in seconds: since the epoch, and since any moment, never back.

    A virtual one moves on only while somebody waits.
    """

    utc: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    virtual: bool = False


@dataclass(frozen=True)
class Site:
    """What a launcher is started for.

    Attributes:
        folder: Run directory.
        workers: How many jobs train at the same time; 0 if it only measures.
        role: Which of a run's launchers it is; empty for the run's own.
        store: Where workers read and write; None if they see the run directory.
        perform: Answers a job at once, for launchers that only imagine machines.
        utc: Where the clock of such a launcher goes on.
    """

    folder: Path
    workers: int
    role: str = ""
    store: Store | None = None
    perform: Callable[[Job], Progress] | None = None
    utc: float = 0.0


class Launcher(Protocol):
    """Runs jobs on machines."""

    clock: Clock

    def plan(self, job: Job) -> str:
        """The exact request that `start` would make, as text, without making it."""

    def free(self, kind: JobKind) -> int:
        """How many jobs of a kind can be started now."""

    def start(self, job: Job) -> str:
        """Start a job and return a handle that survives a restart of the controller."""

    def find(self, job: Job, handle: str = "") -> Progress | None:
        """The result of an earlier controller's job, or where it stands, and is ours now; None if unknown."""

    def poll(self, key: str) -> Progress:
        """Where a started job stands; does not block."""

    def elapsed(self, key: str) -> float:
        """Worker seconds of a job so far; 0 if it does not run here."""

    def cancel(self, key: str, grace_s: float) -> None:
        """Ask a job to checkpoint and stop, and end it after some seconds; does not block."""

    def wait(self, seconds: float) -> None:
        """Return when there is something to poll, or after some seconds."""

    def vain(self) -> Sequence[Vain]:
        """What machines were paid for beside jobs, since this was asked last; also once it is closed."""

    def close(self, *, leave: bool = False) -> None:
        """End all workers; with `leave`, jobs on other machines go on for a controller that has them now."""


Listener = Callable[[Event, History], None]  # called after every event, in the journal's order; never blocks

FloatArray = npt.NDArray[np.float64]
