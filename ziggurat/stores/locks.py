"""A lock between processes, on one machine or on several that share a file system."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ziggurat.stores.base import StoreError

LOCK_S = 60.0
"""Seconds within which one gets a turn; each takes a few milliseconds."""


@contextmanager
def held(path: Path, where: str) -> Iterator[None]:
    """Hold a lock; a process that ends gives it back.

    Args:
        path: The file that stands for it; made if it is missing.
        where: What it belongs to, for the message.

    Raises:
        StoreError: Others have held it all the time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline, pause = time.monotonic() + LOCK_S, 0.001
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{where}: another process has held its lock for {LOCK_S:g} s; end it, or wait"
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, 0.02)
        yield
