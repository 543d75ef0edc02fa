"""A store in a directory, such as one on a file system that all machines share.

The files lie under their keys as they are. Drafts, checksums of what was uploaded, and the lock under which
a draft takes its place lie in a folder of their own, so that no reader ever meets them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from pydantic import Field, field_validator

from ziggurat.files import write_whole
from ziggurat.setting import Setting
from ziggurat.stores import drafts, faults, key_rules, locks
from ziggurat.stores.base import ABSENT, STALE_S, ConflictError, Entry, StoreError

TRIES = 4
"""How often a file is read that others keep replacing."""
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_COARSE_NS = 2_000_000_000
"""Beyond the resolution of any file system's times."""


class DirectoryStore(Setting):
    """A directory, such as one on a file system that all machines share."""

    kind: Literal["directory"] = "directory"
    path: Path = Field(description="The directory; every run has a folder of its own in it.")

    @field_validator("path")
    @classmethod
    def _named(cls, path: Path) -> Path:
        if not path.name:
            raise ValueError(f"path is '{path}'; name a directory, such as /shared/ziggurat")
        return path

    def open(self, run_id: str) -> Directory:
        """The store of one run."""
        return Directory(self._root() / key_rules.checked(run_id))

    def url(self, run_id: str) -> str:
        """Where the store of a run is, as `open_url` takes it."""
        return self.open(run_id).url

    def runs(self) -> list[str]:
        """Names of the runs that are there, in order."""
        return Directory(self._root()).folders()

    def _root(self) -> Path:
        return self.path.expanduser().absolute()


class Directory:
    """The store of one run in a directory."""

    def __init__(self, root: Path) -> None:
        """Nothing is touched yet."""
        self.root = root
        self._own = root / key_rules.RESERVED

    @property
    def url(self) -> str:
        """Where it is, as `open_url` takes it."""
        return f"file://{quote(str(self.root))}"

    def __str__(self) -> str:
        return f"store {self.root}"

    def check(self) -> None:
        """Write, read back and delete something small, and see that nothing is overwritten unasked."""
        key = f"check-{uuid.uuid4().hex}"
        target = self._own / key
        with self._told("cannot be used"):
            version = self._put(target, key, b"check", only_if=ABSENT)
            if target.read_bytes() != b"check":
                raise StoreError(f"{self}: what was written reads back otherwise; check the file system")
            with contextlib.suppress(ConflictError):
                self._put(target, key, b"other", only_if=ABSENT)
                raise StoreError(f"{self}: a file was created twice; name a folder on another file system")
            self._put(target, key, b"third", only_if=version)
            target.unlink()

    def put(self, key: str, data: bytes, *, only_if: str | None = None) -> str:
        """Write a small thing and return its version."""
        with self._told(f"'{key}' cannot be written"):
            return self._put(key_rules.below(self.root, key), key, data, only_if=only_if)

    def _put(self, target: Path, key: str, data: bytes, *, only_if: str | None) -> str:
        with drafts.draft(self._own / "drafts") as (file, name):
            file.write(data)
            drafts.flush(file)
            with self._locked():
                now = _version(target)
                if only_if is not None and now != only_if:
                    raise _conflict(self, key)
                self._sum(key).unlink(missing_ok=True)
                return self._place(name, target, key, new=only_if == ABSENT)

    def _place(self, name: Path, target: Path, key: str, *, new: bool) -> str:
        """Put a draft into its place, later than what is there; the lock is held."""
        target.parent.mkdir(parents=True, exist_ok=True)
        before = _mtime_ns(target)
        for step in (1, _COARSE_NS):
            stamp = max(time.time_ns(), before + step)
            os.utime(name, ns=(stamp, stamp))
            if _mtime_ns(name) > before:
                break
        if not new or not _linked(self, name, target, key):
            name.replace(target)
        drafts.sync_folder(target.parent)
        return _version(target)

    def get(self, key: str) -> tuple[bytes, str] | None:
        """A small thing and its version; None if it is not there."""
        path = key_rules.below(self.root, key)
        with self._told(f"'{key}' cannot be read"):
            for _ in range(TRIES):
                try:
                    with path.open("rb") as file:
                        version = _stamp(os.fstat(file.fileno()))
                        known, data = self._sums(key), file.read()
                except _MISSING:
                    return None
                except OSError as error:
                    if error.errno != errno.ESTALE:
                        raise
                    continue  # replaced by another machine meanwhile
                if not known or hashlib.sha256(data).hexdigest() in known:
                    return data, version
        raise faults.damaged(str(self), key)

    def upload(self, path: Path, key: str) -> None:
        """Write a file of any size; its checksum is kept beside it."""
        target = key_rules.below(self.root, key)
        try:
            source = path.open("rb")
        except OSError as error:
            raise faults.disk(error, f"{path}", f"it cannot be read for '{key}'") from None
        told = self._told(f"'{key}' cannot be written")
        with source, told, drafts.draft(self._own / "drafts") as (file, name):
            digest = drafts.copy(source, file.write)
            drafts.flush(file)
            with self._locked():
                # before the file: until it is in its place, both checksums are right
                known = [digest, *self._sums(key)[:1]]
                write_whole(self._sum(key), json.dumps({"key": key, "sha256": known}))
                self._place(name, target, key, new=False)

    def download(self, key: str, path: Path) -> bool:
        """Read into a file, which is there whole or not at all; False if the key is not there."""
        source = key_rules.below(self.root, key)
        for _ in range(TRIES):
            with self._told(f"'{key}' cannot be read into {path}"):
                try:
                    opened = source.open("rb")
                    if source.is_dir():
                        return False
                except _MISSING:
                    return False
                with opened, drafts.draft(path.parent) as (file, name):
                    known = self._sums(key)
                    if drafts.copy(opened, file.write) in known or not known:
                        drafts.flush(file)
                        name.replace(path)
                        drafts.sync_folder(path.parent)
                        return True
        raise faults.damaged(str(self), key)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """What lies under keys with a prefix, in the order of the key_rules."""
        found: list[Entry] = []
        begin = self.root / prefix.rpartition("/")[0] if prefix else self.root
        if prefix and key_rules.fault(prefix.rstrip("/")):
            return
        with self._told("it cannot be listed"):
            for folder, folders, names in os.walk(begin, onerror=_unless_missing):
                here = Path(folder)
                if here == self.root and key_rules.RESERVED in folders:
                    folders.remove(key_rules.RESERVED)
                found += self._files(here, names, prefix)
        yield from sorted(found, key=lambda e: e.key)

    def _files(self, folder: Path, names: list[str], prefix: str) -> Iterator[Entry]:
        for name in names:
            path = folder / name
            key = path.relative_to(self.root).as_posix()
            if (
                not key.startswith(prefix)
                or key_rules.fault(key)
                or (name[0] == "." and name.endswith(".part"))
            ):
                continue
            with contextlib.suppress(*_MISSING):
                if path.is_file() and not path.is_symlink():
                    stat = path.stat()
                    yield Entry(key, stat.st_size, _stamp(stat))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove things; what is not there is no error."""
        for key in keys:
            path = key_rules.below(self.root, key)
            with self._told(f"'{key}' cannot be deleted"), contextlib.suppress(*_MISSING):
                if path.is_file():
                    with self._locked():
                        path.unlink()
                        self._sum(key).unlink(missing_ok=True)

    def folders(self) -> list[str]:
        """Names of the folders one level down, in order."""
        with self._told("it cannot be listed"):
            try:
                found = [p.name for p in self.root.iterdir() if p.is_dir()]
            except FileNotFoundError:
                return []
        return sorted(name for name in found if not name.startswith(".") and not key_rules.fault(name))

    def tidy(self, older_s: float = STALE_S) -> int:
        """Remove drafts that killed processes have left, if they are older than that; how many there were."""
        limit, count = time.time() - older_s, 0
        with self._told("it cannot be tidied"):
            for name in (self._own / "drafts").glob(".*.part"):
                with contextlib.suppress(FileNotFoundError):
                    if name.stat().st_mtime < limit:
                        name.unlink()
                        count += 1
        return count

    def utc(self) -> float | None:
        """The time of the file system, as a new file has it."""
        with self._told("cannot be used"), drafts.draft(self._own) as (file, path):
            file.write(b"time")
            drafts.flush(file)
            return path.stat().st_mtime

    def _sum(self, key: str) -> Path:
        """Where the checksum of a key lies."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._own / "sums" / name[:2] / name

    def _sums(self, key: str) -> list[str]:
        """Checksums that a key's file may have: its own, and while it is replaced that of the one before."""
        try:
            found = json.loads(self._sum(key).read_text())["sha256"]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{self}: the checksum of '{key}' is damaged; remove {self._sum(key)}") from None
        return [str(s) for s in found]

    def _locked(self) -> AbstractContextManager[None]:
        """The lock under which things are put into their places."""
        return locks.held(self._own / "lock", str(self))

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn errors of the file system into one line."""
        try:
            yield
        except OSError as error:
            raise faults.disk(error, str(self), what) from None


def _linked(store: Directory, name: Path, target: Path, key: str) -> bool:
    """Give a draft a name that must be free, whatever locks are worth; False if there are no links."""
    try:
        os.link(name, target)
    except FileExistsError:
        raise _conflict(store, key) from None
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


def _stamp(stat: os.stat_result) -> str:
    return f"{stat.st_mtime_ns:x}-{stat.st_size:x}"


def _version(path: Path) -> str:
    """The version of a file; opened, since a shared file system may know its times from before."""
    try:
        with path.open("rb") as file:
            return _stamp(os.fstat(file.fileno()))
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT


def _mtime_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, _MISSING):
        raise error


def _conflict(store: Directory, key: str) -> ConflictError:
    return ConflictError(f"{store}: somebody else has written '{key}' first")
