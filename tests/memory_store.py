"""A store in memory for tests, which can be told to fail, to lose an answer, or to let others in first.

And what must be true of a journal in any store.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ziggurat.events import from_line
from ziggurat.journal_chain import FOLDER, WHOLE, read
from ziggurat.stores import ABSENT, ConflictError, Entry, Store, StoreError


class MemoryStore:
    """Keeps bytes by key; tests put their own `before` and `after` in place of those here."""

    def __init__(self, url: str = "memory://store/run") -> None:
        self.url = url
        self.things: dict[str, tuple[bytes, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self._versions = itertools.count(1)
        self._lock = threading.Lock()

    def before(self, verb: str, key: str) -> None:
        """Called before every request."""

    def after(self, key: str) -> None:
        """Called when a put has come through, before it is answered."""

    def _ask(self, verb: str, key: str) -> None:
        self.requests.append((verb, key))
        self.before(verb, key)

    def check(self) -> None:
        self._ask("check", "")

    def put(self, key: str, data: bytes, *, only_if: str | None = None) -> str:
        self._ask("put", key)
        with self._lock:
            there = self.things.get(key, (b"", ABSENT))[1]
            if only_if is not None and only_if != there:
                raise ConflictError(f"{key}: somebody else has written it")
            version = str(next(self._versions))
            self.things[key] = (data, version)
        self.after(key)
        return version

    def get(self, key: str) -> tuple[bytes, str] | None:
        self._ask("get", key)
        return self.things.get(key)

    def upload(self, path: Path, key: str) -> None:
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> bool:
        found = self.get(key)
        if found is not None:
            path.write_bytes(found[0])
        return found is not None

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        self._ask("list", prefix)
        for key in sorted(self.things):
            if key.startswith(prefix):
                data, version = self.things[key]
                yield Entry(key, len(data), version)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._ask("delete", key)
            self.things.pop(key, None)

    def utc(self) -> float | None:
        return None

    def tidy(self, older_s: float = 0.0) -> int:
        del older_s
        return 0


def outage(verb: str, key: str) -> None:
    """What `before` is while the store cannot be reached."""
    raise StoreError(f"{verb} {key}: cannot be reached; try again")


def sound(store: Store, told: Iterable[Sequence[str]]) -> list[str]:
    """Names in the journal of a store: all that any writer was told is in it, once and in order."""
    lines = read(store)[1]
    found = [from_line(line.decode()) for line in lines]
    assert [event.seq for event in found] == list(range(len(found)))
    names = [str(getattr(event.body, "key", None) or getattr(event.body, "job", "")) for event in found]
    assert len(set(names)) == len(names)
    for mine in told:
        assert [name for name in names if name in set(mine)] == list(mine)
    links = [(e.key, store.get(e.key)) for e in store.entries(FOLDER) if not e.key.startswith(WHOLE)]
    epochs = [json.loads(link[0].splitlines()[0])["epoch"] for _, link in links if link is not None]
    assert epochs == sorted(epochs)
    return names
