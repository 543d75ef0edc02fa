"""Jobs as processes of this machine, through TorchX's `local_cwd`.

They are children of the controller and end with it, however it goes; a controller that comes after does not
find them, and their segments are done again. Resources are not enforced here, but GPUs are pinned: a job sees
only its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from torchx.schedulers import local_scheduler

from ziggurat.errors import SpecError, ZigguratError
from ziggurat.launchers.scheduler import Condition, Request, State
from ziggurat.launchers.slurm import exit_words
from ziggurat.launchers.torchx_app import ROLE, SUFFIX, app_of, as_yaml, role_of, shown
from ziggurat.launchers.torchx_words import last_line, tail

if TYPE_CHECKING:
    from ziggurat.launchers.torchx import TorchX

PREFIX = "local_cwd:"
APPS = 1_000_000
"""TorchX forgets ended jobs beyond so many, and refuses new ones if all of them run."""
LAST_GRACE_S = 10.0
"""Seconds that jobs have at most when their controller closes."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
_STEP_S = 0.02


class _TorchX(local_scheduler.LocalScheduler):  # type: ignore[misc] # TorchX is untyped to us
    """TorchX's scheduler, which tells what it has started and takes no signals from its process."""

    process: subprocess.Popen[bytes]

    def __init__(self, session: str) -> None:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        super().__init__(session, local_scheduler.CWDImageProvider, cache_size=APPS)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def run_local_job(
        self, args: list[str], env: dict[str, str], stdout: Any, stderr: Any, cwd: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process with both streams in one file, and without this process's input."""
        del stderr
        self.process = subprocess.Popen(
            args,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
        )
        return self.process

    def __del__(self) -> None:
        """Nothing: jobs are ended by `close` alone."""


@dataclass
class _Started:
    name: str
    process: subprocess.Popen[bytes]
    out: Path
    gpus: tuple[str, ...]
    stop_by: float | None = None
    killed: bool = False
    status: int | None = None


class LocalScheduler:
    """Processes of this controller."""

    def __init__(self, setting: TorchX, folder: Path) -> None:
        """Nothing is started yet."""
        self._setting = setting
        self._folder = folder
        self._torchx = _TorchX("torchx")
        self._started: dict[str, _Started] = {}
        self._gpus: tuple[str, ...] | None = None

    def check(self) -> None:
        """Whether this machine has what a job needs.

        Raises:
            SpecError: It has not.
        """
        wanted = self._setting.resources
        memory = int(psutil.virtual_memory().total / 1e6)
        has = {"cpus": os.cpu_count() or 1, "memory_mb": memory, "gpus": len(self._all_gpus())}
        for name, here in has.items():
            if (getattr(wanted, name) or 0) > here:
                raise SpecError(
                    f"launcher.resources.{name} is {getattr(wanted, name)}, but this machine has {here}; "
                    "lower it, or take another launcher.scheduler"
                )
        python = self._setting.python
        if python is not None and shutil.which(python) is None:
            raise SpecError(f"launcher.python is '{python}', which is no program here; correct it")

    def _all_gpus(self) -> tuple[str, ...]:
        """GPUs that this process may use; looked for once, and only if jobs need some."""
        if self._gpus is None:
            self._gpus = visible_gpus(os.environ) if self._setting.resources.gpus else ()
        return self._gpus

    def plan(self, request: Request) -> str:
        """What TorchX would start, without the random end of the job's name."""
        info = self._dry_run(request)
        asked = info.request
        for parameters in asked.role_params[ROLE]:
            parameters.env = shown(parameters.env)
        return as_yaml(asdict(asked)).replace(asked.app_id, f"{request.name}-{SUFFIX}")

    def _dry_run(self, request: Request) -> Any:  # noqa: ANN401
        """TorchX's request."""
        options = {k: v for k, v in self._setting.options().items() if v is not None}
        options["log_dir"] = str(request.folder.absolute())
        info = self._torchx.submit_dryrun(app_of(request.name, role_of(request)), options)
        for parameters in info.request.role_params[ROLE]:
            # one file for both streams, and no threads of TorchX that write a third
            parameters.stderr = parameters.combined = None
            if not options.get("prepend_cwd") and "PATH" not in request.environment:
                # TorchX would put the working directory before the PATH, where it says it comes after
                parameters.env.pop("PATH", None)
        return info

    def submit(self, request: Request) -> str:
        """Start a process.

        Raises:
            ZigguratError: The program is not there, or no GPU is free.
        """
        gpus = self._free_gpus(request.resources.gpus)
        info = self._dry_run(request)
        parameters = info.request.role_params[ROLE][0]
        if gpus:
            parameters.env[VISIBLE] = ",".join(gpus)
        try:
            app_id = self._torchx.schedule(info)
        except OSError as error:
            raise ZigguratError(
                f"{request.command[0]} cannot be started: {error.strerror or error}; see launcher.python"
            ) from None
        handle = f"{PREFIX}{app_id}"
        self._started[handle] = _Started(request.name, self._torchx.process, Path(parameters.stdout), gpus)
        return handle

    def _free_gpus(self, count: int) -> tuple[str, ...]:
        for handle in self._started:
            self._look(handle)
        taken = {gpu for job in self._started.values() if job.status is None for gpu in job.gpus}
        free = [gpu for gpu in self._all_gpus() if gpu not in taken]
        if len(free) < count:
            raise ZigguratError(
                f"{len(free)} of this machine's {len(self._all_gpus())} GPUs are free, a job needs {count}; "
                f"lower search.workers"
            )
        return tuple(free[:count])

    def look_up(self, name: str) -> str | None:
        """The job of this name that was started last, if this controller started it."""
        return next((h for h, job in reversed(self._started.items()) if job.name == name), None)

    def conditions(self, handles: Sequence[str]) -> Mapping[str, Condition]:
        """Where processes stand; what is beyond its grace is ended."""
        gone = Condition(State.GONE, "not a process of this controller; it ended with an earlier one")
        return {h: self._condition(h) if h in self._started else gone for h in handles}

    def _condition(self, handle: str) -> Condition:
        job = self._started[handle]
        self._look(handle)
        if job.status is None:
            return Condition(State.RUNNING, f"process {job.process.pid}")
        words = exit_words(job.status)
        if job.stop_by is not None and job.status != 0:
            return Condition(State.CANCELLED, words)
        return Condition(State.FAILED if job.status else State.SUCCEEDED, words)

    def _look(self, handle: str) -> None:
        """Notice the end of a process, and bring it about if its grace is over."""
        job = self._started[handle]
        if job.status is not None:
            return
        if job.stop_by is not None and time.monotonic() >= job.stop_by and not job.killed:
            job.killed = True
            _signal(job, signal.SIGKILL)
        # not yet collected, so that its number cannot be another's when what it has started is ended
        found = os.waitid(os.P_PID, job.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return
        _signal(job, signal.SIGKILL)
        code = job.process.wait()
        job.status = -code if code < 0 else code << 8
        self._torchx.describe(handle.removeprefix(PREFIX))  # TorchX closes its files

    def cancel(self, handle: str) -> None:
        """SIGTERM now, SIGKILL after the grace, to all that the job has started in its session."""
        job = self._started.get(handle)
        if job is None or job.status is not None:
            return
        if job.stop_by is None:
            job.stop_by = time.monotonic() + self._setting.grace_s
            _signal(job, signal.SIGTERM)
        self._look(handle)

    def last_words(self, handle: str) -> str:
        """The last line of a job's output."""
        return last_line(tail(self._started[handle].out)) if handle in self._started else ""

    def close(self, *, leave: bool = False) -> None:
        """End all processes, whoever goes on: another controller could not reach them."""
        del leave
        for handle in self._started:
            self.cancel(handle)
        deadline = time.monotonic() + min(self._setting.grace_s, LAST_GRACE_S)
        while time.monotonic() < deadline and self._running():
            time.sleep(_STEP_S)
        for job in self._running():
            job.stop_by = time.monotonic()
        deadline = time.monotonic() + LAST_GRACE_S
        while time.monotonic() < deadline and self._running():
            time.sleep(_STEP_S)

    def _running(self) -> list[_Started]:
        for handle in self._started:
            self._look(handle)
        return [job for job in self._started.values() if job.status is None]


def _signal(job: _Started, number: int) -> None:
    """Send a signal to the group of a process that is not collected yet."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(job.process.pid, number)


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """GPUs that a process may use: those it was given, or else all of the machine."""
    if VISIBLE in environment:
        return tuple(gpu.strip() for gpu in environment[VISIBLE].split(",") if gpu.strip())
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(str(i) for i in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()
