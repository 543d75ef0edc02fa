"""Answers to the question for an approval, and the file in which one is left: `approval.json`.

It lies in the run directory or in the run's store, is written whole, and stays there: an answer has a key,
and whoever has acted on it has that in the journal.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ziggurat.errors import SpecError
from ziggurat.files import write_whole
from ziggurat.setting import Setting
from ziggurat.stores import Store, StoreError

log = logging.getLogger(__name__)

FILE = "approval.json"
STORE_S = 10.0
"""Seconds between two looks into the store."""


@dataclass(frozen=True)
class Answer:
    """What somebody has decided.

    Attributes:
        approve: Whether anything may be retrained.
        k: How many architectures; None as planned.
        drop: Trials that are not to be retrained.
        add_usd: By how much the limit is raised.
        comment: In their words.
        who: Gave it.
        how: On which way it came.
        key: Tells it from others.
    """

    approve: bool
    k: int | None = None
    drop: tuple[int, ...] = ()
    add_usd: float = 0.0
    comment: str = ""
    who: str = "somebody"
    how: str = FILE
    key: str = field(default_factory=lambda: secrets.token_hex(8))


class _Written(Setting):
    """The file, as somebody may also have written it by hand."""

    approve: bool
    k: int | None = Field(default=None, ge=1, le=1000)
    drop: list[int] = Field(default_factory=list)
    add_usd: float = Field(default=0.0, ge=0)
    comment: str = ""
    who: str = "somebody"
    how: str = FILE
    key: str = ""


def read(text: bytes) -> Answer:
    """The answer of a file.

    Raises:
        SpecError: It holds none.
    """
    try:
        plain = json.loads(text)
        found = _Written.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise SpecError(f"{FILE}: {where}: {first['msg']}; write it by `ziggurat approve`") from None
    except ValueError:
        raise SpecError(f"{FILE}: is no JSON; write it by `ziggurat approve`") from None
    values: dict[str, Any] = found.model_dump()
    values["drop"] = tuple(values["drop"])
    values["key"] = found.key or hashlib.sha256(text).hexdigest()[:16]
    return Answer(**values)


def leave(answer: Answer, folder: Path | None, store: Store | None) -> None:
    """Write an answer whole where whoever waits will look for it.

    Raises:
        SpecError: It cannot be written.
    """
    text = json.dumps(asdict(answer), indent=2) + "\n"
    try:
        if store is not None:
            store.put(FILE, text.encode())
        if folder is not None:
            write_whole(folder / FILE, text)
    except StoreError as error:
        raise SpecError(str(error)) from None
    except OSError as error:
        raise SpecError(f"{folder}: cannot be written ({error.strerror})") from None


class Drawer:
    """The desk in which `ziggurat approve` leaves answers: the run directory, and its store now and then."""

    def __init__(self, folder: Path, store: Store | None) -> None:
        """Look in these places."""
        self._folder, self._store = folder, store
        self._looked = -STORE_S
        self._bad: set[bytes] = set()

    def ask(self, question: object) -> None:
        """Nothing: who answers here looks at the run."""

    def answers(self) -> list[Answer]:
        """Answers that lie there, new or old."""
        found = []
        for text in self._texts():
            if text in self._bad:
                continue
            try:
                found.append(read(text))
            except SpecError as error:
                self._bad.add(text)
                log.warning("%s", error)
        return found

    def _texts(self) -> list[bytes]:
        found: list[bytes] = []
        path = self._folder / FILE
        try:
            found += [path.read_bytes()] if path.is_file() else []
            if self._store is not None and time.monotonic() - self._looked >= STORE_S:
                self._looked = time.monotonic()
                kept = self._store.get(FILE)
                found += [kept[0]] if kept is not None else []
        except (OSError, StoreError) as error:
            log.warning("%s cannot be read (%s)", FILE, error)
        return found

    def refuse(self, answer: Answer, problem: str) -> None:
        """Nothing: the problem is in the log, and `ziggurat approve` finds it before it leaves an answer."""

    def close(self, answer: Answer | None) -> None:
        """Leave it where it is; the journal tells that it has been acted on."""
