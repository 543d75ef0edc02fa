"""What is special about a directory: full disks, killed processes, and others that write there."""

import multiprocessing
import os
import random
import subprocess
import threading
import time

import pytest

from tests.real import until
from tests.stores.kills import upload_killed_when
from ziggurat.stores import ABSENT, ConflictError, Directory, DirectoryStore, StoreError, locks

MB = 1 << 20


def noise(size):
    return random.Random(0).randbytes(size)


@pytest.fixture
def store(tmp_path):
    return DirectoryStore(path=tmp_path / "store").open("run")


def complaint(call, *words):
    with pytest.raises(StoreError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def _race(root, barrier, found, number, only_if):
    barrier.wait()
    try:
        Directory(root).put("epoch", b"%d" % number, only_if=only_if)
    except ConflictError:
        return
    found.put(number)


@pytest.mark.parametrize("replace", [False, True])
def test_of_racing_processes_exactly_one_wins(store, replace):
    only_if = store.put("epoch", b"old") if replace else ABSENT
    fork = multiprocessing.get_context("fork")
    barrier, found = fork.Barrier(16), fork.Queue()
    racers = [fork.Process(target=_race, args=(store.root, barrier, found, i, only_if)) for i in range(16)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * 16
    winner = found.get(timeout=10)
    assert found.empty()
    assert store.get("epoch")[0] == b"%d" % winner


def test_create_is_safe_even_where_locks_are_not(store, monkeypatch):
    """Nobody sees the other's lock, as on a shared file system that is mounted without them."""
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: None)
    barrier, wins = threading.Barrier(8), []

    def create(number):
        barrier.wait()
        try:
            store.put("epoch", b"%d" % number, only_if=ABSENT)
        except ConflictError:
            return
        wins.append(number)

    racers = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert len(wins) == 1


def test_versions_differ_however_fast_one_writes_the_same(store):
    versions = [store.put("key", b"same") for _ in range(50)]
    assert len(set(versions)) == 50
    store.delete(["key"])
    assert store.put("key", b"same") not in versions


def test_versions_differ_though_the_clock_stands_still(store, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    versions = [store.put("key", b"same") for _ in range(3)]
    assert len(set(versions)) == 3


def test_versions_grow_when_the_clock_is_set_back(store):
    store.put("key", b"x")
    os.utime(store.root / "key", ns=(2**62, 2**62))
    old = store.get("key")[1]
    new = store.put("key", b"y", only_if=old)
    assert new != old
    assert store.get("key") == (b"y", new)


def test_full_disk_is_told_and_leaves_what_was_there(small_disk, tmp_path):
    store = DirectoryStore(path=small_disk).open("run")
    store.put("key", b"old")
    (tmp_path / "big").write_bytes(noise(3 * MB))
    words = "the disk is full; free some space, or name another folder"
    complaint(
        lambda: store.upload(tmp_path / "big", "key"), "'key' cannot be written", words, str(small_disk)
    )
    complaint(lambda: store.put("other", noise(3 * MB)), "'other' cannot be written", words)
    assert store.get("key")[0] == b"old"
    assert [e.key for e in store.entries()] == ["key"]
    store.put("key", b"there is room again")


def test_full_disk_is_told_by_a_download(store, small_disk, tmp_path):
    (tmp_path / "big").write_bytes(noise(3 * MB))
    store.upload(tmp_path / "big", "key")
    complaint(lambda: store.download("key", small_disk / "back"), "the disk is full")
    assert list(small_disk.iterdir()) == []


def test_disk_that_is_read_only_is_told(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    complaint(DirectoryStore(path=small_disk).open("run").check, "cannot be used", "read-only")


def test_path_that_is_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    complaint(DirectoryStore(path=tmp_path / "file").open("run").check, "a part of the path is a file")


def test_key_that_is_a_folder_is_told(store):
    store.put("a/b", b"x")
    complaint(lambda: store.put("a", b"x"), "'a' cannot be written", "there is a folder of that name")
    complaint(lambda: store.put("a/b/c", b"x"), "'a/b/c' cannot be written", "file")
    store.delete(["a"])
    assert store.get("a/b")[0] == b"x"


@pytest.mark.parametrize("before", [None, b"what was there before"])
def test_kill_in_mid_upload_leaves_nothing_half_visible(store, tmp_path, before):
    if before is not None:
        store.put("key", before)
    slow = tmp_path / "slow"
    os.mkfifo(slow)
    drafts = store.root / ".ziggurat" / "drafts"

    def feed():
        with slow.open("wb", buffering=0) as pipe:
            pipe.write(noise(3 * MB // 2))
            until(lambda: any(p.stat().st_size for p in drafts.glob(".*.part")))
            held.append(os.dup(pipe.fileno()))  # the other end never comes

    held = []
    upload_killed_when(store.url, slow, "key", feed)
    os.close(held[0])
    found = store.get("key")
    assert (found and found[0]) == before
    assert [e.key for e in store.entries()] == ([] if before is None else ["key"])
    assert store.tidy() == 0
    assert store.tidy(-5) == 1
    assert list(drafts.iterdir()) == []


def test_old_content_is_whole_if_a_kill_comes_between_checksum_and_file(store, tmp_path, monkeypatch):
    (tmp_path / "one").write_bytes(b"one")
    (tmp_path / "two").write_bytes(b"two")
    store.upload(tmp_path / "one", "key")

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "utime", killed)  # the last thing before a draft takes its place
    with pytest.raises(KeyboardInterrupt):
        store.upload(tmp_path / "two", "key")
    monkeypatch.undo()
    assert store.download("key", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"one"
    store.upload(tmp_path / "two", "key")
    assert store.get("key")[0] == b"two"


def test_lock_that_is_never_given_back_is_told(store, monkeypatch):
    monkeypatch.setattr(locks, "LOCK_S", 0.05)
    store.put("key", b"x")
    with locks.held(store.root / ".ziggurat" / "lock", "test"):
        complaint(lambda: store.put("key", b"y"), "another process has held its lock for 0.05 s")
    assert store.get("key")[0] == b"x"


def test_links_and_drafts_of_others_are_not_listed(store, tmp_path):
    store.put("good", b"x")
    (tmp_path / "secret").write_text("s")
    (store.root / "link").symlink_to(tmp_path / "secret")
    (store.root / "folder").symlink_to(tmp_path)
    (store.root / ".good.123.part").write_text("half")
    assert [e.key for e in store.entries()] == ["good"]


def test_files_can_be_read_by_others_as_they_are(store, tmp_path):
    (tmp_path / "file").write_bytes(b"plain")
    store.upload(tmp_path / "file", "trials/00001/rung-0.ckpt")
    assert (store.root / "trials" / "00001" / "rung-0.ckpt").read_bytes() == b"plain"
    mask = os.umask(0)
    os.umask(mask)
    assert (store.root / "trials" / "00001" / "rung-0.ckpt").stat().st_mode & 0o777 == 0o666 & ~mask


def test_damaged_checksum_names_the_file_to_remove(store, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    store.upload(tmp_path / "file", "key")
    next(p for p in (store.root / ".ziggurat" / "sums").rglob("*") if p.is_file()).write_text("{")
    complaint(lambda: store.download("key", tmp_path / "back"), "the checksum of 'key' is damaged; remove /")
