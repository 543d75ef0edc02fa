"""What a store must be able to do, whatever keeps the bytes.

A key is a relative POSIX path below the run, such as `trials/00003/rung-0.ckpt`. What is written under a key
is there whole or not at all, and a reader never sees half of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ziggurat.errors import ZigguratError

STALE_S = 86_400.0
"""Seconds after which nobody is writing any more."""
ABSENT = ""
"""The version of what is not there; `put(..., only_if=ABSENT)` creates and never overwrites."""


class StoreError(ZigguratError):
    """A store cannot be reached, read or written; the text says why and what to do."""


class ConflictError(StoreError):
    """Somebody else has written under a key first."""


@dataclass(frozen=True)
class Entry:
    """One thing in a store.

    Attributes:
        key: Its key.
        size: Bytes.
        version: Changes whenever the content does.
    """

    key: str
    size: int
    version: str


class Store(Protocol):
    """Keeps the artifacts of one run."""

    @property
    def url(self) -> str:
        """Where it is, as `open_url` takes it; without secrets."""

    def check(self) -> None:
        """Write, read back and delete something small.

        Raises:
            StoreError: That is not possible; one line with the cure.
        """

    def put(self, key: str, data: bytes, *, only_if: str | None = None) -> str:
        """Write a small thing and return its version.

        Args:
            key: Where.
            data: What.
            only_if: The version that must be there now; `ABSENT` if nothing may be.

        Raises:
            ConflictError: Something else is there.
            StoreError: It cannot be written.
        """

    def get(self, key: str) -> tuple[bytes, str] | None:
        """A small thing and its version; None if it is not there."""

    def upload(self, path: Path, key: str) -> None:
        """Write a file of any size, with a checksum that is verified."""

    def download(self, key: str, path: Path) -> bool:
        """Read into a file, which is there whole or not at all; False if the key is not there.

        Raises:
            StoreError: It cannot be read, or does not have the checksum it was written with.
        """

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """What lies under keys with a prefix, in the order of the keys."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove things; what is not there is no error."""

    def utc(self) -> float | None:
        """The time by the clock of whatever keeps the bytes, to a second; None if it does not tell."""

    def tidy(self, older_s: float = STALE_S) -> int:
        """Remove what killed processes have left half-written so long ago; how many things that were."""
