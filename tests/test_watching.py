"""The watchdog: it tells of a silence once, whoever watches, and of its end; with made-up clocks."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real import until
from tests.servers.mailbox import Hook
from ziggurat import lease, watching
from ziggurat.domain import RunStatus
from ziggurat.errors import SpecError
from ziggurat.events import Alert, Body, Event, RunFinished, RunStarted, to_line
from ziggurat.journal_chain import Link, key_of
from ziggurat.lease import LEASE, WATCH
from ziggurat.stores import Directory
from ziggurat.watch_post import Post
from ziggurat.watching import Watcher

DAY_S = 86_400.0
STARTED = RunStarted("toy", "0", "a" * 64)


class World:
    """A directory of runs, a clock, and controllers that are made to do what controllers do."""

    def __init__(self, folder: Path, url: str) -> None:
        self.place, self.url, self.now = folder / "runs", url, 1000.0
        self.wall = 1_800_000_000.0
        self.environment = {"HOOK": url}
        self.leases: dict[str, lease.Lease] = {}

    def run(self, name: str = "toy-1", **rule: Any) -> Path:
        """A run that somebody drives."""
        folder = self.place / name
        folder.mkdir(parents=True)
        alerts = {"channels": {"ops": "${HOOK}"}, "rules": {"controller_crashed": rule}}
        # the rest of the spec may need what this machine does not have
        (folder / "spec.yaml").write_text(yaml.safe_dump({"alerts": alerts, "data": "${NOT_HERE}"}))
        self.journal(folder, STARTED)
        self.live(folder, anew=True)
        return folder

    def journal(self, folder: Path, *bodies: Body) -> None:
        lines = "".join(to_line(Event(i, self.wall, folder.name, b)) + "\n" for i, b in enumerate(bodies))
        (folder / "journal.jsonl").write_text(lines)

    def live(self, folder: Path, *, anew: bool = False, **changes: Any) -> None:
        """A sign of life."""
        if anew:
            fresh = lease.fresh(folder.name, 5.0)
            self.leases[folder.name] = replace(fresh, token=os.urandom(4).hex(), utc=self.wall)
        before = self.leases[folder.name]
        after = replace(before, count=before.count + 1, utc=self.wall, **changes)
        self.leases[folder.name] = after
        (folder / LEASE).write_bytes(after.to_bytes())

    def watcher(self, place: Path | None = None, urls: tuple[str, ...] = ()) -> Watcher:
        post = Post(urls, self.environment)
        return Watcher(str(place or self.place), post, 10.0, lambda: self.now, lambda: self.wall)

    def pass_(self, seconds: float, *watchers: Watcher, step: float = 1.0) -> None:
        """Let time go by, while watchers look on."""
        for _ in range(int(seconds / step)):
            self.now += step
            self.wall += step
            for watcher in watchers:
                watcher.look()


@pytest.fixture
def world(tmp_path: Path, hook: Hook) -> World:
    return World(tmp_path, hook.url)


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / WATCH).read_text())
    return found


def confirmed(watcher: Watcher, folder: Path) -> None:
    """Wait until what was sent has arrived and is noted."""

    def noted() -> bool:
        list(watcher.confirmed())
        return bool((folder / WATCH).exists() and told(folder)["state"] in {"told", "over"})

    until(noted)


def silent(world: World, hook: Hook, **rule: Any) -> tuple[Path, Watcher]:
    """A run whose silence has been told."""
    folder, watcher = world.run(**rule), world.watcher()
    watcher.look()
    world.pass_(31, watcher)
    hook.wait_for(1)
    confirmed(watcher, folder)
    return folder, watcher


def state(watcher: Watcher, name: str = "toy-1") -> str:
    return watcher.runs[name].state


def test_a_silence_is_told_within_the_promised_time_once(world: World, hook: Hook) -> None:
    folder, watcher = world.run(), world.watcher()
    for _ in range(20):
        world.pass_(5, watcher)
        world.live(folder)
    assert state(watcher) == "alive"
    assert hook.messages == []
    world.pass_(30, watcher)  # since the last sign of life
    assert state(watcher) == "silent"
    (message,) = hook.wait_for(1)
    assert message.title == "[toy-1] The controller is silent"
    assert message.kind == "failure"
    assert "ziggurat resume" in message.body
    confirmed(watcher, folder)
    world.pass_(3 * DAY_S, watcher, step=600)
    assert len(hook.messages) == 1


@pytest.mark.parametrize("offset", range(0, 10, 3))
def test_the_promise_holds_whenever_the_watcher_happens_to_look(world: World, offset: int) -> None:
    folder, watcher = world.run(), world.watcher()
    watcher.look()
    world.pass_(20 + offset)
    world.live(folder)
    world.pass_(30, watcher)
    assert state(watcher) == "silent"


def test_a_controller_that_is_only_late_is_not_told(world: World, hook: Hook) -> None:
    folder, watcher = world.run(), world.watcher()
    for _ in range(10):
        world.pass_(12, watcher)
        world.live(folder)
    assert state(watcher) in {"alive", "quiet"}
    assert not (folder / WATCH).exists()


def test_its_end_is_told_when_the_run_is_resumed(world: World, hook: Hook) -> None:
    folder, watcher = silent(world, hook)
    world.live(folder, anew=True)
    world.pass_(12, watcher)
    titles = [m.title for m in hook.wait_for(2)]
    assert titles[1] == "[toy-1] RESOLVED: The controller is silent"
    assert "has resumed the run" in hook.messages[1].body
    assert told(folder)["state"] == "over"
    world.pass_(40, watcher)
    hook.wait_for(3)  # the next silence is another one
    assert told(folder)["raised"] == sorted(told(folder)["raised"])
    assert len(told(folder)["raised"]) == 2


def test_a_controller_that_wakes_up_is_back(world: World, hook: Hook) -> None:
    folder, watcher = silent(world, hook)
    world.live(folder)
    world.pass_(12, watcher)
    assert "The controller is back" in hook.wait_for(2)[1].body


def test_a_watcher_that_starts_again_does_not_repeat_and_tells_the_end(world: World, hook: Hook) -> None:
    folder, _ = silent(world, hook)
    again = world.watcher()
    world.pass_(60, again)
    assert state(again) == "silent"
    assert len(hook.messages) == 1
    world.live(folder, anew=True)
    world.watcher().look()  # one more, which had seen nothing of it
    assert hook.wait_for(2)[1].title.startswith("[toy-1] RESOLVED")


def test_of_several_watchers_one_tells(world: World, hook: Hook) -> None:
    folder = world.run()
    watchers = [world.watcher() for _ in range(3)]
    world.pass_(60, *watchers)
    hook.wait_for(1)
    for _ in range(8):  # whoever has told tells the end, too
        world.live(folder, anew=_ == 0)
        world.pass_(12, *watchers)
    hook.wait_for(2)
    assert [m.kind for m in hook.messages] == ["failure", "success"]


def test_of_two_watchers_that_see_nothing_told_at_the_same_moment_one_tells(world: World, hook: Hook) -> None:
    folder = world.run()

    class Blind(Directory):
        """Answers as it would have a moment ago."""

        def get(self, key: str) -> tuple[bytes, str] | None:
            return None if key == WATCH else super().get(key)

    watchers = [world.watcher() for _ in range(2)]
    for watcher in watchers:
        watcher.look()
        known = watcher.runs["toy-1"]
        known.home = replace(known.home, store=Blind(folder))
    world.pass_(22, *watchers)
    hook.wait_for(1)
    for watcher in watchers:
        list(watcher.confirmed())
        assert watcher._post.close(5.0) == 0
    assert len(hook.messages) == 1


def test_a_watcher_that_dies_before_it_has_told_is_replaced(world: World, hook: Hook) -> None:
    folder = world.run()
    first, second = world.watcher(), world.watcher()
    first._post.send = lambda *_: None  # type: ignore[method-assign]
    world.pass_(31, first)
    assert told(folder)["state"] == "claimed"
    world.pass_(50, second)
    assert hook.messages == []
    world.pass_(60, second)
    hook.wait_for(1)
    confirmed(second, folder)


def test_it_is_told_again_only_if_the_rule_says_so(world: World, hook: Hook) -> None:
    folder, watcher = silent(world, hook, repeat_hours=2)
    world.pass_(7200 - 60, watcher, step=10)
    assert len(hook.messages) == 1
    world.pass_(120, watcher, step=10)
    hook.wait_for(2)
    assert len(told(folder)["raised"]) == 2


@pytest.mark.parametrize(
    "bodies",
    [
        (STARTED, RunFinished(RunStatus.COMPLETED)),
        (STARTED, RunFinished(RunStatus.INTERRUPTED), Alert("a", "info", '"type":"run_started"')),
    ],
)
def test_a_run_that_has_ended_is_not_missed(world: World, hook: Hook, bodies: Any) -> None:
    folder, watcher = world.run(), world.watcher()
    world.journal(folder, *bodies)
    world.pass_(60, watcher)
    assert state(watcher) == "ended"
    assert not (folder / WATCH).exists()


def test_a_controller_that_ends_without_finishing_is_told_at_once(world: World, hook: Hook) -> None:
    folder, watcher = world.run(), world.watcher()
    watcher.look()
    world.live(folder, ended=True)
    world.pass_(11, watcher)
    assert "ended without finishing" in hook.wait_for(1)[0].title


def test_one_that_ends_with_a_status_is_well(world: World) -> None:
    folder, watcher = world.run(), world.watcher()
    world.live(folder, ended=True, status="completed")
    world.pass_(60, watcher)
    assert state(watcher) == "ended"


def test_a_run_that_has_been_dead_for_long_is_no_news(world: World) -> None:
    folder = world.run()
    world.wall += DAY_S + 1
    watcher = world.watcher()
    world.pass_(120, watcher)
    assert state(watcher) == "dead"
    assert not (folder / WATCH).exists()
    world.live(folder, anew=True)
    world.pass_(61, watcher)
    assert state(watcher) in {"alive", "quiet", "silent"}


def test_clocks_that_differ_do_not_matter(world: World) -> None:
    folder, watcher = world.run(), world.watcher()
    for _ in range(10):
        world.wall -= 4000  # the run's clock is hours behind
        world.live(folder)
        world.wall += 4000
        world.pass_(10, watcher)
    assert state(watcher) == "alive"


def test_a_rule_that_is_switched_off_or_slower_is_heeded(world: World, hook: Hook) -> None:
    world.run("off", enabled=False)
    world.run("slow", silence_s=300)
    watcher = world.watcher()
    world.pass_(280, watcher)
    assert hook.messages == []
    world.pass_(20, watcher)
    assert [m.title for m in hook.wait_for(1)] == ["[slow] The controller is silent"]


def test_addresses_of_the_watcher_take_the_place_of_the_runs(world: World, hook: Hook) -> None:
    other = Hook()
    world.run()
    watcher = world.watcher(urls=(other.url,))
    world.pass_(40, watcher)
    other.wait_for(1)
    assert hook.messages == []
    other.close()


def test_a_variable_that_is_not_set_here_is_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    folder = world.run()
    world.environment.clear()
    watcher = world.watcher()
    world.pass_(40, watcher)
    assert "environment variable HOOK is not set" in caplog.text
    assert told(folder)["state"] == "told"  # it was told on standard output, which is all there is
    assert world.url not in caplog.text


def test_a_run_in_a_store_is_watched_by_its_chain(world: World, hook: Hook) -> None:
    folder = world.run()
    line = (folder / "journal.jsonl").read_bytes()
    (folder / "journal.jsonl").unlink()
    store = Directory(folder)
    store.put(key_of(0), Link(0, 1, "w", "who", 0).to_bytes())
    store.put(key_of(1), Link(1, 1, "w", "who", 0, (line,)).to_bytes())
    watcher = Watcher(
        folder.as_uri(), Post((), world.environment), 10.0, lambda: world.now, lambda: world.wall
    )
    world.pass_(40, watcher)
    assert "silent" in hook.wait_for(1)[0].title


def test_damaged_files_are_told_and_stop_nothing(world: World, hook: Hook, caplog: Any) -> None:
    broken, folder = world.run("broken"), world.run()
    (broken / LEASE).write_text("{")
    (folder / WATCH).write_text("nonsense")
    watcher = world.watcher()
    world.pass_(40, watcher)
    hook.wait_for(1)
    assert "broken/lease.json: cannot be read" in caplog.text
    assert "it is written anew" in caplog.text


def test_runs_come_and_go(world: World) -> None:
    world.place.mkdir()
    watcher = world.watcher()
    watcher.look()
    assert watcher.runs == {}
    folder = world.run()
    (world.place / ".draft.part").mkdir()
    (world.place / ".draft.part" / "spec.yaml").write_text("")
    world.pass_(11, watcher)
    assert set(watcher.runs) == {"toy-1"}
    for path in folder.iterdir():
        path.unlink()
    world.pass_(11, watcher)
    assert watcher.runs == {}


def test_a_place_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(SpecError, match="no such directory"):
        world.watcher(world.place / "none").look()


def test_the_journal_is_never_written(world: World, hook: Hook) -> None:
    folder, _ = silent(world, hook)
    assert (folder / "journal.jsonl").read_text().count("\n") == 1


def test_rows_are_plain(world: World) -> None:
    world.run()
    watcher = world.watcher()
    watcher.look()
    (row,) = watching.rows(watcher.runs.values())
    assert row | {"last_utc": 0, "host": "h", "pid": 1} == {
        "run": "toy-1", "state": "alive", "host": "h", "pid": 1, "last_utc": 0,
    }  # fmt: skip


def test_a_channel_that_is_down_gets_one_alarm_when_it_is_back(world: World, hook: Hook) -> None:
    hook.gate.clear()
    folder, watcher = world.run(), world.watcher()
    world.pass_(600, watcher, step=5)
    assert told(folder)["state"] == "claimed"
    hook.gate.set()
    hook.wait_for(1)
    confirmed(watcher, folder)
    world.pass_(600, watcher, step=5)
    assert len(hook.messages) == 1
