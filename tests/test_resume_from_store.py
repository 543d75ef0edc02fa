"""Controllers that lose their disk or their run, and runs that are finished from the store alone."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.real import ROOT, create, events, front, plain, session, until, whole
from ziggurat import processes, run_places, runs
from ziggurat.domain import RunStatus
from ziggurat.errors import RunTakenError
from ziggurat.events import Event, SegmentFinished
from ziggurat.history import fold
from ziggurat.journal_chain import read

pytestmark = pytest.mark.slow

DRIVER = """
import sys
from pathlib import Path
from tests.real import session, whole
from ziggurat import run_places, runs

with session(runs.open_run(run_places.fetch(sys.argv[1], Path(sys.argv[2])))) as here:
    whole(here)
"""


def settings(**changes):
    return plain(
        search={"searcher": {"kind": "sobol"}, "stopper": {"kind": "never"}, "trials": 8, "workers": 1},
        **changes,
    )


def finished(happened: list[Event]) -> Counter:
    """How often each piece of work has been paid for to its end."""
    history = fold(happened)
    ends = [s for s in history.segments.values() if s.end is not None and s.end.failure is None]
    return Counter((s.job.trial, s.job.kind, s.job.to_rung, s.job.device) for s in ends)


def test_a_run_whose_machines_are_lost_is_finished_from_the_store_with_the_same_front(tmp_path):
    with session(create(tmp_path / "undisturbed", settings())) as here:
        whole(here)
        wanted = events(here.run.folder)
    run = create(tmp_path / "0", settings(store=str(tmp_path / "store")))
    url, name = run.store.url, run.run_id
    run.close()
    shutil.rmtree(tmp_path / "0")
    folder = tmp_path / "1" / name
    controller = subprocess.Popen(
        [sys.executable, "-c", DRIVER, url, str(folder.parent)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    path = folder / runs.JOURNAL
    until(lambda: path.exists() and path.read_text().count('"segment_finished"') >= 7)
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    until(lambda: not processes.marked(f"{folder}::"))
    shutil.rmtree(folder.parent)
    with session(runs.open_run(run_places.fetch(url, tmp_path / "last"))) as here:
        whole(here)
        found = events(here.run.folder)
        assert b"".join(read(here.run.store)[1]) == (here.run.folder / runs.JOURNAL).read_bytes()
    assert fold(found).status is RunStatus.COMPLETED
    assert front(fold(found)) == front(fold(wanted))
    assert finished(found) == finished(wanted)
    assert set(finished(found).values()) == {1}


def test_a_controller_that_is_left_behind_in_the_middle_of_a_search_stops_it(tmp_path):
    run = create(tmp_path / "a", settings(store=str(tmp_path / "store"), retrain={"enabled": False}))
    taken: list[Path] = []

    def take(event, history):
        if isinstance(event.body, SegmentFinished) and history.ends == 2:
            folder = run_places.fetch(run.store.url, tmp_path / "b")
            runs.open_run(folder).close()
            taken.append(folder)

    with session(run) as here:
        run.listeners.append(take)
        with pytest.raises(RunTakenError):
            whole(here)
        assert run.taken
    with session(runs.open_run(taken[0])) as here:
        whole(here)
    assert {t.status.value for t in fold(events(taken[0])).of_stage("search")} == {"completed"}
    assert set(finished(events(taken[0])).values()) == {1}
