"""The watchdog over a store: a run whose machine is gone is told from anywhere, by one watcher."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.real import create, plain, until
from tests.servers.mailbox import Hook
from ziggurat.lease import LEASE, from_bytes
from ziggurat.watch_post import Post
from ziggurat.watching import Watcher

pytestmark = pytest.mark.slow


def parent(url: str) -> str:
    """The store's own URL, of one of its runs."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rpartition("/")[0]))


def test_one_of_several_watchers_tells_of_a_run_in_a_store(setting, tmp_path: Path, hook: Hook) -> None:
    url = setting.open("run").url
    run = create(tmp_path / "runs", plain(store=parent(url), alerts={"urls": ["${HOOK}", hook.url]}))
    store = run.store
    assert store is not None
    assert not from_bytes(store.get(LEASE)[0]).ended
    watchers = [Watcher(parent(url), Post((), {"HOOK": hook.url}), 1.0) for _ in range(3)]
    for watcher in watchers:
        watcher.look()
        assert watcher.runs[run.run_id].state == "alive"
    run.close()  # without having finished
    assert from_bytes(store.get(LEASE)[0]).ended

    def heard() -> bool:
        for watcher in watchers:
            for known in watcher.runs.values():
                known.next = 0.0
            watcher.look()
        return len(hook.messages) >= 2

    until(heard)
    for _ in range(3):
        heard()
    assert (
        hook.titles == [f"[{run.run_id}] The controller has ended without finishing the run"] * 2
    )  # two addresses
    assert {w.runs[run.run_id].state for w in watchers} == {"silent"}
