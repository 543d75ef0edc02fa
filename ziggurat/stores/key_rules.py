"""Keys of a store: which are allowed, and where they lie below a folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from ziggurat.stores.base import StoreError

RESERVED = ".ziggurat"
"""First part of the keys that stores keep for themselves."""
LONGEST = 800
LONGEST_PART = 255
"""Bytes in UTF-8; S3 takes 1024 for prefix and key together, a file system 255 for a name."""


def fault(key: str) -> str:
    """What is wrong with a key; empty if nothing is."""
    if any(unicodedata.category(letter).startswith("C") for letter in key) or "\\" in key:
        return "has a backslash, or a character that cannot be printed"
    size = len(key.encode())
    if not 0 < size <= LONGEST:
        return f"is {size} bytes long; from 1 to {LONGEST} are allowed"
    if key.startswith("/"):
        return "is an absolute path"
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return "has an empty part, '.' or '..'"
    if any(len(part.encode()) > LONGEST_PART for part in parts):
        return f"has a part of more than {LONGEST_PART} bytes"
    return f"begins with {RESERVED}, which stores keep for themselves" if parts[0] == RESERVED else ""


def checked(key: str) -> str:
    """The key itself.

    Raises:
        StoreError: It is not allowed.
    """
    if problem := fault(key):
        raise StoreError(f"key {key[:120]!r} {problem}; name files by a relative path below the run")
    return key


def below(folder: Path, key: str) -> Path:
    """Where a key lies below a folder, and never outside of it.

    Raises:
        StoreError: The key is not allowed.
    """
    return folder.joinpath(*checked(key).split("/"))
