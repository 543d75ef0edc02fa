"""Files that are all there or not there, whatever happens while they are written."""

from __future__ import annotations

import os
import threading
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a name of this process's own beside it, flush it to disk, and rename it.

    Args:
        path: Its folder is made if it is missing.
        content: Bytes, or text that is written as UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def create_whole(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet, once among all who try; False if it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        write_whole(draft, content)
        return _linked(draft, path) or _created(path, content)
    finally:
        draft.unlink(missing_ok=True)


def _linked(draft: Path, path: Path) -> bool:
    """Give a file a second name; False if that is taken, or if the file system knows no second names."""
    try:
        os.link(draft, path)
    except OSError:
        return False
    return True


def _created(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True
