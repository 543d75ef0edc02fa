"""What the preflight finds out about what surrounds a run: disk, tracking, alerts, prices, the user's code.

None of this needs a worker, and most of it waits for others; so it is asked side by side (`together`).
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ziggurat import __version__
from ziggurat import prices as table_prices
from ziggurat.checks import Check, Findings
from ziggurat.listeners.mlflow_client import Place, connect, place_of
from ziggurat.listeners.tracking import DATABASES
from ziggurat.scripted import script_of
from ziggurat.spec import Spec

FREE_MB = 200
"""Space without which nothing is begun."""
PATIENCE_S = 40.0
"""Seconds after which a check is given up that waits for somebody."""
DATABASE_S = 10
GIT_S = 5.0
LIBRARIES = ("torch", "pytorch-lightning", "ax-platform", "botorch", "numpy", "mlflow", "prefect")
FORBIDDEN = ("401", "403", "PERMISSION_DENIED", "UNAUTHENTICATED", "password authentication", "Access denied")
"""How servers say that they know nobody by these credentials."""
LATER = "until then events are kept and replayed"

Look = Callable[[], Sequence[Check]]


class Together:
    """Checks that are being made side by side, each in a thread of its own."""

    def __init__(self, looks: Mapping[str, Look]) -> None:
        """Begin with all of them."""
        self._pool = futures.ThreadPoolExecutor(
            max_workers=max(1, len(looks)), thread_name_prefix="preflight"
        )
        self._deadline = time.monotonic() + PATIENCE_S
        self._asked = {name: self._pool.submit(_timed, name, look) for name, look in looks.items()}

    def found(self) -> list[Check]:
        """All that has been found, in the order in which it was asked; what takes too long is a warning."""
        return [check for name, asked in self._asked.items() for check in self._answer(name, asked)]

    def _answer(self, name: str, asked: futures.Future[list[Check]]) -> list[Check]:
        try:
            return asked.result(max(0.0, self._deadline - time.monotonic()))
        except futures.TimeoutError:
            text = f"no answer within {PATIENCE_S:g} s"
            return [Check(name, None, text, "see whether it can be reached from here", PATIENCE_S)]

    def close(self) -> None:
        """Wait for nobody any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def together(looks: Mapping[str, Look]) -> Iterator[Together]:
    """Look at several things while the caller looks at others."""
    asked = Together(looks)
    try:
        yield asked
    finally:
        asked.close()


def _timed(name: str, look: Look) -> list[Check]:
    """What a look finds, with the time that it took; an error of it is a failed check."""
    found = Findings()
    with found.step(name):
        found.checks += look()
    return found.checks


def disk(folder: Path, checkpoint_mb: float = 0.0, models: int = 0) -> Check:
    """Whether there is room for checkpoints in a run directory.

    Args:
        folder: The run directory.
        checkpoint_mb: Size of the largest checkpoint; 0 where nobody knows.
        models: How many may lie there at the same time.
    """
    free = shutil.disk_usage(folder).free / 1e6
    need = checkpoint_mb * models
    text = f"{free:,.0f} MB free for checkpoints in {folder}"
    if free <= FREE_MB:
        return Check("disk", ok=False, text=text, cure=f"make at least {FREE_MB} MB free")
    if need:
        text += f", at most {need:,.0f} MB needed ({models:,} of up to {checkpoint_mb:,.3g} MB)"
    if need > free:
        cure = "make room, or keep fewer with checkpoints.keep"
        return Check("disk", None, text, cure)
    return Check("disk", ok=True, text=text)


def alerts(spec: Spec) -> list[Check]:
    """Whether every channel is one that Apprise can use."""
    spec.alerts.check()
    if not spec.alerts.addresses():
        return [Check("alerts", ok=True, text="no channel: alerts are kept in the journal and the report")]
    return [Check("alerts", ok=True, text=f"{len(spec.alerts.addresses())} channels can be used")]


def tracking(spec: Spec, runs_dir: Path) -> list[Check]:
    """Whether MLflow answers a question of ours; never more than a warning, as nothing depends on it."""
    if not spec.tracking.enabled:
        return [Check("tracking", ok=True, text="switched off")]
    place = place_of(spec.tracking, runs_dir, spec.name)
    scheme = urlsplit(place.uri).scheme.partition("+")[0]
    try:
        text = _database(place) if scheme in DATABASES else _server(place)
    except Exception as error:  # noqa: BLE001 - whatever MLflow and its drivers raise
        return [untracked(place, error)]
    return [Check("tracking", ok=True, text=text)]


def untracked(place: Place, error: Exception) -> Check:
    """What is said of an MLflow that does not answer, or not us."""
    told, last = " ".join(str(error).split()), cause(error)
    password = urlsplit(place.uri).password
    if password:
        told, last = told.replace(password, "***"), last.replace(password, "***")
    if any(word in told for word in FORBIDDEN):
        text = f"tracking.uri: {place.shown} refuses the credentials ({told[:160]})"
        cure = "set MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN"
        if urlsplit(place.uri).scheme.partition("+")[0] in DATABASES:
            cure = "give user and password in tracking.uri, the password as ${NAME}"
        return Check("tracking", None, text, f"{cure}; {LATER}")
    if "is deleted" in told:
        return Check("tracking", None, f"tracking.experiment: {told[:200]}", LATER)
    text = f"tracking.uri: {place.shown} does not answer ({last})"
    if last.startswith("ModuleNotFoundError"):
        cure = "install the driver, or name another in tracking.uri, such as postgresql+psycopg2://"
        return Check("tracking", None, text, f"{cure}; {LATER}")
    return Check("tracking", None, text, f"start the server or correct the address; {LATER}")


def cause(error: BaseException) -> str:
    """What began the chain of errors that ends with this one, in a few words."""
    first = error
    while (before := first.__cause__ or first.__context__) is not None:
        first = before
    words = " ".join(str(first).split()) or str(error)
    return f"{type(first).__name__}: {words[:160]}"


def _server(place: Place) -> str:
    """Ask a server for the experiment, by MLflow's own client."""
    found = connect(place).get_experiment_by_name(place.experiment)
    if found is None:
        return f"MLflow at {place.shown} answers; experiment '{place.experiment}' will be made"
    if found.lifecycle_stage != "active":
        raise ConnectionError(
            f"experiment '{place.experiment}' is deleted; restore it or choose another tracking.experiment"
        )
    return f"MLflow at {place.shown} answers; experiment '{place.experiment}' is there"


def _database(place: Place) -> str:
    """Open a database that MLflow uses without a server; nothing is written, so a new one is not made."""
    parts = urlsplit(place.uri)
    kind = parts.scheme.partition("+")[0]
    if kind == "sqlite":
        file = Path(parts.path[1:])
        if not file.exists():
            folder = _existing(file)
            if not folder.is_dir() or not os.access(folder, os.W_OK):
                raise NotADirectoryError(f"{folder} is no folder that can be written")
            return f"MLflow in a new sqlite database, {file}"
    from sqlalchemy import create_engine, inspect

    seconds = {"sqlite": "timeout", "postgresql": "connect_timeout", "mysql": "connect_timeout"}.get(kind)
    engine = create_engine(place.uri, connect_args={} if seconds is None else {seconds: DATABASE_S})
    try:
        ours = inspect(engine).has_table("experiments")
    finally:
        engine.dispose()
    what = "with MLflow's tables" if ours else "that is empty"
    return f"MLflow in a {kind} database {what}"


def _existing(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    return next(p for p in path.absolute().parents if p.exists())


def prices(spec: Spec) -> list[Check]:
    """Whether the prices that money is counted by are young enough."""
    return table_prices.checks(spec, datetime.datetime.now(tz=datetime.UTC).date())


def reproducible(spec: Spec, folder: Path) -> tuple[list[Check], dict[str, Any]]:
    """Versions, seed and commit on which the numbers depend, as a check and as facts."""
    facts: dict[str, Any] = {"python": platform.python_version(), "ziggurat": __version__, "seed": spec.seed}
    for name in LIBRARIES:
        try:
            facts[f"version.{name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    shown = f"seed {spec.seed}, ziggurat {__version__}, torch {facts.get('version.torch', 'missing')}"
    source = source_of(spec, folder)
    if source is None:
        return [Check("reproducibility", ok=True, text=f"{shown}; all code is Ziggurat's")], facts
    commit, changed = git(source)
    facts |= {"source": str(source), "commit": commit, "changed": changed}
    if not commit:
        text = f"{shown}; {source} is in no git repository, so nothing tells which code was run"
        return [Check("reproducibility", None, text, "commit it; the commit is then noted")], facts
    if changed:
        text = f"{shown}; {source} differs from commit {commit[:12]}"
        return [
            Check("reproducibility", None, text, "commit it, so that the commit tells what was run")
        ], facts
    return [Check("reproducibility", ok=True, text=f"{shown}; {source} is at commit {commit[:12]}")], facts


def source_of(spec: Spec, folder: Path) -> Path | None:
    """The user's own code, as far as the spec tells where it is: a script, or the module of a function."""
    script = script_of(spec)
    if script is not None:
        words = [folder / word for word in map(str, script.command) if "$" not in word]
        return next((path for path in words if path.suffix and path.is_file()), None)
    for part in (spec.space, spec.data):
        name = str(getattr(part, "function", "")).partition(":")[0]
        path = folder / f"{name.replace('.', '/')}.py"
        if name and path.is_file():
            return path
    return None


def git(path: Path) -> tuple[str, bool]:
    """The commit that a file is at, empty without one, and whether the file differs from it."""
    try:
        commit = _asked("git", "-C", str(path.parent), "log", "-1", "--format=%H", "--", path.name)
        changed = _asked("git", "-C", str(path.parent), "status", "--porcelain", "--", path.name)
        head = commit and _asked("git", "-C", str(path.parent), "rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return "", False
    return head, bool(changed)


def _asked(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_S, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
