"""The template of workers: a process that has imported what they need and becomes one by forking, on request.

It is started by `forks` as `python -m ziggurat.launchers.template FD PADDING`, once for each controller. A
request comes over the socket FD as four file descriptors: the leash, and the standard streams of the worker.
The leash is a socket over which the request itself comes as a line of JSON, and over which the template says
how the worker has ended; when the controller closes it, the worker is ended and collected. What has been
forked says on the leash that it is what it should be, or why it cannot be, and is then left to start plainly.

It trains nothing and never touches a GPU, so it has one thread, and nothing that a fork would break.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ziggurat.launchers.child import code_of
from ziggurat.launchers.disguise import show_command, show_variable
from ziggurat.processes import MARK

PRELOAD = (
    "torch",
    "ziggurat.jobs",
    "lightning_fabric",
    "pytorch_lightning",
    "ziggurat.trainers.fitting",
    "ziggurat.inspection",
    "fsspec.implementations.local",
    "torch.utils.flop_counter",
)
"""Imported one after the other; between two of them it looks whether its controller is still there."""
WATCH_S = 2.0
LONGEST_REQUEST = 4_000_000


def shadowed(path: Sequence[str]) -> str | None:
    """What would have been imported from somewhere else by a process that begins with these folders.

    Args:
        path: Folders that come before the libraries' own on the path of the new process.
    """
    for name, module in list(sys.modules.items()):
        if "." in name or name == "__main__":
            continue
        file = getattr(module, "__file__", None)
        if file is None:
            continue
        found = Path(file)
        home = found.parent.parent if found.name.startswith("__init__.") else found.parent
        for folder in path:
            if Path(folder).resolve() == home.resolve():
                break
            if (Path(folder, name) / "__init__.py").exists() or Path(folder, f"{name}.py").exists():
                return f"{name} is also in {folder}"
    return None


class Template:
    """Forks workers, and tells how they end."""

    def __init__(self, control: socket.socket, own_path: int) -> None:
        """Take requests from a socket; the first `own_path` entries of the path are this process's own."""
        self._control: socket.socket | None = control
        self._controller = os.getppid()
        self._libraries = sys.path[own_path:]
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, None)
        self._leashes: dict[int, socket.socket] = {}
        self._pidfds: dict[int, int] = {}

    def serve(self) -> None:
        """Fork on request until the controller, and all workers, are gone."""
        while self._control is not None or self._leashes:
            for key, _ in self._selector.select(WATCH_S):
                if key.data is None:
                    self._take_request()
                elif key.fd == self._pidfds.get(key.data):
                    self._tell(key.data)
                else:
                    self._collect(key.data)
            if os.getppid() != self._controller:  # somebody else holds the other end of our sockets
                for pid in list(self._leashes):
                    self._collect(pid)
                return

    def _take_request(self) -> None:
        if self._control is None:
            return
        word, fds, _, _ = socket.recv_fds(self._control, 1, 4)
        if not word:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None
            return
        leash = socket.socket(fileno=fds[0])
        try:
            request = _read_line(leash)
            self._fork(request, leash, fds[1:])
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                _say(leash, refused=f"{type(error).__name__}: {error}")
            leash.close()
        finally:
            for fd in fds[1:]:
                os.close(fd)

    def _fork(self, request: Mapping[str, Any], leash: socket.socket, streams: Sequence[int]) -> None:
        if len(list(Path("/proc/self/task").iterdir())) > 1:
            raise OSError("the template has more than one thread")
        pid = os.fork()
        if not pid:
            self._become(request, leash, streams)
        pidfd = os.pidfd_open(pid)
        self._leashes[pid], self._pidfds[pid] = leash, pidfd
        self._selector.register(leash, selectors.EVENT_READ, pid)
        self._selector.register(pidfd, selectors.EVENT_READ, pid)

    def _become(self, request: Mapping[str, Any], leash: socket.socket, streams: Sequence[int]) -> NoReturn:
        """Be a worker, in the process that was forked."""
        code = 1
        try:
            os.setsid()
            for fd, stream in enumerate(streams):
                os.dup2(stream, fd)
            self._let_go(streams)
            try:
                _dress(request, self._libraries)
            except (OSError, RuntimeError) as error:
                _say(leash, refused=str(error))
                os._exit(0)
            _say(leash, pid=os.getpid())
            leash.close()
            runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as a template
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _let_go(self, streams: Sequence[int]) -> None:
        """Close what belongs to the template, so that the ends of others are seen by those concerned."""
        self._selector.close()
        if self._control is not None:
            self._control.close()
        for leash in self._leashes.values():
            leash.close()
        for fd in (*self._pidfds.values(), *streams):
            os.close(fd)

    def _tell(self, pid: int) -> None:
        """Tell how a worker has ended; it is collected when the controller has let go of it."""
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return
        self._drop_pidfd(pid)
        with contextlib.suppress(OSError):
            _say(self._leashes[pid], exit=code_of(ended))

    def _drop_pidfd(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid, None)
        if pidfd is not None:
            self._selector.unregister(pidfd)
            os.close(pidfd)

    def _collect(self, pid: int) -> None:
        """End a worker whose leash was let go, with what is in its group, and collect it."""
        if pid not in self._leashes:
            return
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)
        self._drop_pidfd(pid)
        leash = self._leashes.pop(pid)
        self._selector.unregister(leash)
        leash.close()
        os.waitpid(pid, 0)


def _read_line(leash: socket.socket) -> Any:  # noqa: ANN401 - plain JSON
    """The request; the controller has written it before it has asked."""
    data = b""
    leash.settimeout(10.0)
    while not data.endswith(b"\n"):
        chunk = leash.recv(1 << 16)
        if not chunk or len(data) > LONGEST_REQUEST:
            raise OSError("the request is not whole")
        data += chunk
    leash.settimeout(None)
    return json.loads(data)


def _say(leash: socket.socket, **message: object) -> None:
    leash.sendall(json.dumps(message).encode() + b"\n")


def _dress(request: Mapping[str, Any], libraries: Sequence[str]) -> None:
    """Give this process what a fresh one would have been started with.

    Raises:
        OSError: It cannot be had, for the reason given.
        RuntimeError: The same, as torch says it.
    """
    environment: Mapping[str, str] = request["environment"]
    first = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    first = first if sys.flags.safe_path else [request["cwd"], *first]
    hidden = shadowed(first)
    if hidden is not None:
        raise OSError(hidden)
    if MARK in environment:
        show_variable(MARK, environment[MARK])
    show_command([sys.executable, *request["command"]])
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(request["cwd"])
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(str(request["command"][-1]), encoding="utf-8")
    sys.path[:] = [*first, *libraries]
    importlib.invalidate_caches()
    sys.argv[:] = ["", *request["arguments"]]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the stream itself
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _set_threads(int(environment.get("OMP_NUM_THREADS", "1")))


def _set_threads(threads: int) -> None:
    """Have numerical libraries use so many threads; they were loaded for one.

    Raises:
        OSError: They do not, or the GPU driver has been started before the fork.
    """
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info, threadpool_limits

    np.random.seed()  # or all workers would draw the same numbers
    bad_fork = getattr(torch._C, "_cuda_isInBadFork", None)
    if bad_fork is not None and bad_fork():
        raise OSError("the GPU driver has been started in the template")
    if threads == 1:
        return
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    found = {torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())}
    if found != {threads}:
        raise OSError(f"{threads} threads were asked for, libraries use {sorted(found)}")


def main() -> None:
    """Import, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    there = selectors.DefaultSelector()
    there.register(control, selectors.EVENT_READ)
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    own_path = len(dict.fromkeys(map(os.path.abspath, entries))) + (not sys.flags.safe_path)
    for name in PRELOAD:
        if there.select(0) and not control.recv(1, socket.MSG_PEEK):
            return
        importlib.import_module(name)
    there.close()
    gc.collect()
    gc.freeze()  # the collector of a worker leaves these pages alone, so that they stay shared
    Template(control, own_path).serve()


if __name__ == "__main__":
    main()
