"""Runs wherever they lie: in a directory of this machine, or in a store that any machine can reach.

A run in a store can be looked at without being taken, and fetched to be continued here. What is fetched is
its spec and its journal; checkpoints and results follow when a job needs them.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, urlencode, urlsplit

import yaml
from pydantic import TypeAdapter, ValidationError

from ziggurat import journal_chain, retention, stores
from ziggurat import spec as specs
from ziggurat.errors import SpecError, near
from ziggurat.files import write_whole
from ziggurat.runs import JOURNAL, SPEC
from ziggurat.spec import Spec
from ziggurat.stores import Store, StoreError

log = logging.getLogger(__name__)

QUICK_S = 5.0
"""Seconds for which a store is tried whose answer is not needed."""
_STORE: TypeAdapter[stores.DirectoryStore | stores.S3Store] = TypeAdapter(stores.AnyStore)


def in_store(where: str) -> bool:
    """Whether a run is named by where its store keeps it, rather than by its run directory."""
    if stores.is_url(where):
        return True
    folder = Path(where)
    return (folder / journal_chain.FOLDER).is_dir() and not (folder / JOURNAL).exists()


def url_of(where: str) -> str:
    """A store's URL, of a path as well."""
    return where if stores.is_url(where) else Path(where).resolve().as_uri()


@contextmanager
def reading(where: str) -> Iterator[Path]:
    """A directory with the spec and the journal of a run, to be read while the block lasts.

    Raises:
        SpecError: There is no such run, or its store cannot be read.
    """
    if not in_store(where):
        yield Path(where)
        return
    with tempfile.TemporaryDirectory(prefix="ziggurat-") as scratch:
        with _one_line():
            store = stores.open_url(url_of(where))
            folder = Path(scratch) / run_id_of(store)
            _fetch_spec(store, folder)
            journal_chain.fetch(store, folder / JOURNAL)
        yield folder


def fetch(where: str, runs_dir: Path) -> Path:
    """The directory in which a run of a store can be continued on this machine, with its spec at least.

    Raises:
        SpecError: There is no such run, its store cannot be read, or the directory cannot be written.
    """
    with _one_line():
        store = stores.open_url(url_of(where))
        folder = runs_dir.resolve() / run_id_of(store)
        if not (folder / SPEC).exists():
            draft = folder.with_name(f".{folder.name}.part")
            try:
                shutil.rmtree(draft, ignore_errors=True)
                _fetch_spec(store, draft)
                (draft / "trials").mkdir()
                draft.rename(folder)
            except OSError as error:
                raise SpecError(
                    f"--runs-dir {runs_dir}: cannot be written ({error.strerror}); name a writable directory"
                ) from None
        _agree(folder, store)
    return folder


def listed(where: str) -> list[str]:
    """The runs of a store or of a directory, by name and so by date.

    Raises:
        SpecError: It cannot be read.
    """
    if not stores.is_url(where):
        return sorted({p.parent.name for p in Path(where).glob(f"*/{SPEC}")})
    with _one_line():
        setting: stores.DirectoryStore | stores.S3Store = _STORE.validate_python(where)
        return setting.runs()


def space(where: str, spec: Spec) -> dict[str, dict[str, int]]:
    """Bytes of a run on `disk` and in its `store` by kind, for those of both that can be looked at."""
    found = {} if in_store(where) else {"disk": retention.space_used(Path(where))}
    try:
        if in_store(where):
            found["store"] = retention.space_used(stores.open_url(url_of(where)))
        elif spec.store is not None:
            setting = spec.store
            if isinstance(setting, stores.S3Store):
                setting = setting.model_copy(update={"retry_s": min(setting.retry_s, QUICK_S)})
            found["store"] = retention.space_used(setting.open(Path(where).resolve().name))
    except StoreError as error:
        log.warning("%s", error)
    return found


def run_id_of(store: Store) -> str:
    """The name of the run that a store keeps."""
    return PurePosixPath(urlsplit(store.url).path).name


def _fetch_spec(store: Store, folder: Path) -> None:
    found = store.get(SPEC)
    if found is None:
        bare = _bare(store.url)
        known = listed(_parent(store.url))
        meant = near(folder.name.strip("."), known) if known else f"{_bare(_parent(store.url))} has none"
        raise SpecError(f"{bare}: no run ({SPEC} is missing); {meant}")
    write_whole(folder / SPEC, found[0])


def _agree(folder: Path, store: Store) -> None:
    """Have the spec on this machine name the store that the run is continued from.

    Raises:
        SpecError: The spec cannot be read.
    """
    spec, raw = specs.read(folder / SPEC)
    told = spec.open_store(folder.name)
    if told is not None and _bare(told.url) == _bare(store.url):
        query = dict(parse_qsl(urlsplit(told.url).query)) | dict(parse_qsl(urlsplit(store.url).query))
    else:
        kept = "nowhere" if told is None else f"in {_bare(told.url)}"
        log.warning("%s: its spec keeps this run %s; from here on it is kept here", _bare(store.url), kept)
        query = dict(parse_qsl(urlsplit(store.url).query))
    wanted = f"{_bare(store.url)}?{urlencode(query)}" if query else _bare(store.url)
    if told is None or told.url != wanted:
        plain = yaml.safe_dump({**raw, "store": _parent(wanted)}, sort_keys=False, allow_unicode=True)
        write_whole(folder / SPEC, plain)


def _bare(url: str) -> str:
    """A URL without its settings."""
    return url.partition("?")[0]


def _parent(url: str) -> str:
    """The store's own URL, of one of its runs."""
    bare, mark, query = url.partition("?")
    return bare.rpartition("/")[0] + mark + query


@contextmanager
def _one_line() -> Iterator[None]:
    """A store that cannot be read is bad input."""
    try:
        yield
    except StoreError as error:
        raise SpecError(str(error)) from None
    except ValidationError as error:
        raise SpecError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
