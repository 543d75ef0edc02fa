"""What a job leaves on disk: where its files lie, and how a result is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ziggurat.domain import Failure, FailureKind, Job
from ziggurat.events import measurements_from_plain, to_plain
from ziggurat.files import write_whole
from ziggurat.protocols import Progress
from ziggurat.stores import Store


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


def result_path(folder: Path, key: str) -> Path:
    """The file of a job's result in a run directory."""
    return folder / result_key(key)


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
    return Progress(
        done=True,
        seconds=float(plain["seconds"]) if seconds is None else seconds,
        measurements=measurements_from_plain(plain.get("measurements", [])),
        checkpoint=plain.get("checkpoint"),
        failure=Failure(FailureKind(failure["kind"]), failure["text"]) if failure else None,
        retry=bool(plain.get("retry", False)),
        payload=plain.get("payload"),
    )


def read_result(folder: Path, job: Job, seconds: float | None = None) -> Progress | None:
    """The result of a job in a run directory; None if there is none."""
    try:
        text = result_path(folder, job.key).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return from_plain(json.loads(text), job, seconds)
