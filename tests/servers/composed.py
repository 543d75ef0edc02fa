"""The services of `infra/compose.yaml` without Docker: the same commands, variables, names, ports, rights.

All of them share a network of their own, in which each name is this machine, so addresses and ports are those
of the file. A service of our own image runs as the image's user, without capabilities, on a file system that
it cannot write to but for its volumes and its scratch space, with nothing in its environment but what image
and file say. PostgreSQL and SeaweedFS are those of this machine; what their images' entry points do is done
here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.servers import postgres
from tests.servers.seaweed import program as weed

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "infra/compose.yaml"
USER = "10001"
HOME = "/home/ziggurat"
PATIENCE_S = 300.0
PROGRAMS = ("unshare", "nsenter", "setpriv", "mount", "ip", "wget")
_VARIABLE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")


def why_not() -> str | None:
    """Why this cannot be done here; None if it can."""
    missing = [p for p in PROGRAMS if shutil.which(p) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if os.geteuid() != 0:
        return "needs root, to take rights away from what it starts"
    if postgres.programs() is None or weed() is None:
        return "needs PostgreSQL and SeaweedFS"
    tried = subprocess.run(["unshare", "-n", "-m", "-p", "-f", "--mount-proc", "true"], check=False)
    return None if tried.returncode == 0 else "needs namespaces of its own"


def filled_in(plain: Any, given: Mapping[str, str]) -> Any:
    """Values with `${NAME}` replaced as Compose does it."""
    if isinstance(plain, Mapping):
        return {k: filled_in(v, given) for k, v in plain.items()}
    if isinstance(plain, list):
        return [filled_in(v, given) for v in plain]
    return _VARIABLE.sub(lambda m: _value(m, given), plain) if isinstance(plain, str) else plain


def _value(match: re.Match[str], given: Mapping[str, str]) -> str:
    name, mark, rest = match.groups()
    if given.get(name):
        return given[name]
    if mark == "?":
        raise ValueError(rest)
    return rest or ""


def read(given: Mapping[str, str]) -> dict[str, Any]:
    """The file as Compose sees it, with the variables of `.env`."""
    plain: dict[str, Any] = filled_in(yaml.safe_load(COMPOSE.read_text(encoding="utf-8")), given)
    for service in plain["services"].values():
        found = service.get("environment", {}).items()
        # a name without a value is passed on, if there is one
        service["environment"] = {
            k: given[k] if v is None else v for k, v in found if v is not None or k in given
        }
    return plain


def of_the_image() -> dict[str, str]:
    """The variables that the Dockerfile sets."""
    text = (ROOT / "infra/Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    last = re.findall(r"^ENV (.+)$", text, re.MULTILINE)[-1]
    found = dict(pair.split("=", 1) for pair in shlex.split(last))
    # where Python and the code lie on this machine
    return found | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}


def _done(words: Sequence[str], cwd: Path, text: str = "") -> None:
    """Run something that ends well."""
    done = subprocess.run(
        words, cwd=cwd, input=text, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr


class Composed:
    """Services that run until `close`."""

    def __init__(self, given: Mapping[str, str]) -> None:
        """Make a place and a network for them; nothing runs yet."""
        self.folder = Path(tempfile.mkdtemp(prefix="ziggurat-tests-compose-"))
        self.folder.chmod(0o755)
        self.file = read(given)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        hosts = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *self.file["services"]))
        (self.folder / "hosts").write_text(hosts, encoding="utf-8")
        known = f"root:x:0:0::/root:/bin/sh\nziggurat:x:{USER}:{USER}::{HOME}:/bin/sh\n"
        (self.folder / "passwd").write_text(known, encoding="utf-8")
        (self.folder / "bin").mkdir()
        command = self.folder / "bin/ziggurat"
        command.write_text('#!/bin/sh\nexec python -m flows.cli "$@"\n', encoding="utf-8")
        command.chmod(0o755)
        words = ["unshare", "-n", "bash", "-c", "ip link set lo up && exec sleep 3600"]
        self._network = subprocess.Popen(words, stdin=subprocess.DEVNULL)

    def up(self) -> None:
        """Start all services in the order that they ask for.

        Raises:
            AssertionError: One does not become what the others wait for.
        """
        waiting = dict(self.file["services"])
        done: list[str] = []
        while waiting:
            name = next(n for n, s in waiting.items() if set(s.get("depends_on", {})) <= set(done))
            for other, wanted in waiting.pop(name).get("depends_on", {}).items():
                self.wait(other, wanted["condition"])
            self._start(name)
            done.append(name)
        for name, service in self.file["services"].items():
            if "healthcheck" in service:
                self.wait(name, "service_healthy")

    def _start(self, name: str) -> None:
        words = {"postgres": self._postgres, "store": self._store}.get(name, lambda: self.words(name))()
        with (self.folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/"
            )

    def _inside(self) -> list[str]:
        """Enter the network."""
        return ["nsenter", f"--net=/proc/{self._network.pid}/ns/net"]

    def words(self, name: str, command: Sequence[str] | None = None) -> list[str]:
        """The command line of a service of our own image, or of another command in such a container."""
        service = self.file["services"][name]
        command = [*service["entrypoint"], *service["command"]] if command is None else command
        environment = {**of_the_image(), **service["environment"]}
        environment["PATH"] = f"{self.folder}/bin:{environment['PATH']}"
        return self._contained(service, command, environment)

    def _contained(
        self, service: Mapping[str, Any], command: Sequence[str], environment: Mapping[str, str]
    ) -> list[str]:
        """The command line that runs something as a service is run."""
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        lines = ["set -e", *self._mounts(service)]
        rights = ["--reuid", USER, "--regid", USER, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
        rights += ["--pdeathsig", "KILL"]  # what --kill-child has set is forgotten with the change of user
        pairs = [f"{key}={value}" for key, value in environment.items()]
        lines.append("exec " + shlex.join(["setpriv", *rights, "env", "-i", *pairs, *command]))
        alone = ["unshare", "-m", "-p", "-f", "--mount-proc", "--kill-child"]
        return [*self._inside(), *alone, "bash", "-c", "\n".join(lines)]

    def _mounts(self, service: Mapping[str, Any]) -> list[str]:
        """Shell lines that make the file system of a container out of this machine's."""
        kept = [Path(sys.prefix), Path(sys.base_prefix), ROOT, self.folder]
        kept = [p for p in dict.fromkeys(kept) if str(p).startswith(("/tmp/", "/home/", "/root/"))]
        lines = [f"mount --bind {self.folder}/{name} /etc/{name}" for name in ("hosts", "passwd")]
        lines.append("mount -t tmpfs tmpfs /mnt")
        lines += [f"mkdir /mnt/{i} && mount --rbind {path} /mnt/{i}" for i, path in enumerate(kept)]
        lines += [f"mount -t tmpfs -o mode=755 tmpfs {path}" for path in ("/home", "/root")]
        # as Docker mounts them
        lines += [f"mount -t tmpfs -o noexec,nosuid,nodev,mode=1777 tmpfs {p}" for p in service["tmpfs"]]
        lines += [f"mkdir -p {path} && mount --rbind /mnt/{i} {path}" for i, path in enumerate(kept)]
        lines.append(f"mkdir -p {HOME} && ln -s {ROOT}/examples {HOME}/examples")
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            lines.append(f"mkdir -p {target} && mount --bind {self.volume(source)} {target}")
            lines += [f"mount -o remount,bind,ro {target}"] if mode == ["ro"] else []
        lines += [f"mount -o remount,bind,ro {p}" for p in kept if p != self.folder]
        return [
            *lines,
            *(f"mount -o remount,bind,ro {path}" for path in ("/home", "/root", "/")),
            f"cd {HOME}",
        ]

    def volume(self, source: str) -> Path:
        """Where a volume lies: a directory of the file's, or one that is made for its name."""
        if source.startswith((".", "/")):
            return (COMPOSE.parent / source).resolve()
        path = self.folder / "volumes" / source
        if not path.exists():
            path.mkdir(parents=True)
            os.chown(path, int(USER), int(USER))
        return path

    def _store(self) -> list[str]:
        """SeaweedFS, with its command as it stands."""
        program, service = weed(), self.file["services"]["store"]
        assert program is not None
        data = f"-dir={self.volume('store')}"
        words = [data if word == "-dir=/data" else word for word in service["command"]]
        return self._contained({**service, "volumes": []}, [program, *words], service["environment"])

    def _postgres(self) -> list[str]:
        """PostgreSQL, made ready as its image's entry point does."""
        environment = self.file["services"]["postgres"]["environment"]
        (config,) = self.file["configs"].values()
        bin_, home, owner = postgres.programs(), self.volume("postgres"), postgres._owner()
        assert owner is not None, "this runs as root"
        user = ["setpriv", "--reuid", str(owner.pw_uid), "--regid", str(owner.pw_gid), "--clear-groups"]
        secret = home / "password"
        secret.write_text(environment["POSTGRES_PASSWORD"], encoding="utf-8")
        for path in (home, secret):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        made = [f"{bin_}/initdb", "-D", f"{home}/data", "-U", environment["POSTGRES_USER"], "--no-sync"]
        _done([*user, *made, "-A", "scram-sha-256", f"--pwfile={secret}"], home)
        single = [*user, f"{bin_}/postgres", "--single", "-D", f"{home}/data", "-c", "fsync=off", "postgres"]
        create = f"CREATE DATABASE {environment['POSTGRES_DB']};\n{config['content']}\n"
        _done(single, home, create)
        options = [
            "-c",
            f"unix_socket_directories={home}",
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
        ]
        return [*self._inside(), *user, f"{bin_}/postgres", "-D", f"{home}/data", *options]

    def wait(self, name: str, condition: str) -> None:
        """Wait until a service is what another one needs it to be."""
        deadline = time.monotonic() + PATIENCE_S
        process = self._running[name]
        while condition == "service_completed_successfully" or not self.healthy(name):
            code = process.poll()
            if condition == "service_completed_successfully" and code == 0:
                return
            assert code is None, f"{name} ended with {code}: {self.log(name)}"
            assert time.monotonic() < deadline, f"{name}: not {condition}: {self.log(name)}"
            time.sleep(0.3)

    def healthy(self, name: str) -> bool:
        """Whether a service's own check says so."""
        check = self.file["services"][name]["healthcheck"]
        kind, *command = check["test"]
        assert kind == "CMD"
        if name == "postgres":
            command = [*self._inside(), f"{postgres.programs()}/{command[0]}", *command[1:]]
        elif name == "store":
            command = [*self._inside(), *command]
        else:
            command = self.words(name, command)
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        return done.returncode == 0

    def execute(
        self, name: str, *command: str, timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """What `docker compose exec` does."""
        return subprocess.run(
            self.words(name, command), capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def log(self, name: str) -> str:
        """The end of what a service has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def running(self) -> set[str]:
        """The services that have not ended."""
        return {name for name, process in self._running.items() if process.poll() is None}

    def close(self) -> None:
        """End everything, the last first, and remove what was written."""
        for process in [*reversed(self._running.values()), self._network]:
            process.kill()  # and with it everything that it has started
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
