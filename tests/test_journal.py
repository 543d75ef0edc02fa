"""The journal: whole lines, one writer, a torn end, and errors that name the line."""

import subprocess
import sys

import pytest

from ziggurat.errors import JournalError, RunBusyError
from ziggurat.events import Alert, StageStarted
from ziggurat.journal import Journal, Lock, read_events


def bodies(count):
    return [Alert(f"k{i}", "info", "title") for i in range(count)]


def test_what_was_appended_is_read_again_in_order(tmp_path):
    path = tmp_path / "j"
    with Journal(path, "run") as journal:
        journal.append(bodies(3), 1.0)
        journal.append([StageStarted("search")], 2.0)
    again = Journal(path, "run")
    assert [e.seq for e in again.events] == [0, 1, 2, 3]
    assert again.events[3].body == StageStarted("search")


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_dropped_and_overwritten(tmp_path, cut):
    path = tmp_path / "j"
    with Journal(path, "run") as journal:
        journal.append(bodies(3), 1.0)
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, "run") as journal:
        assert [e.seq for e in journal.events] == [0, 1]
        journal.append([StageStarted("search")], 2.0)
    assert [e.body for e, _ in read_events(path)][2] == StageStarted("search")


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "j"
    with Journal(path, "run") as journal:
        journal.append(bodies(3), 1.0)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "garbage\n" + lines[2])
    before = path.read_bytes()
    with pytest.raises(JournalError, match="line 2 is not a readable event"):
        Journal(path, "run")
    assert path.read_bytes() == before


def test_a_missing_line_is_an_error_that_names_its_place(tmp_path):
    path = tmp_path / "j"
    with Journal(path, "run") as journal:
        journal.append(bodies(3), 1.0)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[2])
    with pytest.raises(JournalError, match="line 2 has sequence number 2, expected 1"):
        Journal(path, "run")


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    script = """
import resource, sys
from pathlib import Path
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from ziggurat.errors import JournalError
from ziggurat.events import Alert
from ziggurat.journal import Journal
path = Path(sys.argv[1])
journal = Journal(path, "run")
journal.append([Alert("k", "info", "t")], 1.0)
size = path.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
try:
    journal.append([Alert("k2", "info", "t" * 500)], 1.0)
except JournalError as error:
    print(error)
assert path.stat().st_size == size
"""
    path = tmp_path / "j"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert len(Journal(path, "run").events) == 1


def test_a_second_owner_is_refused_with_the_first_ones_name(tmp_path):
    lock = Lock(tmp_path / "lock")
    with pytest.raises(RunBusyError, match=r"driven by process \d+ on "):
        Lock(tmp_path / "lock")
    lock.release()
    Lock(tmp_path / "lock").release()


def test_a_lock_goes_with_a_killed_process(tmp_path):
    script = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom ziggurat.journal import Lock\n"
        "Lock(Path(sys.argv[1]))\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "lock")], check=False)
    Lock(tmp_path / "lock").release()
