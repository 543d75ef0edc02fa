"""What every store must do, whatever keeps the bytes."""

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ziggurat.stores import ABSENT, ConflictError, Directory, StoreError, open_url

MB = 1 << 20
RACERS = 16


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def files(tmp_path):
    """Write a file with some content; gives its path."""

    def write(content, name="file"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def fetched(store, key, tmp_path):
    path = tmp_path / "fetched" / "file"
    assert store.download(key, path)
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    return path.read_bytes()


def test_a_check_passes_and_leaves_nothing(store):
    store.check()
    assert list(store.entries()) == []


def test_what_was_put_can_be_read_with_its_version(store):
    version = store.put("trials/00003/a b+ä%.json", b"one")
    assert version
    assert store.get("trials/00003/a b+ä%.json") == (b"one", version)


def test_what_is_not_there_is_none(store, tmp_path):
    assert store.get("trials/00003") is None
    store.put("trials/00003/x", b"")
    assert store.get("trials/00003") is None
    assert store.get("trials/00003/y") is None
    assert store.get("trials/00003/x/y") is None
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    assert not store.download("trials/00003/y", path)
    assert not store.download("trials/00003", path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir() if p.name != "a store"] == ["kept"]


def test_version_changes_with_the_content(store):
    versions = [store.put("key", data) for data in (b"one", b"two", b"3")]
    assert len(set(versions)) == 3
    assert store.get("key") == (b"3", versions[-1])


def test_create_never_overwrites(store):
    store.put("key", b"first", only_if=ABSENT)
    with pytest.raises(ConflictError, match="'key' first"):
        store.put("key", b"second", only_if=ABSENT)
    assert store.get("key")[0] == b"first"


def test_write_on_a_version_fails_if_it_is_another_by_now(store):
    old = store.put("key", b"one")
    new = store.put("key", b"two", only_if=old)
    with pytest.raises(ConflictError):
        store.put("key", b"three", only_if=old)
    assert store.get("key") == (b"two", new)
    with pytest.raises(ConflictError):
        store.put("other", b"three", only_if=new)
    assert store.get("other") is None


def test_deleted_key_can_be_created_again_but_not_replaced(store):
    version = store.put("key", b"one", only_if=ABSENT)
    store.delete(["key", "never/there"])
    assert store.get("key") is None
    with pytest.raises(ConflictError):
        store.put("key", b"two", only_if=version)
    store.put("key", b"two", only_if=ABSENT)


@pytest.mark.parametrize("size", [0, 1000, 5 * MB, 5 * MB + 1, 20 * MB])
def test_file_of_any_size_makes_the_round_trip(store, files, tmp_path, size):
    content = noise(size)
    store.upload(files(content), "trials/00001/rung-0.ckpt")
    assert fetched(store, "trials/00001/rung-0.ckpt", tmp_path) == content
    assert [(e.key, e.size) for e in store.entries()] == [("trials/00001/rung-0.ckpt", size)]


def test_files_and_small_things_are_the_same_to_readers(store, files, tmp_path):
    store.upload(files(b"uploaded"), "key")
    assert store.get("key")[0] == b"uploaded"
    store.put("key", b"put")
    assert fetched(store, "key", tmp_path) == b"put"
    store.upload(files(b"again"), "key")
    assert store.get("key")[0] == b"again"


def test_download_replaces_what_was_there(store, tmp_path):
    store.put("key", b"new")
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "file").write_bytes(b"much longer than that")
    assert fetched(store, "key", tmp_path) == b"new"


@pytest.mark.parametrize("size", [100, 6 * MB])
def test_damaged_file_is_refused_and_nothing_is_left(store, files, spoil, tmp_path, size):
    content = noise(size)
    store.upload(files(content), "key")
    spoil(store, "key", content[:-1] + bytes([content[-1] ^ 1]))
    path = tmp_path / "fetched" / "file"
    with pytest.raises(StoreError, match=r"'key' does not have the checksum .* restore it, or delete it"):
        store.download("key", path)
    assert list(path.parent.iterdir()) == []
    with pytest.raises(StoreError, match="checksum"):
        store.get("key")


def test_file_that_cannot_be_read_is_named(store, tmp_path):
    with pytest.raises(StoreError, match="no-such-file: it cannot be read for 'key'"):
        store.upload(tmp_path / "no-such-file", "key")
    assert list(store.entries()) == []


def test_entries_come_in_the_order_of_keys_under_a_prefix(store):
    names = ["b/z", "b/a.txt", "b/a/c", "b/a-b", "b/ä", "b/A", "a", "b/.hidden", "c/b/x"]
    versions = {name: store.put(name, name.encode()) for name in names}
    found = list(store.entries())
    assert [e.key for e in found] == sorted(names)
    assert {e.key: e.version for e in found} == versions
    assert all(e.size == len(e.key.encode()) for e in found)
    assert [e.key for e in store.entries("b/")] == sorted(n for n in names if n.startswith("b/"))
    assert [e.key for e in store.entries("b/a")] == ["b/a-b", "b/a.txt", "b/a/c"]
    assert list(store.entries("b/nothing/")) == []
    assert list(store.entries("../")) == []


def test_a_thousand_keys_and_more_are_listed_and_deleted(store):
    count = 40 if isinstance(store, Directory) else 1003  # S3 lists 1000 at a time
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put(f"trials/{n:05d}/x", b"x"), range(count)))
    keys = [e.key for e in store.entries()]
    assert keys == [f"trials/{n:05d}/x" for n in range(count)]
    store.delete(keys)
    assert list(store.entries()) == []


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", ".", "a/./b", "a\nb", "a\x7f", "a\u202eb", "a\\b",
     ".ziggurat/lock", "x" * 300, "a/" * 500 + "b"],
)  # fmt: skip
def test_key_that_could_lead_elsewhere_is_refused(store, files, tmp_path, key):
    for call in (
        lambda: store.put(key, b"x"),
        lambda: store.get(key),
        lambda: store.upload(files(b"x"), key),
        lambda: store.download(key, tmp_path / "file"),
        lambda: store.delete([key]),
    ):
        with pytest.raises(StoreError, match=r"^key .* name files by a relative path"):
            call()


def test_url_opens_the_same_store(store, setting):
    version = store.put("key", b"x")
    assert setting.url("run-1") == store.url
    assert open_url(store.url).get("key") == (b"x", version)
    assert open_url(store.url).url == store.url


def test_runs_are_told_apart_and_listed(setting):
    assert setting.runs() == []
    for name in ("run-b", "run-a"):
        setting.open(name).put("spec.yaml", name.encode())
        setting.open(name).put("trials/00000/x", b"x")
    assert setting.runs() == ["run-a", "run-b"]
    assert [e.key for e in setting.open("run-a").entries()] == ["spec.yaml", "trials/00000/x"]
    assert open_url(setting.url("run-a").replace("/run-a", "", 1)).folders() == ["run-a", "run-b"]


def outcomes(calls):
    """What calls return that begin at the same moment: values or errors."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        try:
            return call()
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@pytest.mark.parametrize("round_", range(2))
def test_of_racing_creators_exactly_one_wins(setting, round_):
    stores = [setting.open("run-1") for _ in range(RACERS)]
    found = outcomes(
        [lambda s=s, i=i: s.put("epoch", b"%d" % i, only_if=ABSENT) for i, s in enumerate(stores)]
    )
    winners = [i for i, f in enumerate(found) if not isinstance(f, ConflictError)]
    assert len(winners) == 1
    assert stores[0].get("epoch") == (b"%d" % winners[0], found[winners[0]])


@pytest.mark.parametrize("round_", range(2))
def test_of_racing_writers_on_one_version_exactly_one_wins(setting, round_):
    stores = [setting.open("run-1") for _ in range(RACERS)]
    old = stores[0].put("epoch", b"old")
    found = outcomes([lambda s=s, i=i: s.put("epoch", b"%d" % i, only_if=old) for i, s in enumerate(stores)])
    winners = [i for i, f in enumerate(found) if not isinstance(f, ConflictError)]
    assert len(winners) == 1
    assert stores[0].get("epoch") == (b"%d" % winners[0], found[winners[0]])


def test_every_increment_of_racing_counters_counts(setting):
    setting.open("run-1").put("count", b"0")

    def add(store):
        for _ in range(400):
            data, version = store.get("count")
            try:
                store.put("count", b"%d" % (int(data) + 1), only_if=version)
            except ConflictError:
                continue
            return

    outcomes([lambda: add(setting.open("run-1")) for _ in range(8)])
    assert setting.open("run-1").get("count")[0] == b"8"


def test_reader_never_sees_half_of_what_others_write(setting, files, tmp_path):
    contents = [noise(6 * MB + i, seed=i) for i in range(2)]
    hashes = {hashlib.sha256(c).hexdigest() for c in contents}
    paths = [files(c, f"source-{i}") for i, c in enumerate(contents)]
    store, seen = setting.open("run-1"), []
    store.upload(paths[0], "key")

    def write(path):
        for _ in range(2):
            setting.open("run-1").upload(path, "key")

    def read(number):
        for _ in range(3):
            target = tmp_path / f"reader-{number}"
            assert setting.open("run-1").download("key", target)
            seen.append(hashlib.sha256(target.read_bytes()).hexdigest())

    calls = [lambda p=p: write(p) for p in paths] + [lambda n=n: read(n) for n in range(2)]
    outcomes(calls)
    assert set(seen) <= hashes
    assert len(seen) == 6


def test_tidying_takes_nothing_that_is_there(store):
    store.put("key", b"x")
    assert store.tidy(-10) == 0
    assert store.get("key")[0] == b"x"
