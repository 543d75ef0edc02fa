"""Commands that need a worker but no run: they work in a temporary run directory, which goes with them."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ziggurat import run_places, runs, taking
from ziggurat import spec as specs
from ziggurat.combinations import builds
from ziggurat.engine import Engine
from ziggurat.errors import RunBusyError, SpecError
from ziggurat.journal import Lock, read_events
from ziggurat.spec import Spec
from ziggurat.stages import places
from ziggurat.stages.preflight import Found, gather
from ziggurat.stores import Store

MIRROR_S = 60.0


@contextmanager
def scratch(path: Path, sets: Sequence[str], *, lenient: bool = False) -> Iterator[Engine]:
    """An engine with its workers on a temporary run of a spec; `lenient`: a store need not work."""
    spec, raw = specs.read(path, sets)
    if not lenient:
        taking.working_store(spec, "check")
    if not places.storeless(spec):  # a trial run leaves nothing anywhere, unless its machines need a store
        spec, raw = spec.model_copy(update={"store": None}), {**raw, "store": None}
    with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
        run = runs.create(spec, raw, Path(folder))
        try:
            engine = Engine(run)
            try:
                yield engine
            finally:
                engine.close()
        finally:
            run.close()
            run.remove()


def inspect(path: Path, sets: Sequence[str]) -> Found:
    """All checks of the preflight, and the facts they found."""
    with scratch(path, sets, lenient=True) as engine:
        return gather(engine, alone=True, store=_store(path, sets))


def _store(path: Path, sets: Sequence[str]) -> Store | None:
    """The store that the spec names, which a trial run does without."""
    return specs.read(path, sets)[0].open_store("check")


def profile(path: Path, sets: Sequence[str], count: int) -> list[dict[str, Any]]:
    """What is known of sampled candidates, and measured on every device of a spec, in this process."""
    from ziggurat.bench import Bench
    from ziggurat.choices import sample
    from ziggurat.profilers.sampling import verdict

    spec, _ = specs.read(path, sets)
    if not builds(spec.space):
        raise SpecError(
            f"{path}: space.kind '{spec.space.kind}' has no models to measure here; a script's own are "
            "measured by search.trainer.profile in a run"
        )
    bench = Bench(spec, spec.data.signature())
    rng = np.random.default_rng(spec.seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        candidate = sample(spec.space.choices(), rng)
        model = bench.build(candidate, spec.seed)
        row: dict[str, Any] = {"candidate": dict(candidate.choices)}
        row |= {m.metric: m.value for m in bench.static(candidate)}
        print(f"{number + 1}/{count}", end="\r", file=sys.stderr, flush=True)  # noqa: T201 - progress
        for device in spec.devices:
            device.check()
            measured = bench.profile(model, candidate, device.name)
            row |= {f"{m.metric.partition('@')[0]}@{device.name}": m.value for m in measured}
            print(f"{device.name}: {verdict(measured, device)}", file=sys.stderr, flush=True)  # noqa: T201
        rows.append(row)
    return rows


def report(where: str, out: Path | None = None) -> Path:
    """Write the report of a run as it stands; of a run in a store, into a directory of its own.

    Raises:
        SpecError: It is no run, or the report cannot be written.
    """
    if not run_places.in_store(where):
        return _report(Path(where))
    with run_places.reading(where) as folder:
        page = _report(folder, track=False)
        out = out or Path(f"report-{folder.name}")
        try:
            shutil.copytree(page.parent, out, dirs_exist_ok=True)
        except OSError as error:
            raise SpecError(f"{out}: cannot be written ({error.strerror}); name another with --out") from None
        return out / page.name


def _report(folder: Path, *, track: bool = True) -> Path:
    """Write the report of a run directory, and give MLflow what it has missed if nobody drives the run."""
    from ziggurat import publishing, reporting

    spec, history = runs.look(folder)
    told = reporting.facts(folder, spec, history)
    told = replace(told, mlflow=publishing.look_command(folder.resolve(), spec, history))
    try:
        reporting.write(folder, spec, history, told)
    except OSError as error:
        raise SpecError(f"{folder}/report: cannot be written ({error.strerror})") from None
    if spec.tracking.enabled and track:
        _mirror(folder.resolve(), spec)
    return folder / "report" / "index.html"


def _mirror(folder: Path, spec: Spec) -> None:
    """Write to MLflow what it has not got yet."""
    from ziggurat import publishing

    try:
        lock = Lock(folder / "lock")
    except RunBusyError:
        return  # the controller's own mirror does it
    try:
        mirror = publishing.mirror_of(folder, spec)
        assert mirror is not None
        mirror.hurry(on=True)
        mirror.replay(event for event, _ in read_events(folder / runs.JOURNAL))
        mirror.log_artifacts(folder / "report")
        deadline = time.monotonic() + MIRROR_S
        while mirror.pending and not mirror.down and time.monotonic() < deadline:
            time.sleep(0.1)
        mirror.close(0.5)
    finally:
        lock.release()
