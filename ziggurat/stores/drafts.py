"""Files of any size that are there whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

CHUNK = 1 << 20


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, where the file system can do that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def draft(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file to write into, under a name of its own; removed at the end unless it was moved away.

    Args:
        folder: Where it is made; the folder is made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = folder / f".{uuid.uuid4().hex}.part"
    try:
        with name.open("xb") as file:
            yield file, name
    finally:
        name.unlink(missing_ok=True)


def flush(file: IO[bytes]) -> None:
    """Have what was written on disk."""
    file.flush()
    os.fsync(file.fileno())


def copy(source: IO[bytes], target: Callable[[bytes], object] | None = None) -> str:
    """Read a file to its end, hand its bytes on, and return their SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        if target is not None:
            target(chunk)
    return digest.hexdigest()
