"""Specs and runs by where they are: a path on this machine, or a URL in a store."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ziggurat import run_places, runs, stores
from ziggurat import spec as specs
from ziggurat.errors import SpecError
from ziggurat.events import Body
from ziggurat.history import History
from ziggurat.runs import Run
from ziggurat.spec import Spec
from ziggurat.stores import StoreError

Opening = Callable[[Spec, History], Sequence[Body]]


def read_spec(where: str, changes: Sequence[str]) -> tuple[Spec, dict[str, Any]]:
    """The spec of a path or of a URL such as `s3://BUCKET/specs/small.yaml`, with assignments applied.

    Raises:
        SpecError: It cannot be read or is not valid.
    """
    if not stores.is_url(where):
        return specs.read(Path(where), changes)
    bare, mark, query = where.partition("?")
    folder, _, name = bare.rpartition("/")
    try:
        found = stores.open_url(folder + mark + query).get(name)
    except StoreError as error:
        raise SpecError(str(error)) from None
    if found is None:
        raise SpecError(f"{bare}: there is no such file; name a spec, such as s3://BUCKET/specs/NAME.yaml")
    with tempfile.TemporaryDirectory(prefix="ziggurat-") as scratch:
        path = Path(scratch) / name
        path.write_bytes(found[0])
        try:
            return specs.read(path, changes)
        except SpecError as error:
            raise SpecError(str(error).replace(str(path), bare)) from None


def now() -> str:
    """This moment, as people write it."""
    return datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def directory(where: str, runs_dir: str | Path) -> Path:
    """The directory in which a run can be continued on this machine."""
    return run_places.fetch(where, Path(runs_dir)) if run_places.in_store(where) else Path(where)


def take(where: str, runs_dir: str | Path, opening: Opening | None = None) -> Run:
    """An existing run, taken, with stages opened again.

    Args:
        where: Its directory, or its URL in a store.
        runs_dir: Where a run from a store is continued.
        opening: What opens stages again. It is asked before the run is taken, so that it can refuse.

    Raises:
        SpecError: There is no such run, or it is refused.
    """
    folder = directory(where, runs_dir)
    bodies = opening(*runs.look(folder)) if opening is not None else []
    run = runs.open_run(folder)
    run.record(bodies)
    return run
