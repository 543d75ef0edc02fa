"""The chain of objects that a run's journal is in a store: what a link is, and how the chain is read.

Every link is an object `journal/NNNNNNNN.jsonl` that is only ever created, never overwritten. Now and then
the chain up to a link is also kept as one object, for those who read it from the beginning; the links stay,
since each of them is what stops a writer who was left behind.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from ziggurat.errors import JournalError
from ziggurat.files import write_whole
from ziggurat.stores import ABSENT, ConflictError, Store

FOLDER = "journal/"
WHOLE = f"{FOLDER}whole-"
_LINK = re.compile(rf"{FOLDER}(\d+)\.jsonl")
READERS = 8
"""Links that are read at the same time."""
_ATTEMPTS = 5


@dataclass(frozen=True)
class Link:
    """One object of the chain.

    Attributes:
        number: Its place; a whole copy has that of the last link it stands for.
        epoch: How often the run had been taken when it was written.
        writer: Who wrote it, unlike any other.
        who: The same for people.
        first: Sequence number of its first event.
        lines: Its events, each as a line of the journal; none if it takes the run.
    """

    number: int
    epoch: int
    writer: str
    who: str
    first: int
    lines: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """A line about itself, then the lines."""
        about = {k: v for k, v in asdict(self).items() if k != "lines"} | {"events": len(self.lines)}
        return b"".join([json.dumps({"v": 1, **about}).encode() + b"\n", *self.lines])


def link_from(data: bytes, origin: str) -> Link:
    """A link from its bytes.

    Raises:
        JournalError: It is none.
    """
    head, *lines = data.splitlines(keepends=True) or [b""]
    try:
        about = json.loads(head)
        names = ("number", "epoch", "writer", "who", "first")
        found = Link(**{name: about[name] for name in names}, lines=tuple(lines))
        whole = about["events"] == len(lines) and all(line.endswith(b"\n") for line in lines)
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(f"{origin}: is no part of a journal ({error}); restore it from a copy") from None
    if not whole:
        raise JournalError(f"{origin}: does not hold the events it should; restore it from a copy")
    return found


@dataclass(frozen=True)
class End:
    """Where a chain ends.

    Attributes:
        number: The next link's number.
        length: How many events there are.
        epoch: How often the run has been taken.
        who: Who took it last, for people.
    """

    number: int = 0
    length: int = 0
    epoch: int = 0
    who: str = ""

    def after(self, link: Link, origin: str) -> End:
        """Where it ends with one more link.

        Raises:
            JournalError: The link does not belong there.
        """
        taken = not link.lines
        if link.first != self.length or link.epoch != self.epoch + taken:
            raise JournalError(
                f"{origin}: does not follow what comes before it (event {link.first} of epoch {link.epoch} "
                f"after event {self.length - 1} of epoch {self.epoch}); restore the journal from a copy"
            )
        return End(link.number + 1, self.length + len(link.lines), link.epoch, link.who)


def name_of(store: Store) -> str:
    """A store in messages."""
    return store.url.partition("?")[0]


def key_of(number: int) -> str:
    """Where a link lies."""
    return f"{FOLDER}{number:08d}.jsonl"


def read(store: Store, end: End | None = None) -> tuple[End, list[bytes]]:
    """The lines of the journal in a store behind a known end, and where it ends now.

    Raises:
        JournalError: Links are missing or broken.
        StoreError: The store cannot be read.
    """
    for _ in range(_ATTEMPTS):
        keys = [entry.key for entry in store.entries(FOLDER)]
        here, lines = end or End(), list[bytes]()
        copies = [key for key in keys if key.startswith(WHOLE)]
        if copies and here.number == 0:
            copy = _whole(store, copies[-1])
            if copy is None:
                continue  # a newer one has taken its place since
            here, lines = End(copy.number + 1, len(copy.lines), copy.epoch, copy.who), list(copy.lines)
        numbers = [int(found[1]) for key in keys if (found := _LINK.fullmatch(key))]
        for link in _links(store, [n for n in numbers if n >= here.number], here.number):
            here = here.after(link, f"{name_of(store)}/{key_of(link.number)}")
            lines += link.lines
        return here, lines
    raise JournalError(f"{name_of(store)}/{FOLDER}: changes faster than it can be read; try again")


def _whole(store: Store, key: str) -> Link | None:
    with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
        path = Path(folder) / "whole"
        return link_from(path.read_bytes(), f"{name_of(store)}/{key}") if store.download(key, path) else None


def _links(store: Store, numbers: Sequence[int], first: int) -> Iterator[Link]:
    """Links by number, several read at the same time.

    Raises:
        JournalError: One is missing.
    """
    missing = next((n for n, found in enumerate(numbers, first) if n != found), None)
    if missing is not None:
        raise JournalError(f"{name_of(store)}/{key_of(missing)}: is missing; restore it from a copy")
    with ThreadPoolExecutor(READERS, "journal") as readers:
        for number, found in zip(numbers, readers.map(lambda n: store.get(key_of(n)), numbers), strict=True):
            if found is None:
                raise JournalError(
                    f"{name_of(store)}/{key_of(number)}: has been removed; restore it from a copy"
                )
            yield link_from(found[0], f"{name_of(store)}/{key_of(number)}")


def fetch(store: Store, path: Path) -> int:
    """Write the journal in a store into a file, without taking the run; returns how many events it has."""
    end, lines = read(store)
    write_whole(path, b"".join(lines))
    return end.length


def create(store: Store, key: str, data: bytes) -> bool:
    """Whether a key has this content now; not if it had another one before."""
    try:
        store.put(key, data, only_if=ABSENT)
    except ConflictError:
        found = store.get(key)  # an earlier attempt may have come through without an answer
        return found is not None and found[0] == data
    return True
