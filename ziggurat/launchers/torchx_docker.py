"""Jobs as containers of this machine, through TorchX's `local_docker`.

A container sees the run directory under its own path. Containers outlive their controller, and another one
finds them by their label; ended ones are kept for what they have printed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ziggurat.errors import SpecError, ZigguratError
from ziggurat.launchers.scheduler import OVER, Condition, Request, State
from ziggurat.launchers.torchx_app import LABEL, SUFFIX, app_of, as_yaml, role_of, shown
from ziggurat.launchers.torchx_words import last_line

if TYPE_CHECKING:
    from ziggurat.launchers.torchx import TorchX

PREFIX = "local_docker:"
LAST_LINES = 30
LAST_GRACE_S = 10
_APP = "torchx.pytorch.org/app-id"
_WAITING = frozenset({"created", "restarting", "paused"})
_RUNNING = frozenset({"running", "removing"})


class DockerScheduler:
    """Containers of one Docker engine."""

    def __init__(self, setting: TorchX, folder: Path) -> None:
        """Nothing is reached for yet."""
        from torchx.schedulers import docker_scheduler

        self._setting = setting
        self._folder = folder
        self._torchx = docker_scheduler.create_scheduler("ziggurat")
        self._stop_by: dict[str, float] = {}
        self._known: Any = None

    @property
    def _client(self) -> Any:  # noqa: ANN401 - Docker's library has no types
        if self._known is None:
            import docker

            with _told():
                self._known = docker.from_env()
        return self._known

    def check(self) -> None:
        """Whether Docker answers and has the image, here or in its registry.

        Raises:
            SpecError: It does not.
        """
        import docker

        try:
            with _told():
                self._client.ping()
        except ZigguratError as error:
            raise SpecError(str(error)) from None
        image = self._setting.image
        try:
            self._client.images.get(image)
        except docker.errors.NotFound:
            try:
                self._client.images.get_registry_data(image)
            except docker.errors.APIError as error:
                raise SpecError(
                    f"launcher.image is '{image}', which Docker neither has nor can pull "
                    f"({error.explanation}); build it, correct the name, or log in to its registry"
                ) from None
        except docker.errors.APIError as error:
            raise SpecError(f"launcher.image is '{image}': {error.explanation}") from None

    def plan(self, request: Request) -> str:
        """The containers that Docker would be asked for, without the random end of their names."""
        job = self._dry_run(request).request
        container = job.containers[0]
        settings = {**container.kwargs, "environment": shown(container.kwargs["environment"])}
        plain = {
            "image": container.image,
            "command": container.command,
            **{k: [dict(m) for m in v] if isinstance(v, list) else v for k, v in settings.items()},
        }
        name = str(container.kwargs["name"])
        readable = as_yaml(plain).replace(job.app_id, f"{request.name}-{SUFFIX}")
        return readable.replace(name, f"{request.name[-20:]}-{SUFFIX}-job-0")

    def _dry_run(self, request: Request) -> Any:  # noqa: ANN401
        """TorchX's request, with what makes the job one of this run and of this user."""
        from torchx import specs

        here = str(self._folder.absolute())
        role = role_of(request, self._setting.image or "", self._setting.mounts)
        role.mounts.append(specs.BindMount(src_path=here, dst_path=here))
        info = self._torchx.submit_dryrun(app_of(request.name, role), dict(self._setting.options()))
        for container in info.request.containers:
            container.kwargs["labels"][LABEL] = request.name
            # a program that is process 1 itself would not get signals it has no handler for
            container.kwargs["init"] = True
            if os.getuid():  # else all that it writes would be root's
                container.kwargs["user"] = f"{os.getuid()}:{os.getgid()}"
                container.kwargs["environment"].setdefault("HOME", "/tmp")  # noqa: S108 - the container's own
        return info

    def submit(self, request: Request) -> str:
        """Have Docker pull the image if it must, and start a container.

        Raises:
            ZigguratError: It was refused.
        """
        with _told():
            return PREFIX + str(self._torchx.schedule(self._dry_run(request)))

    def look_up(self, name: str) -> str | None:
        """The container with this name in its label that was made last."""
        with _told():
            found = self._listed(f"{LABEL}={name}")
        newest = max(found, key=lambda c: c["Created"], default=None)
        return None if newest is None else PREFIX + newest["Labels"][_APP]

    def _listed(self, label: str) -> list[dict[str, Any]]:
        return list(self._client.api.containers(all=True, filters={"label": label}))

    def conditions(self, handles: Sequence[str]) -> Mapping[str, Condition]:
        """Where containers stand: one question for all, and one more for each that has ended."""
        if not handles:
            return {}
        with _told():
            known = {PREFIX + c["Labels"][_APP]: c for c in self._listed(LABEL)}
            gone = Condition(State.GONE, "Docker does not know the container (any more)")
            found = {h: self._condition(known[h]) if h in known else gone for h in handles}
            self._press(found, known)
        return found

    def _condition(self, listed: Mapping[str, Any]) -> Condition:
        state = str(listed["State"])
        if state in _WAITING:
            return Condition(State.PENDING, state)
        if state in _RUNNING:
            return Condition(State.RUNNING, state)
        inside = self._client.api.inspect_container(listed["Id"])["State"]
        cancelled = PREFIX + listed["Labels"][_APP] in self._stop_by
        return ended(inside, cancelled=cancelled)

    def _press(self, found: Mapping[str, Condition], known: Mapping[str, Mapping[str, Any]]) -> None:
        """End cancelled containers whose grace is over."""
        for handle, condition in found.items():
            if condition.state not in OVER and time.monotonic() >= self._stop_by.get(handle, float("inf")):
                self._kill(known[handle]["Id"], "SIGKILL")

    def _kill(self, identity: str, name: str) -> None:
        import docker

        with contextlib.suppress(docker.errors.NotFound, docker.errors.APIError):
            self._client.api.kill(identity, signal=name)

    def cancel(self, handle: str) -> None:
        """SIGTERM now, SIGKILL after the grace."""
        with _told():
            for listed in self._listed(f"{_APP}={handle.removeprefix(PREFIX)}"):
                if listed["State"] not in _WAITING | _RUNNING:
                    continue
                late = time.monotonic() >= self._stop_by.get(handle, float("inf"))
                waits = listed["State"] != "running"
                self._kill(listed["Id"], "SIGKILL" if late or waits else "SIGTERM")
                self._stop_by.setdefault(handle, time.monotonic() + self._setting.grace_s)

    def last_words(self, handle: str) -> str:
        """The last line that a container has printed."""
        with _told():
            for listed in self._listed(f"{_APP}={handle.removeprefix(PREFIX)}"):
                raw = self._client.api.logs(listed["Id"], tail=LAST_LINES)
                return last_line(line.strip() for line in raw.decode("utf-8", "replace").splitlines())
        return ""

    def close(self, *, leave: bool = False) -> None:
        """End cancelled containers, without the rest of their grace; all others go on."""
        if self._known is None:
            return
        with contextlib.suppress(ZigguratError), _told():
            for handle in self._stop_by if not leave else ():
                for listed in self._listed(f"{_APP}={handle.removeprefix(PREFIX)}"):
                    if listed["State"] == "running":
                        grace = int(min(self._setting.grace_s, LAST_GRACE_S))
                        self._client.api.stop(listed["Id"], timeout=grace)
        self._known.close()
        self._known = None


def ended(inside: Mapping[str, Any], *, cancelled: bool) -> Condition:
    """What the end of a container means.

    Args:
        inside: `State` of Docker's description of it.
        cancelled: Whether it was asked to stop.
    """
    code, error = int(inside.get("ExitCode", 0)), str(inside.get("Error", ""))
    words = "; ".join(w for w in (f"exit code {code}", error) if w)
    if inside.get("OOMKilled"):
        return Condition(State.OUT_OF_MEMORY, f"ended by the kernel for its memory; {words}")
    if code == 0:
        return Condition(State.SUCCEEDED, words)
    return Condition(State.CANCELLED if cancelled else State.FAILED, words)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Docker's errors in one line."""
    import docker
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        raise ZigguratError(f"Docker refuses: {error.explanation or error}") from None
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise ZigguratError(
            f"Docker does not answer ({_inner(error)}); start its service, let this user into the "
            f"group docker, or set DOCKER_HOST"
        ) from None


def _inner(error: BaseException) -> str:
    """The innermost words of a chain of errors."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)
