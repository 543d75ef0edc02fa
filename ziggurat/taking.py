"""How a controller takes a run in its store, before it writes anything."""

from __future__ import annotations

import logging
from pathlib import Path

from ziggurat import stores
from ziggurat.errors import SpecError
from ziggurat.journal_mirror import Mirror
from ziggurat.spec import Spec
from ziggurat.stores import Store, StoreError

log = logging.getLogger(__name__)


def working_store(spec: Spec, run_id: str) -> Store | None:
    """The store of a run, once it has shown that it works; None if the spec names none.

    Raises:
        SpecError: It does not work.
    """
    try:
        store = spec.open_store(run_id)
        if store is not None:
            store.check()
    except StoreError as error:
        raise SpecError(str(error)) from None
    return store


def refuse_itself(spec: Spec, folder: Path) -> None:
    """Raise if a store would write into the run directory itself; nothing is written to find out."""
    given = spec.store
    if not isinstance(given, stores.DirectoryStore):
        return
    if given.path.expanduser().resolve() == folder.parent.resolve():
        raise SpecError(f"store.path {folder.parent}: is where run directories are; name another directory")


def take(store: Store | None, spec: Path, journal: Path) -> Mirror | None:
    """Take a run in its store, and make its journal there and on disk the same.

    Raises:
        SpecError: The store cannot be read or written.
        RunTakenError: Another controller takes it at this moment.
    """
    if store is None:
        return None
    mirror = Mirror(store)
    try:
        if store.get(spec.name) is None:
            store.put(spec.name, spec.read_bytes())
        mirror.take()
        aside = mirror.settle(journal)
    except StoreError as error:
        raise SpecError(str(error)) from None
    if aside is not None:
        log.warning("%s: another controller has gone on without the events in %s", store.url, aside)
    return mirror
