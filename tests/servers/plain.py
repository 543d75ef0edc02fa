"""A scheduler of processes on this machine, for tests of what is built on schedulers.

It is as careless as a real one may be: jobs outlive whoever started them, it can be told to pre-empt a job,
to queue it again, to lose its machine, to be out of reach, or to refuse.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from ziggurat.errors import ZigguratError
from ziggurat.launchers.remote import LingeringSetting
from ziggurat.launchers.scheduler import Condition, Request, State
from ziggurat.processes import MARK


class Plain:
    """Processes, by pid; what it knows lies in files, so that another controller finds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "plain"
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.away = False
        self.refuses = ""
        self.asked = 0

    def check(self) -> None:
        return None

    def plan(self, request: Request) -> str:
        return json.dumps([*request.command])

    def submit(self, request: Request) -> str:
        if self.refuses:
            raise ZigguratError(self.refuses)
        self._note(request.name, None)
        return self.begin(request.name, request.command, request.environment)

    def begin(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> str:
        base = {k: v for k, v in os.environ.items() if k != MARK}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command], env=base | dict(environment), stdout=log, stderr=log, start_new_session=True
            )
        self.children[name] = process
        (self.folder / f"{name}.pid").write_text(str(process.pid))
        (self.folder / f"{name}.json").write_text(json.dumps([[*command], dict(environment)]))
        return name

    def _note(self, name: str, state: State | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.state"
        if state is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(state.value)

    def look_up(self, name: str) -> str | None:
        return name if (self.folder / f"{name}.pid").exists() else None

    def conditions(self, handles: Sequence[str]) -> Mapping[str, Condition]:
        self.asked += 1
        if self.away:
            raise ZigguratError("out of reach")
        return {h: self.condition(h) for h in handles}

    def condition(self, name: str) -> Condition:
        told = self.folder / f"{name}.state"
        if told.exists():
            return Condition(State(told.read_text()), "told to")
        pid = self.folder / f"{name}.pid"
        if not pid.exists():
            return Condition(State.GONE)
        if name in self.children:
            code = self.children[name].poll()
            if code is None:
                return Condition(State.RUNNING)
            return Condition(State.SUCCEEDED if code == 0 else State.FAILED, f"exit code {code}")
        alive = Path(f"/proc/{pid.read_text()}").exists()
        return Condition(State.RUNNING if alive else State.FAILED)

    def pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def cancel(self, handle: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid(handle), signal.SIGTERM)

    def kill(self, name: str, state: State | None) -> None:
        """End a job by force, and say so; None: say nothing of it yet."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid(name), signal.SIGKILL)
        if name in self.children:
            self.children[name].wait()
        self._note(name, state)

    def requeue(self, name: str) -> None:
        """Start a job again, as a scheduler does by itself."""
        command, environment = json.loads((self.folder / f"{name}.json").read_text())
        self._note(name, None)
        self.begin(name, command, environment)

    def last_words(self, handle: str) -> str:
        lines = (self.folder / f"{handle}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self, *, leave: bool = False) -> None:
        del leave

    def sweep(self) -> None:
        """End everything, for the end of a test."""
        for name, child in self.children.items():
            self.kill(name, None)
            child.wait()
        deadline = time.monotonic() + 5
        for pid in self.folder.glob("*.pid"):
            while Path(f"/proc/{pid.read_text()}").exists() and time.monotonic() < deadline:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(int(pid.read_text()), signal.SIGKILL)
                time.sleep(0.01)


class PlainSetting(LingeringSetting):
    """Its setting."""

    kind: Literal["plain"] = "plain"

    def scheduler(self, folder: Path) -> Plain:
        return Plain(folder)
