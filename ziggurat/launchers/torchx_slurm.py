"""Jobs of Slurm: TorchX writes the batch script, Slurm's own programs take it and tell what became of it.

The worker runs under `srun`, so Slurm's signals reach it and not only the shell around it. Its variables go
by the environment of `sbatch`, so no value stands in a script, a command line or Slurm's listing of a job.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import stamina

from ziggurat.errors import SpecError, ZigguratError, near
from ziggurat.launchers import slurm
from ziggurat.launchers.scheduler import OVER, Condition, Request, State
from ziggurat.launchers.torchx_app import resource_of, shown
from ziggurat.launchers.torchx_words import last_line, tail
from ziggurat.processes import MARK

if TYPE_CHECKING:
    from ziggurat.launchers.torchx import TorchX

PREFIX = "slurm:"
TRIES = 5
PATIENCE_S = 45.0
"""Seconds in which a controller of Slurm that does not answer is asked again to take a job."""
_JOB_OPTIONS = ("comment", "mail-user", "mail-type", "account")
_NO_MACRO = "$\a{app_id}"
"""Stands for what TorchX takes for its own macro, and is quoted as that would be."""
_SLURM_SPEAKS = ("slurmstepd", "srun:", "job exited with code")


class SlurmScheduler:
    """Jobs of this user on one cluster."""

    def __init__(self, setting: TorchX, folder: Path) -> None:
        """Nothing is reached for yet."""
        self._setting = setting
        self._logs = folder / "logs"
        self._stop_by: dict[str, float] = {}

    def check(self) -> None:
        """Whether Slurm answers, and would take a job such as those of the run.

        Raises:
            SpecError: It does not.
        """
        try:
            self._check_partition()
            request = Request(
                "ziggurat-check", ("true",), self._setting.resources, self._setting.time_limit_s, 0.0
            )
            slurm.ask("sbatch", "--test-only", *self._options(), text=self._script(request))
        except slurm.SlurmError as error:
            raise SpecError(_cured(error)) from None

    def _check_partition(self) -> None:
        wanted = self._setting.options()["partition"]
        known = slurm.partitions()
        for name in str(wanted or "").split(","):
            if name and name not in known:
                raise SpecError(
                    f"launcher.settings.partition is '{name}', which the cluster does not have; "
                    f"{near(name, known)}"
                )

    def plan(self, request: Request) -> str:
        """The call of `sbatch`, what it adds to the environment, and the batch script."""
        variables = [f"# {name}={value}" for name, value in sorted(shown(request.environment).items())]
        head = [
            f"# {' '.join(['sbatch', *self._options()])}",
            "# in this environment, and beside:",
            *variables,
        ]
        return "\n".join([*head, "", self._script(request)])

    def _options(self) -> list[str]:
        """Options of `sbatch` that concern the job as a whole."""
        options = self._setting.options()
        chosen = [f"--{name}={options[name]}" for name in _JOB_OPTIONS if options[name] is not None]
        return ["--parsable", "--export=ALL", *chosen]

    def _script(self, request: Request) -> str:
        """The batch script, as TorchX writes it, but with every word of the command as it is."""
        from torchx import specs
        from torchx.schedulers.slurm_scheduler import SlurmBatchRequest

        replica = self._replica(request)
        batch = SlurmBatchRequest(
            cmd=["sbatch", *self._options()], replicas={request.name: replica}, job_dir=None, max_retries=0
        )
        return _with_trap(batch.materialize()).replace(_NO_MACRO, specs.macros.app_id)

    def _replica(self, request: Request) -> Any:  # noqa: ANN401 - TorchX is untyped to us
        from torchx import specs
        from torchx.schedulers.slurm_scheduler import SlurmOpts, SlurmReplicaRequest

        program, *arguments = (word.replace(specs.macros.app_id, _NO_MACRO) for word in request.command)
        role = specs.Role(
            name=request.name,
            image=self._setting.image or "",
            entrypoint=program,
            args=arguments,
            resource=resource_of(request),
        )
        options = {"time": _minutes(request.time_limit_s)} | {
            k: v for k, v in self._setting.options().items() if v is not None
        }
        replica = SlurmReplicaRequest.from_role(
            request.name, role, SlurmOpts.from_cfg(options), nomem=False, container_image=self._setting.image
        )
        out = str((request.folder / "slurm").absolute()).replace("%", "%%")
        replica.sbatch_opts |= {
            "nodes": "1",
            "ntasks": "1",
            "open-mode": "append",
            "output": _quoted(f"{out}-%j.batch"),
        }
        # since Slurm 22.05 srun no longer takes the number of cores from the job
        replica.srun_opts |= {
            "cpus-per-task": str(request.resources.cpus),
            "open-mode": "append",
            "output": f"{out}-%j.out",
        }
        del replica.srun_opts["error"]
        return replica

    def submit(self, request: Request) -> str:
        """Hand a job over; a Slurm that does not answer is asked again, and whether it has it already.

        Raises:
            ZigguratError: It was refused.
        """
        request.folder.mkdir(parents=True, exist_ok=True)
        script = self._script(request)
        environment = slurm.own_environment(os.environ) | dict(request.environment)
        for name in [n for n in environment if n == MARK or n.startswith("PREFECT_")]:
            del environment[name]
        unsure = False
        try:
            for attempt in stamina.retry_context(
                on=_worth_a_try, attempts=TRIES, timeout=PATIENCE_S, wait_initial=0.5, wait_max=10.0
            ):
                with attempt:
                    if unsure and (known := self.look_up(request.name)) is not None:
                        return known
                    unsure = True
                    out = slurm.ask("sbatch", *self._options(), environment=environment, text=script)
        except slurm.SlurmError as error:
            raise ZigguratError(_cured(error)) from None
        return PREFIX + out.strip().partition(";")[0]

    def look_up(self, name: str) -> str | None:
        """The newest job of this name, one that is not over before one that is."""
        rows = slurm.listed(name=name)
        if not rows:
            return None
        alive = [r for r in rows if slurm.condition_of(r).state not in OVER]
        return PREFIX + max(alive or rows, key=lambda r: int(r.number)).number

    def conditions(self, handles: Sequence[str]) -> Mapping[str, Condition]:
        """Where jobs stand: one question to Slurm, and one to its accounting about those it has forgotten."""
        if not handles:
            return {}
        rows = {PREFIX + row.number: row for row in slurm.listed()}
        self._press(handles, rows)
        found = {h: self._condition(rows[h]) for h in handles if h in rows}
        forgotten = [h.removeprefix(PREFIX) for h in handles if h not in rows and _is_ours(h)]
        told = slurm.accounted(forgotten) if forgotten else {}
        gone = Condition(State.GONE, "Slurm does not know the job (any more)")
        return {h: found.get(h) or told.get(h.removeprefix(PREFIX), gone) for h in handles}

    def _condition(self, row: slurm.Row) -> Condition:
        """What a row says; of one that was killed, whether that was for its memory."""
        condition = slurm.condition_of(row)
        if condition.state is State.FAILED and slurm.ended_by_force(row):
            words = slurm.memory_words(self._output(PREFIX + row.number))
            if words:
                return Condition(State.OUT_OF_MEMORY, f"{words}; {condition.text}")
        return condition

    def cancel(self, handle: str) -> None:
        """Take a waiting job out of the queue, or send a running one SIGTERM; asked again, end it."""
        number = handle.removeprefix(PREFIX)
        if not _is_ours(handle):
            return
        late = time.monotonic() >= self._stop_by.get(handle, math.inf)
        with contextlib.suppress(_Ended):
            if late or self._setting.grace_s == 0:
                _scancel(number)
                return
            _scancel("--state=PENDING", number)
            if handle not in self._stop_by:
                self._stop_by[handle] = time.monotonic() + self._setting.grace_s
                _scancel("--signal=TERM", number)

    def _press(self, handles: Iterable[str], rows: Mapping[str, slurm.Row]) -> None:
        """End cancelled jobs whose grace is over, and those that have come back into the queue."""
        for handle in [h for h in handles if h in self._stop_by]:
            row = rows.get(handle)
            if row is None or slurm.condition_of(row).state in OVER:
                del self._stop_by[handle]
            elif row.state == "PENDING" or time.monotonic() >= self._stop_by[handle]:
                with contextlib.suppress(_Ended):
                    _scancel(row.number)

    def _output(self, handle: str) -> list[str]:
        """The end of what a job has printed, and before it what Slurm has said around it."""
        stem = self._logs / f"slurm-{handle.removeprefix(PREFIX)}"
        return [*tail(stem.with_suffix(".batch")), *tail(stem.with_suffix(".out"))]

    def last_words(self, handle: str) -> str:
        """The last line of a job's own output; if there is none, what Slurm has said about it."""
        if not _is_ours(handle):
            return ""
        stem = self._logs / f"slurm-{handle.removeprefix(PREFIX)}"
        return (
            last_line(tail(stem.with_suffix(".out")), without=_SLURM_SPEAKS)
            or last_line(tail(stem.with_suffix(".out")))
            or last_line(line for line in tail(stem.with_suffix(".batch")) if line.startswith(_SLURM_SPEAKS))
        )

    def close(self, *, leave: bool = False) -> None:
        """Leave jobs alone; Slurm itself ends those that are cancelled, after its own KillWait."""
        if leave:
            return
        for handle in self._stop_by:
            with contextlib.suppress(ZigguratError, _Ended):
                _scancel(handle.removeprefix(PREFIX))
        self._stop_by.clear()


class _Ended(Exception):  # noqa: N818 - it is no error
    """The job is over already."""


def _scancel(*arguments: str) -> None:
    try:
        slurm.ask("scancel", *arguments)
    except slurm.SlurmError as error:
        if not error.transient:
            raise _Ended from None
        raise


def _is_ours(handle: str) -> bool:
    return handle.startswith(PREFIX) and handle.removeprefix(PREFIX).isdigit()


def _worth_a_try(error: Exception) -> bool:
    return isinstance(error, slurm.SlurmError) and error.transient


def _minutes(seconds: float) -> str:
    """Slurm counts whole minutes."""
    return str(max(1, math.ceil(seconds / 60)))


def _quoted(text: str) -> str:
    """A word of a line of #SBATCH options, which knows double quotes and backslashes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _with_trap(script: str) -> str:
    """A batch script whose shell outlives SIGTERM, so that it can tell how the worker has ended."""
    lines = script.splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH "))
    return "\n".join([*lines[: last + 1], "", "trap : TERM", *lines[last + 1 :], ""])


def _cured(error: slurm.SlurmError) -> str:
    """What Slurm says, and what can be done."""
    text = str(error)
    cures = {
        "partition": "correct launcher.settings.partition",
        "account": "correct launcher.settings.account",
        "qos": "correct launcher.settings.qos, or ask for less under launcher.resources",
        "time limit": "lower launcher.time_limit_s or set launcher.settings.time",
        "node configuration is not available": "ask for less under launcher.resources, or another partition",
        "memory specification": "lower launcher.resources.memory_mb",
        "generic resource": "lower launcher.resources.gpus, or take a partition with GPUs",
        "gres": "lower launcher.resources.gpus, or take a partition with GPUs",
        "could not establish a configuration source": "start where Slurm is set up, or set SLURM_CONF",
        "configuration file": "correct the file that SLURM_CONF names",
        "invalid feature": "correct launcher.settings.constraint",
        "--time": "correct launcher.settings.time",
        "user id": "start the controller as a user whom the cluster knows",
        "not on the path": "",  # it says so itself
    }
    low = text.lower()
    cure = next((c for words, c in cures.items() if words in low), "correct launcher.settings")
    if error.transient:
        cure = "see with `sinfo` whether the cluster is up"
    return f"{text}; {cure}" if cure else text
