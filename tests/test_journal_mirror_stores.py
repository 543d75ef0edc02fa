"""The chain on real stores, a directory and an S3 server: racing controllers in threads and in processes."""

import contextlib
import os
import subprocess
import sys
import threading
import time

import pytest

from tests.memory_store import sound
from tests.real import ROOT, create, plain
from tests.servers.seaweed import WRITER, s3_server  # noqa: F401 - a fixture
from ziggurat import run_places, runs
from ziggurat.errors import RunTakenError
from ziggurat.events import Alert
from ziggurat.journal import Journal
from ziggurat.journal_mirror import Mirror
from ziggurat.stores import DirectoryStore, S3Store, open_url

PROGRAM = """
import sys
from pathlib import Path
from ziggurat.errors import RunTakenError
from ziggurat.events import Alert
from ziggurat.journal import Journal
from ziggurat.journal_mirror import Mirror
from ziggurat.stores import open_url

url, path = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
mirror = Mirror(open_url(url))
try:
    mirror.take()
    mirror.settle(path)
    journal = Journal(path, "run")
    for i in range(15):
        name = f"{path.stem}-{i}"
        mirror.append(journal.append([Alert(name, "info", "title")], 1.0))
        print(name, flush=True)
    print("end", flush=True)
except RunTakenError as error:
    print("taken", flush=True)
"""


@pytest.fixture(params=["directory", pytest.param("s3", marks=[pytest.mark.server, pytest.mark.s3])])
def kept(request, tmp_path, monkeypatch):
    """Settings of a store of each kind."""
    if request.param == "directory":
        return DirectoryStore(path=tmp_path / "store")
    server = request.getfixturevalue("s3_server")
    for name, value in WRITER.environment().items():
        monkeypatch.setenv(name, value)
    prefix = f"mirror-{time.time_ns()}"
    return S3Store(bucket=server.bucket, prefix=prefix, endpoint=server.endpoint, region=server.region)


def test_of_racing_threads_one_goes_on(kept, tmp_path):
    told: dict[int, list[str]] = {i: [] for i in range(6)}
    ends = []
    gate = threading.Barrier(len(told))

    def race(number):
        mirror = Mirror(kept.open("run"))
        gate.wait()
        with contextlib.suppress(RunTakenError):
            mirror.take()
            path = tmp_path / f"{number}.jsonl"
            mirror.settle(path)
            with Journal(path, "run") as journal:
                for i in range(8):
                    name = f"w{number}-{i}"
                    mirror.append(journal.append([Alert(name, "info", "title")], 1.0))
                    told[number].append(name)
            ends.append(number)

    threads = [threading.Thread(target=race, args=(n,)) for n in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # who was quick may have come to its end before somebody else took the run
    found = sound(kept.open("run"), told.values())
    assert ends
    assert found[-1] == f"w{ends[-1]}-7"


def test_of_racing_processes_one_goes_on_and_what_it_was_told_is_there(kept, tmp_path):
    url = kept.url("run")
    command = [sys.executable, "-c", PROGRAM, url]
    racers = [
        subprocess.Popen(
            [*command, str(tmp_path / f"p{i}.jsonl")],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for i in range(3)
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    lines = [racer.communicate()[0].splitlines() for racer in racers]
    assert {said[-1] for said in lines} <= {"end", "taken"}
    assert any(said[-1] == "end" for said in lines)
    sound(open_url(url), [said[:-1] for said in lines])


def test_a_controller_is_left_behind_and_the_run_goes_on_from_the_store_alone(kept, tmp_path):
    run = create(tmp_path / "a", plain(store=kept.model_dump(mode="json")))
    run.record([Alert("one", "info", "title")])
    folder = run_places.fetch(run.store.url, tmp_path / "b")
    other = runs.open_run(folder)
    assert set(other.history.alerts) == {"one"}
    with pytest.raises(RunTakenError):
        run.record([Alert("late", "info", "title")])
    other.record([Alert("two", "info", "title")])
    with run_places.reading(run.store.url) as place:
        _, history = runs.look(place)
    assert set(history.alerts) == {"one", "two"}
    assert run_places.listed(run_places._parent(run.store.url)) == [run.run_id]
    run.close()
    other.close()
    other.remove()
    assert list(kept.open(run.run_id).entries()) == []
