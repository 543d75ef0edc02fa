"""The sign of life of a controller: renewed while it lives, ended with the status of the run."""

import gc
import json
import threading
from pathlib import Path

import pytest

from tests.memory_store import MemoryStore, outage
from tests.real import create, events, plain, until
from ziggurat import lease, runs
from ziggurat.domain import RunStatus
from ziggurat.lease import LEASE, WATCH, Keeper, fresh, from_bytes, keep, told_utc


def there(folder: Path) -> lease.Lease:
    return from_bytes((folder / LEASE).read_bytes())


def test_a_lease_is_renewed_in_both_places_and_ended_with_the_status(tmp_path: Path) -> None:
    store = MemoryStore()
    keepers = keep(tmp_path, "toy-1", 0.06, store, lambda: True)
    until(lambda: there(tmp_path).count >= 2)
    until(lambda: from_bytes(store.things[LEASE][0]).count >= 2)
    assert (there(tmp_path).run_id, there(tmp_path).ended) == ("toy-1", False)
    for keeper in keepers:
        keeper.release("completed")
    for data in ((tmp_path / LEASE).read_bytes(), store.things[LEASE][0]):
        last = from_bytes(data)
        assert (last.status, last.ended) == ("completed", True)
    assert [p.name for p in tmp_path.iterdir()] == [LEASE]


def test_a_store_that_hangs_holds_up_neither_the_lease_on_disk_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, gate = MemoryStore(), threading.Event()
    keepers = keep(tmp_path, "toy-1", 0.06, store, lambda: True)
    monkeypatch.setattr(store, "before", lambda verb, key: gate.wait(40))
    monkeypatch.setattr(lease, "GOODBYE_S", 0.1)
    count = there(tmp_path).count
    until(lambda: there(tmp_path).count > count + 2)
    for keeper in keepers:
        keeper.release("completed")
    assert there(tmp_path).ended
    gate.set()


def test_an_outage_is_told_once_and_outlived(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    store.before = outage  # type: ignore[method-assign]
    keeper = Keeper(fresh("toy-1", 0.01), lambda data: store.put(LEASE, data) and None, lambda: True)
    until(lambda: len(store.requests) >= 5)
    store.before = lambda verb, key: None  # type: ignore[method-assign]
    until(lambda: LEASE in store.things)
    keeper.release("completed")
    assert caplog.text.count("the sign of life cannot be written") == 1


def test_a_run_that_is_another_controllers_is_left_alone() -> None:
    store, mine = MemoryStore(), [True]
    keeper = Keeper(fresh("toy-1", 0.01), lambda data: store.put(LEASE, data) and None, lambda: mine[0])
    mine[0] = False
    until(lambda: not keeper._thread.is_alive())
    store.things[LEASE] = (b"of the other", "9")
    keeper.release("running")
    assert store.things[LEASE][0] == b"of the other"


def test_a_run_shows_life_and_says_how_it_stands_at_its_end(tmp_path: Path) -> None:
    run = create(tmp_path, plain())
    first = there(run.folder)
    assert (first.status, first.ended, first.every_s) == ("running", False, 5.0)
    run.finish(RunStatus.INTERRUPTED)
    run.close()
    last = there(run.folder)
    assert (last.status, last.ended, last.token) == ("interrupted", True, first.token)
    again = runs.open_run(run.folder)
    assert there(run.folder).token != first.token
    again.close()
    assert there(run.folder).status == "running"  # its journal says so, too: nobody has finished it
    assert type(events(run.folder)[-1].body).__name__ == "RunStarted"


def test_a_rule_that_is_switched_off_needs_no_lease(tmp_path: Path) -> None:
    run = create(tmp_path, plain(alerts={"rules": {"controller_crashed": {"enabled": False}}}))
    run.close()
    assert not (run.folder / LEASE).exists()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"v": 2}', b'{"v": 1, "pid": 3}'])
def test_what_is_no_lease_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_bytes(data)


def test_what_watchers_have_told_is_read_from_both_places(tmp_path: Path) -> None:
    store = MemoryStore()
    assert told_utc(tmp_path, store) == ()
    (tmp_path / WATCH).write_text(json.dumps({"raised": [1.0, 2.0]}))
    store.put(WATCH, json.dumps({"raised": [3.0]}).encode())
    assert told_utc(tmp_path, store) == (1.0, 2.0, 3.0)
    (tmp_path / WATCH).write_text("[")
    assert told_utc(tmp_path, None) == ()


def test_a_run_that_nobody_holds_any_more_gives_no_sign_of_life(tmp_path: Path) -> None:
    run = create(tmp_path / "runs", plain())
    (keeper,) = run._keepers
    assert keeper._thread.is_alive()
    del run
    gc.collect()
    keeper._thread.join(30)
    assert not keeper._thread.is_alive()
