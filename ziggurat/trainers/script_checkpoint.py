"""A script's checkpoint: a folder while it trains, one archive when it is kept.

The archive holds regular files, folders and links among them, nothing else. What the training had told when
it was packed stands in the archive's header, so that the next start can go on counting.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tarfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ziggurat.domain import FailureKind
from ziggurat.trainers.failures import TrainingFailed

HEADER = "ZIGGURAT.told"
MEGABYTE = 1_000_000
MOST_FILES = 100_000


@dataclass(frozen=True)
class Told:
    """What a training had told when its checkpoint was packed.

    Attributes:
        epoch: Epochs it had done.
        last: Latest value of every metric.
    """

    epoch: int = 0
    last: Mapping[str, float] = field(default_factory=dict)


def empty(folder: Path) -> bool:
    """Whether a folder holds nothing."""
    return not folder.is_dir() or next(folder.iterdir(), None) is None


def clear(folder: Path) -> None:
    """Have an empty folder."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


@dataclass(frozen=True)
class State:
    """What a folder holds at a moment, as far as that is seen without reading it.

    Attributes:
        files: Path, size, times of change and number of every file.
        size: Bytes in all.
        changed: When something was last changed, in seconds since 1970.
    """

    files: frozenset[tuple[str, int, int, int, int]]
    size: int
    changed: float


def state(folder: Path) -> State | None:
    """What a folder holds; None if that is nothing, or changes while it is looked at."""
    try:
        found = {str(path): path.lstat() for path in folder.rglob("*")}
    except OSError:
        return None
    if not found:
        return None
    files = ((p, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for p, s in found.items())
    # a copy may bear the time of what it was copied from, but not the time of its own making
    changed = max(s.st_ctime_ns for s in found.values()) / 1e9
    return State(frozenset(files), sum(s.st_size for s in found.values()), changed)


def beside(archive: Path) -> Path:
    """Where an archive is written before it is whole: hidden, and different each time."""
    return archive.with_name(f".{archive.name}.{uuid.uuid4().hex[:8]}.part")


def check_room(folder: Path, size: int) -> None:
    """Have room on a disk.

    Raises:
        OSError: It has less.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{free / MEGABYTE:.3g} MB are free, {size / MEGABYTE:.3g} MB are wanted")


def pack(folder: Path, archive: Path, told: Told, limit_mb: float, changed: float | None = None) -> None:
    """Put a folder into an archive, whole or not at all.

    Args:
        folder: The checkpoint.
        archive: Where it is kept.
        told: What the training had told.
        limit_mb: Megabytes that the folder may hold.
        changed: When the checkpoint was made, in seconds since 1970; it becomes the archive's own time.

    Raises:
        TrainingFailed: It is larger than allowed, or cannot be read or written.
    """
    draft = beside(archive)
    try:
        write(folder, draft, told, limit_mb, changed=changed)
        draft.replace(archive)
    except OSError as error:
        raise TrainingFailed(
            FailureKind.USER_ERROR, f"the checkpoint cannot be packed into {archive} ({error.strerror})"
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def write(
    folder: Path,
    draft: Path,
    told: Told,
    limit_mb: float,
    *,
    changed: float | None = None,
    given_up: Callable[[], bool] = lambda: False,
) -> None:
    """Write a folder into an archive that is not yet in its place; see `pack`.

    Args:
        folder: The checkpoint.
        draft: What is written.
        told: What the training had told.
        limit_mb: Megabytes that the folder may hold.
        changed: When the checkpoint was made.
        given_up: Whether to leave off; asked for every few kilobytes.

    Raises:
        TrainingFailed: It is larger than allowed.
        OSError: It cannot be read or written, or was given up.
    """
    text = json.dumps({"epoch": told.epoch, "last": dict(told.last)})
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    if size > limit_mb * MEGABYTE:
        raise TrainingFailed(
            FailureKind.USER_ERROR,
            f"trainer.checkpoint_limit_mb is {limit_mb:g}, but the script's checkpoint folder holds "
            f"{size / MEGABYTE:.3g} MB; raise the limit or have it keep less",
        )
    with draft.open("wb") as file:
        watched: Any = _Watched(file, given_up)
        with tarfile.open(
            fileobj=watched, mode="w", format=tarfile.PAX_FORMAT, pax_headers={HEADER: text}
        ) as tar:
            if folder.is_dir():
                tar.add(folder, arcname=".", recursive=False)  # an archive without members is unreadable
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                tar.add(path, arcname=path.name, filter=lambda info: _kept(info, folder))
        file.flush()
        os.fsync(file.fileno())
    if changed is not None:
        with contextlib.suppress(OSError):  # not on every file system
            os.utime(draft, (changed, changed))


@dataclass(frozen=True)
class _Watched:
    """A file that can be written to until that is given up."""

    file: IO[bytes]
    given_up: Callable[[], bool]

    def write(self, data: bytes) -> int:
        """Write.

        Raises:
            OSError: It was given up.
        """
        if self.given_up():
            raise OSError("given up")
        return self.file.write(data)

    def tell(self) -> int:
        """Where it is written."""
        return self.file.tell()


def _kept(info: tarfile.TarInfo, folder: Path) -> tarfile.TarInfo | None:
    """Files, folders and links inside the folder, without their owner; links become relative."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    if info.isfile() or info.isdir() or info.islnk():
        return info
    if not info.issym():
        return None
    place = folder / Path(info.name).parent
    target = Path(os.path.normpath(place / info.linkname))
    if not target.is_relative_to(folder):
        return None
    info.linkname = os.path.relpath(target, place)
    return info


def unpack(archive: Path, folder: Path, limit_mb: float) -> Told:
    """Put what an archive holds into an empty folder.

    Raises:
        TrainingFailed: It is no such archive, is larger than allowed, or would write elsewhere.
    """
    try:
        with tarfile.open(archive, mode="r:") as tar:
            members: list[tarfile.TarInfo] = []
            size = 0
            for member in tar:
                members.append(member)
                size += member.size
                if size > limit_mb * MEGABYTE or len(members) > MOST_FILES:
                    raise TrainingFailed(
                        FailureKind.USER_ERROR,
                        f"{archive.name}: holds more than trainer.checkpoint_limit_mb = {limit_mb:g} or more "
                        f"than {MOST_FILES} files; raise the limit",
                    )
            tar.extractall(folder, members=members, filter="data")
            return _told(tar.pax_headers.get(HEADER, ""))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise TrainingFailed(
            FailureKind.USER_ERROR, f"checkpoint {archive} cannot be unpacked ({error})"
        ) from None


def _told(text: str) -> Told:
    try:
        plain: Any = json.loads(text)
        return Told(int(plain["epoch"]), {str(k): float(v) for k, v in plain["last"].items()})
    except (ValueError, KeyError, TypeError, AttributeError):
        return Told()
