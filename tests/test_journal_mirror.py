"""The chain of a journal in a store: one writer, nothing lost, nothing doubled, whoever is killed when."""

import contextlib
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory_store import MemoryStore, outage, sound
from ziggurat.errors import JournalError, RunTakenError
from ziggurat.events import Alert, Decided, Measured
from ziggurat.journal import Journal, read_events
from ziggurat.journal_chain import fetch, read
from ziggurat.journal_mirror import CHECK_S, FLUSH_S, MANY, Mirror
from ziggurat.stores import StoreError


class Writer:
    """A controller reduced to its journal: a file, and a mirror once it has taken the run."""

    def __init__(self, store, folder, name="writer"):
        self.store, self.path, self.name = store, folder / f"{name}.jsonl", name
        self.told, self.count, self.now = [], 0, 0.0
        self.mirror = self.journal = None

    def take(self):
        self.die()
        mirror = Mirror(self.store, lambda: self.now)
        mirror.take()
        aside = mirror.settle(self.path)
        self.mirror, self.journal = mirror, Journal(self.path, "run")
        return aside

    def write(self, *, lazy=False, many=1):
        """Append as a run does; what is said to be durable is noted."""
        self.count += 1
        names = [f"{self.name}-{self.count}-{i}" for i in range(many)]
        self.mirror.hold()
        bodies = [Measured(n, 0, 0, 1) if lazy else Alert(n, "info", "title") for n in names]
        self.mirror.append(self.journal.append(bodies, 1.0))
        if not lazy:
            self.told += names

    def die(self):
        if self.journal is not None:
            self.journal.close()
        self.mirror = self.journal = None


def names(store):
    return sound(store, ())


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def writer(store, tmp_path):
    """Makes writers, whose files are closed at the end."""
    made = []

    def make(name="writer"):
        made.append(Writer(store, tmp_path, name))
        return made[-1]

    yield make
    for one in made:
        one.die()


def test_what_was_written_is_in_the_store_and_on_disk_alike(store, writer, tmp_path):
    one = writer()
    assert one.take() is None
    one.write()
    one.write(many=3)
    assert names(store) == one.told
    fetch(store, tmp_path / "copy.jsonl")
    assert (tmp_path / "copy.jsonl").read_bytes() == one.path.read_bytes()
    assert sorted(store.things) == [f"journal/{n:08d}.jsonl" for n in range(3)]


def test_rows_wait_for_the_next_event_that_matters(store, writer):
    one = writer()
    one.take()
    one.write(lazy=True, many=2)
    assert names(store) == []
    one.write()
    assert names(store) == ["writer-1-0", "writer-1-1", "writer-2-0"]
    assert one.mirror.links == 2  # the link that takes the run, and one for all three


def test_a_stop_does_not_wait_since_checkpoints_go_with_it_and_going_on_does(store, writer):
    one = writer()
    one.take()
    one.mirror.append(one.journal.append([Decided("stopper", "continue", 0, 0)], 1.0))
    assert read(store)[0].length == 0
    one.mirror.append(one.journal.append([Decided("stopper", "stop", 1, 0)], 1.0))
    assert read(store)[0].length == 2
    one.mirror.append(one.journal.append([Decided("unsealed", "continue")], 1.0))
    assert read(store)[0].length == 3


def test_rows_do_not_wait_for_long(store, writer):
    one = writer()
    one.take()
    one.write(lazy=True)
    one.now = FLUSH_S - 0.1
    one.write(lazy=True)
    one.mirror.tend()
    assert names(store) == []
    one.now = FLUSH_S
    one.mirror.tend()
    assert names(store) == ["writer-1-0", "writer-2-0"]


def test_a_writer_that_was_left_behind_is_stopped_at_its_next_event(store, writer):
    one, two = writer("one"), writer("two")
    one.take()
    one.write()
    two.take()
    with pytest.raises(RunTakenError, match=r"process \d+ on .* has taken this run; this one stops"):
        one.write()
    with pytest.raises(RunTakenError):
        one.write()
    two.write()
    assert (two.mirror.epoch, names(store)) == (2, ["one-1-0", "two-1-0"])


def test_an_idle_writer_that_was_left_behind_notices_without_writing(store, writer):
    one, two = writer("one"), writer("two")
    one.take()
    two.take()
    one.now = CHECK_S - 0.1
    one.mirror.tend()
    one.now = CHECK_S
    with pytest.raises(RunTakenError):
        one.mirror.tend()
    two.now = CHECK_S
    two.mirror.tend()
    two.write()


def test_looking_costs_one_request_in_ten_seconds(store, writer):
    one = writer()
    one.take()
    store.requests.clear()
    for tenth in range(1000):
        one.now = tenth / 10
        one.mirror.tend()
    assert len(store.requests) == 9
    assert {verb for verb, _ in store.requests} == {"get"}
    store.requests.clear()
    for tenth in range(1000, 2000):  # who writes knows that the run is still its own
        one.now = tenth / 10
        if tenth % 50 == 0:
            one.write()
        one.mirror.tend()
    assert {verb for verb, _ in store.requests} == {"put"}


def test_a_kill_between_disk_and_store_is_mended_when_the_run_is_taken_again(store, writer):
    one = writer()
    one.take()
    one.write()
    one.journal.append([Alert("late", "info", "title")], 2.0)
    one.take()
    assert names(store) == ["writer-1-0", "late"]


def test_a_kill_between_the_store_and_its_answer_repeats_nothing(store, writer):
    one = writer()
    one.take()
    store.after = lambda key: outage("put", key)
    with pytest.raises(StoreError):
        one.write()
    store.after = lambda key: None
    one.take()
    one.write()
    assert names(store) == ["writer-1-0", "writer-2-0"]


def test_an_answer_that_was_lost_is_no_conflict(store, writer):
    # the store itself tries again, and finds what its first attempt has written
    one = writer()
    plain = store.put

    def twice(key, data, *, only_if=None):
        plain(key, data, only_if=only_if)
        return plain(key, data, only_if=only_if)

    store.put = twice
    one.take()
    one.write()
    assert names(store) == ["writer-1-0"]


def test_a_writer_that_was_broken_off_in_the_middle_goes_on_where_its_attempt_got_to(store, writer):
    one = writer()
    one.take()

    def interrupt(key):
        store.after = lambda key: None
        raise KeyboardInterrupt

    store.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        one.write(many=2)
    one.write()
    assert names(store) == ["writer-1-0", "writer-1-1", "writer-2-0"]


def test_no_event_is_left_out_between_disk_and_store(store, writer):
    one = writer()
    one.take()
    one.journal.append([Alert("unheard", "info", "title")], 1.0)
    with pytest.raises(StoreError, match="event 0 of the journal has not come this far"):
        one.write()
    one.write()  # on disk only
    assert names(store) == []
    one.take()
    assert names(store) == ["unheard", "writer-1-0", "writer-2-0"]


def test_the_run_goes_on_on_another_machine_and_then_back_on_the_first(store, writer):
    here, there = writer("here"), writer("there")
    here.take()
    here.write()
    there.take()
    there.write()
    assert here.take() is None
    here.write()
    assert names(store) == ["here-1-0", "there-1-0", "here-2-0"]
    assert [e.seq for e, _ in read_events(here.path)] == [0, 1, 2]


def test_what_only_a_stale_disk_knows_is_kept_aside(store, writer, tmp_path):
    one, two = writer("one"), writer("two")
    one.take()
    one.write()
    two.take()
    two.write()
    with pytest.raises(RunTakenError):
        one.write(many=2)
    lost = one.path.read_bytes().splitlines(keepends=True)[1:]
    aside = one.take()
    assert aside == tmp_path / "one.stale-1.jsonl"
    assert aside.read_bytes() == b"".join(lost)
    assert one.path.read_bytes() == two.path.read_bytes()
    two.take()
    two.write()
    one.journal.append([Alert("again", "info", "title")], 2.0)
    assert one.take().name == "one.stale-2.jsonl"
    assert names(store) == ["one-1-0", "two-1-0", "two-2-0"]


def test_a_torn_line_on_disk_is_not_mirrored(store, writer):
    one = writer()
    one.take()
    one.write()
    with one.path.open("a") as file:
        file.write('{"v":1,"seq":')
    assert one.take() is None
    one.write()
    assert names(store) == ["writer-1-0", "writer-2-0"]


def test_a_journal_that_never_had_a_mirror_gets_one(store, writer):
    one = writer()
    with Journal(one.path, "run") as journal:
        journal.append([Alert(f"k{i}", "info", "title") for i in range(3)], 1.0)
    one.take()
    assert names(store) == ["k0", "k1", "k2"]


def test_an_outage_ends_mirroring_and_keeps_the_disk(store, writer):
    one = writer()
    one.take()
    store.before = outage
    with pytest.raises(StoreError, match="cannot be reached"):
        one.write()
    one.write()  # on disk only
    requests = len(store.requests)
    one.now = 1000
    one.mirror.tend()
    one.mirror.compact(one.path)
    assert len(store.requests) == requests
    store.before = lambda verb, key: None
    assert names(store) == []
    one.take()
    assert names(store) == ["writer-1-0", "writer-2-0"]


def test_a_look_that_fails_is_repeated(store, writer, caplog):
    one = writer()
    one.take()
    store.before = outage
    one.now = CHECK_S
    one.mirror.tend()
    assert "trying again" in caplog.text
    store.before = lambda verb, key: None
    writer("two").take()
    one.now = 2 * CHECK_S
    with pytest.raises(RunTakenError):
        one.mirror.tend()


def test_a_long_chain_is_read_in_a_few_requests(store, writer):
    one, two = writer("one"), writer("two")
    one.take()
    for _ in range(MANY + 10):
        one.write()
    one.mirror.compact(one.path)
    for _ in range(5):
        one.write()
    store.requests.clear()
    read(store)
    assert len(store.requests) == 1 + 1 + 5
    assert names(store) == one.told
    two.take()
    two.mirror.compact(two.path)  # too early for another one
    assert sum("whole" in key for key in store.things) == 1
    for _ in range(MANY):
        two.write()
    two.mirror.compact(two.path)
    assert [key for key in store.things if "whole" in key] == [f"journal/whole-{2 * MANY + 16:08d}.jsonl"]
    assert names(store) == one.told + two.told
    with pytest.raises(RunTakenError):
        one.write()


def test_a_whole_copy_that_goes_away_while_it_is_read_is_looked_for_again(store, writer):
    one = writer()
    one.take()
    for _ in range(MANY):
        one.write()
    one.mirror.compact(one.path)

    def compact(verb, key):
        if verb == "get" and "whole" in key:
            store.before = lambda verb, key: None
            for _ in range(MANY):
                one.write()
            one.mirror.compact(one.path)

    store.before = compact
    assert names(store) == one.told


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda things: things.pop("journal/00000001.jsonl"), "00000001.jsonl: is missing"),
        (
            lambda things: things.update({"journal/00000001.jsonl": (b"junk\n", "9")}),
            "is no part of a journal",
        ),
        (lambda things: things.update({"journal/00000001.jsonl": (b"", "9")}), "is no part of a journal"),
        (
            lambda things: things.update({"journal/00000001.jsonl": things["journal/00000002.jsonl"]}),
            "does not follow",
        ),
        (
            lambda things: things.update(
                {"journal/00000001.jsonl": (things["journal/00000001.jsonl"][0][:-9], "9")}
            ),
            "does not hold the events it should",
        ),
    ],
)
def test_a_chain_that_somebody_has_spoilt_is_one_line_with_its_place(store, writer, spoil, words):
    one = writer()
    one.take()
    one.write()
    one.write()
    spoil(store.things)
    with pytest.raises(JournalError, match=words) as caught:
        read(store)
    assert "\n" not in str(caught.value)


def test_of_many_who_take_a_run_at_once_one_goes_on(store, writer):
    writers = [writer(f"w{i}") for i in range(8)]
    gate = threading.Barrier(len(writers))

    def race(writer):
        gate.wait()
        with contextlib.suppress(RunTakenError):
            writer.take()
            for _ in range(20):
                writer.write(lazy=writer.count % 3 == 0)

    threads = [threading.Thread(target=race, args=(w,)) for w in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_sound(store, writers)
    going_on = 0
    for one in writers:  # who was quick may not have noticed yet
        with contextlib.suppress(RunTakenError):
            if one.mirror is not None:
                one.write()
                going_on += 1
    assert going_on == 1
    assert_sound(store, writers)


def assert_sound(store, writers):
    sound(store, [writer.told for writer in writers])


ACTIONS = st.sampled_from(["take", "write", "rows", "die", "compact", "wait"])
FAULTS = st.sampled_from(["none"] * 6 + ["refused", "unanswered", "broken off"])


class Stage:
    """Two writers at one store, who act before each other's requests; requests may fail, or go unanswered."""

    def __init__(self, draw, folder):
        self.draw, self.store = draw, MemoryStore()
        self.writers = [Writer(self.store, folder, f"w{i}") for i in range(2)]
        self.busy = []

    def act(self, index, action):
        """One action of a writer."""
        self.store.before, self.store.after = self.intrude, self.unanswered
        self.busy.append(index)
        try:
            perform(self.writers[index], action)
        except (RunTakenError, StoreError, KeyboardInterrupt):
            pass
        finally:
            self.busy.pop()
        if not self.busy:
            del self.store.before, self.store.after

    def intrude(self, verb, key):
        if threading.current_thread() is not threading.main_thread():
            return  # what is read there never changes
        if len(self.busy) == 1 and self.draw(st.integers(0, 3)) == 0:
            self.act(1 - self.busy[0], self.draw(ACTIONS))
        if self.draw(FAULTS) == "refused":
            outage(verb, key)

    def unanswered(self, key):
        match self.draw(FAULTS):
            case "unanswered":
                outage("put", key)
            case "broken off":
                raise KeyboardInterrupt

    def close(self):
        for writer in self.writers:
            writer.die()


@settings(max_examples=200)
@given(st.data())
def test_however_two_writers_interleave_nothing_told_is_lost_or_doubled(data):
    with TemporaryDirectory() as folder, contextlib.closing(Stage(data.draw, Path(folder))) as stage:
        for _ in range(data.draw(st.integers(1, 12))):
            stage.act(data.draw(st.integers(0, 1)), data.draw(ACTIONS))
        assert_sound(stage.store, stage.writers)
        for writer in stage.writers:  # whoever takes it next has all of it
            writer.take()
            assert_sound(stage.store, stage.writers)
            assert writer.path.read_bytes() == b"".join(read(stage.store)[1])


def perform(writer, action):
    if action == "take":
        writer.take()
    elif writer.mirror is None or action == "die":
        writer.die()
    elif action == "compact":
        writer.mirror.compact(writer.path)
    elif action == "wait":
        writer.now += CHECK_S
        writer.mirror.tend()
    elif not writer.mirror.down:  # a run does not go on without its store
        writer.write(lazy=action == "rows")
