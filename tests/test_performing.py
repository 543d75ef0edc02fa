"""What a job has written is kept, and what is said of it is what is kept."""

import json
import os
import threading

import pytest

from tests.memory_store import MemoryStore
from tests.trainers.scripts import job
from ziggurat.launchers.results import Shelf
from ziggurat.once import Beat
from ziggurat.performing import Earlier, Keeper, Stop, attempt
from ziggurat.stores import StoreError
from ziggurat.trainers import StopTraining

PARTIAL = "trials/00003/partial.tar"


@pytest.fixture
def trial(tmp_path):
    folder = tmp_path / "trials" / "00003"
    (folder / "checkpoint").mkdir(parents=True)
    return folder


def write(trial, text, age=0.0):
    path = trial / "partial.tar"
    path.write_text(text)
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))


def uploads(store):
    return [key for verb, key in store.requests if verb == "put"]


def test_only_the_checkpoint_inside_the_segment_is_kept_while_the_job_runs(trial, tmp_path):
    write(trial, "of an earlier segment", age=100)
    store = MemoryStore()
    keeper = Keeper(tmp_path, store, job())
    (trial / "checkpoint" / "last.pt").write_text("live")
    (trial / "notes.txt").write_text("n")
    keeper.keep_partial()
    assert (uploads(store), keeper.kept, keeper.partial()) == ([], None, None)
    write(trial, "one", age=10)
    for _ in range(2):
        keeper.keep_partial()
    assert (uploads(store), keeper.kept, keeper.partial()) == ([PARTIAL], PARTIAL, PARTIAL)
    write(trial, "two", age=5)
    keeper.keep()
    assert sorted(uploads(store)) == ["trials/00003/notes.txt", PARTIAL, PARTIAL]
    assert store.things[PARTIAL][0] == b"two"


def test_seconds_count_as_lost_until_their_checkpoint_is_kept(trial, tmp_path):
    store = MemoryStore()
    keeper = Keeper(tmp_path, store, job())
    keeper._began -= 1000
    write(trial, "one", age=100)
    assert 1000 <= keeper.unkept_s() < 1050
    keeper.keep_partial()
    assert 100 <= keeper.unkept_s() < 150


def test_a_job_goes_back_to_what_is_kept_where_the_last_checkpoint_is_not(trial, tmp_path):
    store = MemoryStore()
    keeper = Keeper(tmp_path, store, job())

    class Desk:
        folder = tmp_path

        def do(self, given, row, stopped):
            write(trial, "one", age=10)
            keeper.keep_partial()
            write(trial, "two", age=5)
            store.before = refuse
            error = StopTraining()
            error.checkpoint = PARTIAL
            raise error

    def refuse(verb, key):
        raise StoreError("the store is gone")

    result = attempt(Desk(), job(), lambda *_: None, Stop(), keeper, Earlier())
    assert result["checkpoint"] == PARTIAL
    assert 10 <= result["lost_s"] < 60
    assert store.things[PARTIAL][0] == b"one"
    write(trial, "three", age=1)
    assert (
        attempt(Desk(), job(), print, Stop(), Keeper(tmp_path, store, job()), Earlier())["checkpoint"] is None
    )


def test_signs_of_life_go_on_while_a_large_checkpoint_is_uploaded(trial, tmp_path):
    store = MemoryStore()
    begun, done = threading.Event(), threading.Event()

    def before(verb, key):
        if key == PARTIAL:
            begun.set()
            done.wait(30)

    store.before = before
    keeper = Keeper(tmp_path, store, job())
    beat = Beat(Shelf(tmp_path, store), job(), keeper, Earlier(checkpoint="trials/00003/rung-0.tar"))
    write(trial, "large", age=10)
    thread = threading.Thread(target=beat.keep_if_possible)
    thread.start()
    assert begun.wait(30)
    beat.tell()
    assert told(store)["checkpoint"] == "trials/00003/rung-0.tar"
    done.set()
    thread.join()
    beat.tell()
    assert told(store)["checkpoint"] == PARTIAL


def told(store):
    return json.loads(store.things["trials/00003/00003-train-1-0.beat.json"][0])


class Fetching(MemoryStore):
    """A store that makes the folders of what is fetched, as real ones do."""

    def download(self, key, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return super().download(key, path)


@pytest.mark.parametrize("given", ["trials/00003/rung-0.ckpt", PARTIAL])
def test_a_checkpoint_that_was_fetched_is_not_kept_again(tmp_path, given):
    store = Fetching()
    store.put(given, b"as it was")
    store.requests.clear()

    class Desk:
        folder = tmp_path

        def do(self, resumed, row, stopped):
            assert (tmp_path / resumed.checkpoint).read_bytes() == b"as it was"
            raise StopTraining

    keeper = Keeper(tmp_path, store, job())
    result = attempt(Desk(), job(), None, Stop(), keeper, Earlier(given))
    assert uploads(store) == []
    assert result["checkpoint"] == given  # of the start before, since this one has left none


def test_a_job_that_left_no_checkpoint_this_time_goes_back_to_that_of_its_earlier_start(trial, tmp_path):
    write(trial, "of an earlier start", age=100)

    class Desk:
        folder = tmp_path

        def do(self, resumed, row, stopped):
            raise StopTraining

    keeper = Keeper(tmp_path, None, job())
    result = attempt(Desk(), job(), None, Stop(), keeper, Earlier(PARTIAL, 50.0, 1.0, 1))
    assert result["checkpoint"] == PARTIAL
    assert result["seconds"] >= 50
    assert result["starts"] == 2
