"""A real PostgreSQL on loopback, in a temporary directory, for servers that keep their state in one.

PostgreSQL refuses to be run by root, so its programs are started as another user there. Mark tests that need
it `postgres`; where its programs are missing they are skipped. Import the fixture `postgres` (one for the
whole session) where it is needed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PATIENCE_S = 60.0
USER = "ziggurat"
PROGRAMS = ("initdb", "postgres", "createdb", "psql")
OTHERS = ("postgres", "nobody")
"""Users that the programs are started as, where these tests run as root."""


def programs() -> Path | None:
    """Folder of initdb and postgres; Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((f for f in reversed(folders) if all((f / name).exists() for name in PROGRAMS)), None)


def _owner() -> pwd.struct_passwd | None:
    """Who owns the server; None for the user of these tests."""
    if os.geteuid() != 0:
        return None
    for name in OTHERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError(f"PostgreSQL does not run as root, and there is no user {' or '.join(OTHERS)}")


@dataclass
class Postgres:
    """A running server.

    Attributes:
        port: Where it listens on loopback.
        folder: Holds its data and its log.
    """

    port: int
    folder: Path
    _process: subprocess.Popen[bytes]
    _bin: Path
    _known: set[str] = field(default_factory=set)

    def url(self, database: str, driver: str = "psycopg2") -> str:
        """Where SQLAlchemy finds a database, which is created at the first call."""
        if database not in self._known:
            self._client("createdb", database)
            self._known.add(database)
        return f"postgresql+{driver}://{USER}@127.0.0.1:{self.port}/{database}"

    def query(self, database: str, sql: str) -> str:
        """What a statement prints, without headings."""
        return self._client("psql", "--no-psqlrc", "--tuples-only", "--no-align", "-c", sql, database)

    def _client(self, program: str, *words: str) -> str:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--username", USER, "--no-password"]
        done = subprocess.run(
            [str(self._bin / program), *where, *words], capture_output=True, text=True, check=False,
            timeout=PATIENCE_S, cwd=self.folder,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.strip()}")
        return done.stdout.strip()

    def stop(self) -> None:
        """End the server without waiting for its clients, and remove what it has written."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # a fast shutdown
            try:
                self._process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def start(folder: Path) -> Postgres:
    """Start a server in a new directory below a folder, and wait until it answers.

    Raises:
        RuntimeError: It does not start here.
    """
    bin_ = programs()
    if bin_ is None:
        raise RuntimeError("needs PostgreSQL's programs (Debian: apt-get install postgresql)")
    owner = _owner()
    if owner is not None:  # a directory of pytest's is closed to others
        folder = Path(tempfile.gettempdir())
    home = Path(tempfile.mkdtemp(prefix="ziggurat-tests-postgres-", dir=folder))
    if owner is not None:
        os.chown(home, owner.pw_uid, owner.pw_gid)
    _run([bin_ / "initdb", "-D", home / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C",
          "--no-sync"], home, owner)  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "max_connections": 200,
        "shared_buffers": "32MB",
    }
    words = [str(bin_ / "postgres"), "-D", str(home / "data")]
    words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            words,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=home,
            env=_environment(),
            **_as(owner),
        )
    server = Postgres(port, home, process, bin_)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            server.query("postgres", "select 1")
        except RuntimeError:
            if time.monotonic() > deadline or process.poll() is not None:
                last = (home / "log").read_text(errors="replace").splitlines()[-3:]
                server.stop()
                raise RuntimeError(f"PostgreSQL does not start here: {last}") from None
            time.sleep(0.05)
        else:
            return server


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _as(owner: pwd.struct_passwd | None) -> dict[str, object]:
    if owner is None:
        return {"start_new_session": True}
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [], "start_new_session": True}


def _run(words: Sequence[str | Path], cwd: Path, owner: pwd.struct_passwd | None) -> None:
    done = subprocess.run(
        [str(w) for w in words], cwd=cwd, env=_environment(), capture_output=True, text=True,
        check=False, timeout=PATIENCE_S, **_as(owner),
    )  # fmt: skip
    if done.returncode != 0:
        shutil.rmtree(cwd, ignore_errors=True)
        raise RuntimeError(f"PostgreSQL does not start here: {done.stderr.strip().splitlines()[-1:]}")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One PostgreSQL for all tests of a process."""
    try:
        server = start(tmp_path_factory.mktemp("postgres"))
    except RuntimeError as problem:
        pytest.skip(str(problem))
    try:
        yield server
    finally:
        server.stop()
