"""What a job leaves on disk: where its files lie, and how a result is read."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ziggurat import usage
from ziggurat.domain import Failure, FailureKind, Job
from ziggurat.events import measurements_from_plain, to_plain
from ziggurat.files import create_whole, write_whole
from ziggurat.protocols import Progress
from ziggurat.stores import ABSENT, ConflictError, Store, fault

NONSENSE = (ValueError, KeyError, TypeError, OverflowError)
"""What reading a file raises that does not hold what it should."""


@dataclass
class Shelf:
    """Small files of a run: in its directory, or in its store."""

    folder: Path
    store: Store | None = None

    def get(self, key: str) -> bytes | None:
        """What is written under a key, if anything."""
        if self.store is not None:
            found = self.store.get(key)
            return None if found is None else found[0]
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes) -> None:
        """Write something small, whole."""
        if self.store is not None:
            self.store.put(key, data)
        else:
            write_whole(self.folder / key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Write something small that is not there yet, once among all who try; False if it is there."""
        if self.store is None:
            return create_whole(self.folder / key, data)
        try:
            self.store.put(key, data, only_if=ABSENT)
        except ConflictError:
            return False
        return True

    def remove(self, key: str) -> None:
        """Remove something; what is not there is no error."""
        if self.store is not None:
            self.store.delete([key])
        else:
            (self.folder / key).unlink(missing_ok=True)


def home(key: str) -> str:
    """The folder of a job's files, relative to the run directory: that of its trial."""
    return f"trials/{key.partition('-')[0]}"


def result_key(key: str) -> str:
    """Where a job leaves its result, relative to the run directory; it is written whole, and last."""
    return f"{home(key)}/{key}.json"


def order_key(key: str) -> str:
    """Where a job for another machine is written down before it is submitted."""
    return f"{home(key)}/{key}.job.json"


def beat_key(key: str) -> str:
    """Where a job on another machine gives its signs of life."""
    return f"{home(key)}/{key}.beat.json"


def next_key(key: str) -> str:
    """Where the machine that did a job is told what it does next."""
    return f"{home(key)}/{key}.next.json"


def result_path(folder: Path, key: str) -> Path:
    """The file of a job's result in a run directory."""
    return folder / result_key(key)


def parsed(raw: bytes | None) -> dict[str, Any] | None:
    """What a job has written as JSON; None if there is nothing, or nothing that can be read."""
    try:
        plain = None if raw is None else json.loads(raw)
    except ValueError:
        return None
    return plain if isinstance(plain, dict) else None


def _own(checkpoint: object, job: Job) -> str | None:
    """The checkpoint that a job tells of, which lies in the folder of its trial and nowhere else."""
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, str) or fault(checkpoint) or not checkpoint.startswith(f"{home(job.key)}/"):
        raise ValueError(f"checkpoint {str(checkpoint)[:120]!r} is not in {home(job.key)}")
    return checkpoint


def _seconds(told: Any) -> float:  # noqa: ANN401 - whatever was read
    seconds = float(told)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{seconds} seconds")
    return seconds


def heard(plain: dict[str, Any] | None, job: Job) -> dict[str, Any] | None:
    """A beat that was read; None if it is of another job under the same key, or makes no sense."""
    if plain is None or plain.get("job") != to_plain(job):
        return None
    try:
        rows = [(int(step), found) for step, found in plain["rows"] if measurements_from_plain(found)]
        known: dict[str, Any] = {name: _seconds(plain[name]) for name in ("seconds", "lost_s", "utc")}
        checkpoint = _own(plain.get("checkpoint"), job)
        known["usage"] = usage.from_plain(plain.get("usage"))
        return {**plain, **known, "rows": rows, "starts": int(plain["starts"]), "checkpoint": checkpoint}
    except NONSENSE:
        return None


def from_plain(plain: dict[str, Any], job: Job, seconds: float | None = None) -> Progress | None:
    """A result that was read; None if it is of another job under the same key.

    Args:
        plain: The parsed file.
        job: The job whose result it should be.
        seconds: Worker seconds as the launcher has counted them; by default as the worker has.
    """
    if plain.get("job") != to_plain(job):
        return None
    failure = plain.get("failure")
    try:
        seconds = _seconds(plain["seconds"]) if seconds is None else seconds
        return Progress(
            done=True,
            seconds=seconds,
            measurements=measurements_from_plain(plain.get("measurements", [])),
            checkpoint=_own(plain.get("checkpoint"), job),
            failure=Failure(FailureKind(failure["kind"]), str(failure["text"])) if failure else None,
            retry=bool(plain.get("retry", False)),
            payload=plain.get("payload"),
            usage=usage.from_plain(plain.get("usage")),
        )
    except NONSENSE as error:
        text = f"its result makes no sense: {' '.join(str(error).split())[:200]}"
        return Progress(True, seconds or 0.0, failure=Failure(FailureKind.LOST, text))


def read_result(folder: Path, job: Job, seconds: float | None = None) -> Progress | None:
    """The result of a job in a run directory; None if there is none."""
    try:
        plain = parsed(result_path(folder, job.key).read_bytes())
    except FileNotFoundError:
        return None
    return None if plain is None else from_plain(plain, job, seconds)
