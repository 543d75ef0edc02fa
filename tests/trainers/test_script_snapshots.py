"""A script's checkpoint is kept while the script goes on, and serves where no later one is whole."""

import json
import tarfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.real import until
from tests.trainers.scripts import Bench, job
from ziggurat.jobs import Outcome
from ziggurat.performing import Earlier, Keeper, Stop, attempt
from ziggurat.trainers import StopTraining, script_checkpoint
from ziggurat.trainers.script_checkpoint import Told
from ziggurat.trainers.script_place import Place
from ziggurat.trainers.script_snapshots import Diary, Snapshots

SAVES_THEN_WAITS = """
    import os, sys, time
    folder, epochs, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    begun = int(open(resume[0]).read()) if resume else 0
    for epoch in range(begun + 1, epochs + 1):
        time.sleep(0 if resume else 0.5)
        open(folder + "/last.txt", "w").write(str(epoch))
        print(f"val_accuracy={epoch / 10} begun={begun}", flush=True)
        if epoch == 2 and not resume:
            time.sleep(60)
"""
WRITES_SLOWLY = """
    import sys, time
    with open(sys.argv[1] + "/last.txt", "w") as file:
        file.write("ha"); file.flush(); time.sleep(1.5); file.write("lf")
    time.sleep(60)
"""
ENDS_EARLY = """
    import sys, time
    open(sys.argv[1] + "/last.txt", "w").write("1")
    time.sleep(1.2)
    print("val_accuracy=0.5")
"""
KILLED_WHILE_IT_SAVES = """
    import os, signal, sys, time
    path, kept = sys.argv[1] + "/last.txt", sys.argv[1] + "/../partial.tar"
    open(path, "w").write("1")
    print("val_accuracy=0.1", flush=True)
    while not os.path.exists(kept) and "wait" in sys.argv:
        time.sleep(0.02)
    file = open(path, "w"); file.write("ha"); file.flush()
    open("killed", "w").close()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


class Killed(BaseException):
    """What a lost machine looks like from inside: nothing more is done."""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path)


def partial_of(bench):
    return bench.trial / "partial.tar"


def lost(bench, setting):
    """Lose the machine as soon as there is a snapshot."""

    def stopped(at_end):
        if partial_of(bench).exists():
            raise Killed
        return False

    with pytest.raises(Killed):
        bench.train(setting, stopped=stopped)


def content(archive, name="last.txt"):
    with tarfile.open(archive) as tar:
        return tar.extractfile(name).read()


def saving(bench, code=SAVES_THEN_WAITS, **changes):
    changes = {"resume": ["${checkpoint_dir}/last.txt"], "checkpoint_s": 0.2, **changes}
    return bench.setting(code, "${checkpoint_dir}", "${epochs}", **changes)


def test_a_script_whose_machine_is_lost_goes_on_from_its_last_snapshot(bench):
    lost(bench, saving(bench))
    assert content(partial_of(bench)) == b"2"
    assert [p.name for p in bench.trial.glob(".*")] == []
    assert bench.values(saving(bench), partial_of(bench)) == {"val_accuracy": 0.4}
    assert [epoch for epoch, _ in bench.rows] == [1, 2, 3, 4]
    assert b"begun=2" in bench.log


def test_the_time_of_a_snapshot_is_that_of_the_checkpoint_in_it(bench):
    setting = saving(bench, SAVES_THEN_WAITS.replace("if epoch == 2", "if epoch == 1"))
    lost(bench, setting)
    age = time.time() - partial_of(bench).stat().st_mtime
    assert age >= 0.5  # it was left alone for so long before it was packed


@pytest.mark.parametrize(
    "changes",
    [{"resume": [], "resumable": False}, {"checkpoint_s": None}, {"checkpoint_s": 60}],
    ids=["it cannot resume", "never", "not yet"],
)
def test_no_snapshot_is_taken_where_none_is_wanted(bench, changes):
    bench.train(saving(bench, ENDS_EARLY, **changes))
    assert not partial_of(bench).exists()


def test_a_snapshot_waits_for_a_file_that_is_being_written(bench):
    lost(bench, saving(bench, WRITES_SLOWLY))
    assert content(partial_of(bench)) == b"half"


def test_what_was_unpacked_is_not_packed_again(bench):
    lost(bench, saving(bench))
    archive = partial_of(bench).rename(bench.folder / "kept.tar")
    bench.train(
        saving(bench, ENDS_EARLY.replace('open(sys.argv[1] + "/last.txt", "w").write("1")', "")), archive
    )
    assert not partial_of(bench).exists()


@dataclass
class Quiet:
    """Stands for a program that has no file open."""

    writing: bool = False

    def writes_into(self, folder):
        return self.writing


@dataclass
class Told10:
    """Stands for what a script has told."""

    done: int = 10
    last: dict = field(default_factory=lambda: {"val_loss": 1.0})


@pytest.fixture
def watched(bench):
    """Snapshots of a folder that nobody writes into; and the file in it."""
    bench.trial.mkdir(parents=True)
    setting = bench.setting("", "${checkpoint_dir}", resumable=True, checkpoint_s=0.01)
    place = Place(setting, job(), "run-1", bench.trial)
    place.begin()
    path = place.checkpoint / "last.txt"
    path.write_text("one")
    snapshots = Snapshots(place, Quiet(), Diary(Told(), Told10()), None)
    yield snapshots, path
    snapshots.close()


def looking(snapshots):
    def look():
        snapshots.look()
        time.sleep(0.02)

    return look


def test_a_folder_that_changes_while_it_is_packed_is_packed_again(bench, watched, monkeypatch):
    snapshots, path = watched
    write, packed = script_checkpoint.write, []

    def slow(folder, draft, *rest, **more):
        write(folder, draft, *rest, **more)
        packed.append(content(draft))
        assert not partial_of(bench).exists()
        path.write_text(f"changed {len(packed)}" if len(packed) < 3 else path.read_text())
        if len(packed) == 3:  # the file is as before, but was written again
            path.write_text(path.read_text())

    monkeypatch.setattr(script_checkpoint, "write", slow)
    until(lambda: len(packed) == 3, looking(snapshots))
    monkeypatch.setattr(script_checkpoint, "write", write)
    until(partial_of(bench).exists, looking(snapshots))
    assert packed == [b"one", b"changed 1", b"changed 2"]
    assert content(partial_of(bench)) == b"changed 2"


def test_nothing_takes_the_place_of_a_later_checkpoint_once_the_script_is_stopped(
    bench, watched, monkeypatch
):
    snapshots, _ = watched
    write, begun, ended = script_checkpoint.write, threading.Event(), threading.Event()

    def slow(folder, draft, *rest, **more):
        write(folder, draft, *rest, **more)
        begun.set()
        ended.wait(30)

    monkeypatch.setattr(script_checkpoint, "write", slow)
    until(begun.is_set, looking(snapshots))
    snapshots.close()
    partial_of(bench).write_text("later")
    ended.set()
    until(lambda: not list(bench.trial.glob(".*.part")))
    assert partial_of(bench).read_text() == "later"
    snapshots.look()


def test_packing_is_given_up_in_the_middle_of_a_large_file(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "file").write_bytes(bytes(4_000_000))
    asked = []

    def given_up():
        asked.append(1)
        return len(asked) > 20

    with pytest.raises(OSError, match="given up"):
        script_checkpoint.write(tmp_path / "big", tmp_path / "draft", Told(), 100, given_up=given_up)
    assert (tmp_path / "draft").stat().st_size < 1_000_000


def test_a_folder_beyond_the_limit_ends_no_training_in_its_middle(bench, watched, capsys):
    snapshots, path = watched
    path.write_bytes(bytes(30_000_000))
    object.__setattr__(snapshots._place.setting, "checkpoint_limit_mb", 20)
    until(lambda: "holds 30 MB; raise the limit" in capsys.readouterr().err, looking(snapshots))
    assert list(bench.trial.glob("*partial*")) == []


@pytest.mark.parametrize(
    ("changed", "epoch"),
    [(99.9, 3), (100.1, 3), (102.0, 3), (109.8, 4), (111.5, 4), (98.9, 2)],
    ids=["right before", "right after", "later", "right before the next", "at the end", "in the middle"],
)
def test_a_checkpoint_belongs_to_the_epoch_that_was_told_when_it_was_written(changed, epoch):
    found = Told10(done=0)
    diary = Diary(Told(2, {}), found)
    for at, done in ((90.0, 2), (100.0, 3), (110.0, 4)):
        found.done = done
        diary.note(at)
    assert diary.told_at(changed).epoch == epoch
    assert diary.told_at(50.0).epoch == 2


def test_of_fast_epochs_the_nearest_is_taken():
    found = Told10(done=0)
    diary = Diary(Told(), found)
    for number in range(1, 50):
        found.done = number
        diary.note(100 + number / 10)
    assert diary.told_at(102.02).epoch == 20
    assert diary.told_at(102.09).epoch == 21


@dataclass
class Desk:
    """Does a job by a bench."""

    bench: Bench
    setting: object

    @property
    def folder(self):
        return self.bench.folder

    def do(self, given, row, stopped):
        try:
            trained = self.setting.train(given, lambda _: None, stopped, self.bench.trial, None, "run-1")
        except StopTraining as error:
            error.checkpoint = error.checkpoint and str(Path(error.checkpoint).relative_to(self.folder))
            raise
        return Outcome(checkpoint=str(trained.checkpoint.relative_to(self.folder)))


def preempted(bench, *words, **changes):
    """The result of a job whose script is killed by somebody else over a half-written checkpoint."""
    changes = {"resumable": True, "checkpoint_s": 0.2, "grace_s": 0.3, **changes}
    setting = bench.setting(KILLED_WHILE_IT_SAVES, "${checkpoint_dir}", *words, **changes)
    bench.trial.mkdir(parents=True, exist_ok=True)
    keeper, stop = Keeper(bench.folder, None, job()), Stop()

    def ask():
        until(Path("killed").exists)
        stop.ask(10.0, "the machine asked for an end")

    asking = threading.Thread(target=ask)
    asking.start()
    result = attempt(Desk(bench, setting), job(), lambda *_: None, stop, keeper, Earlier())
    asking.join()
    assert result["failure"]["kind"] == "preempted", result["failure"]
    return result


def test_a_script_that_is_killed_over_its_checkpoint_goes_back_to_its_last_snapshot(bench):
    result = preempted(bench, "wait")
    assert result["checkpoint"] == "trials/00003/partial.tar"
    assert content(partial_of(bench)) == b"1"
    assert 0.5 < result["lost_s"] < result["seconds"] + 1


def test_the_snapshot_of_an_earlier_segment_is_not_taken_for_one_of_this(bench):
    bench.trial.mkdir(parents=True)
    partial_of(bench).write_text("old")
    result = preempted(bench, checkpoint_s=None)
    assert result["checkpoint"] is None
    assert result["retry"]


def test_a_script_is_asked_at_once_when_a_stop_is(bench):
    code = """
        import signal, sys, time
        def keep(*_):
            open(sys.argv[1] + "/last.txt", "w").write("3")
            sys.exit(0)
        signal.signal(signal.SIGTERM, keep)
        print("ready", flush=True)
        time.sleep(40)
    """
    stop, log = Stop(), bench.trial / "logs" / "00003-train-1-0.log"

    def stopped(at_end):
        if log.exists() and b"ready" in log.read_bytes():
            stop.ask(3600.0)
        return stop(at_end)

    with pytest.raises(StopTraining) as caught:
        bench.train(bench.setting(code, "${checkpoint_dir}", resumable=True), stopped=stopped)
    assert content(caught.value.checkpoint) == b"3"


def test_rows_that_come_with_the_stop_are_counted_into_the_checkpoint(bench):
    """The script writes its numbers to a file, which is looked at now and then only."""
    code = """
        import json, os, signal, sys, time
        def keep(*_):
            with open(os.environ["ZIGGURAT_METRICS_FILE"], "a") as file:
                file.write(json.dumps({"epoch": 2, "val_loss": 2.0}) + "\\n")
            open(sys.argv[1] + "/last.txt", "w").write("2")
            sys.exit(0)
        signal.signal(signal.SIGTERM, keep)
        print("ready", flush=True)
        time.sleep(300)
    """
    log = bench.trial / "logs" / "00003-train-1-0.log"
    setting = bench.setting(code, "${checkpoint_dir}", resumable=True, metrics={
        "val_loss": {"from": "jsonl", "step": "epoch"}})  # fmt: skip
    with pytest.raises(StopTraining) as caught:
        bench.train(setting, stopped=lambda _: log.exists() and b"ready" in log.read_bytes())
    with tarfile.open(caught.value.checkpoint) as tar:
        assert json.loads(tar.pax_headers[script_checkpoint.HEADER]) == {
            "epoch": 2,
            "last": {"val_loss": 2.0},
        }


def test_halves_that_a_killed_worker_has_left_are_removed(bench):
    bench.trial.mkdir(parents=True)
    (bench.trial / ".partial.tar.12345678.part").write_text("half")
    bench.train(bench.setting("print('val_accuracy=0.5')"))
    assert list(bench.trial.glob(".*")) == []
