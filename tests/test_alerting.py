"""Alerts of a real run: raised by the engine's tick, delivered, journalled, and not repeated by a resume."""

from pathlib import Path
from typing import Any

import pytest

from tests.memory_store import MemoryStore, outage
from tests.real import create, events, plain, session
from tests.servers.mailbox import Hook
from ziggurat import runs, stages
from ziggurat.alerting import Alerting
from ziggurat.domain import RunStatus
from ziggurat.events import Alert, Decided
from ziggurat.journal_mirror import Mirror
from ziggurat.lease import WATCH

pytestmark = pytest.mark.slow


def settings(hook: Hook, **rules: Any) -> dict[str, Any]:
    return plain(alerts={"urls": [hook.url], "rules": rules}, retrain={"enabled": False})


def told(folder: Path) -> list[str]:
    return [e.body.key for e in events(folder) if isinstance(e.body, Alert)]


def heard(hook: Hook) -> list[str]:
    return [title.partition("] ")[2] for title in hook.titles]


def test_a_run_tells_each_thing_once_however_often_it_is_resumed(tmp_path: Path, hook: Hook) -> None:
    rules = {"no_improvement": {"hours": None, "usd": 1e-9}, "controller_crashed": {"enabled": True}}
    with session(create(tmp_path, settings(hook, **rules))) as here:
        stages.preflight(here.engine)
        folder = here.run.folder
    assert heard(hook) == ["Stage preflight finished"]
    with session(runs.open_run(folder)) as here:  # the first controller ended without finishing
        stages.validate(here.engine)
        stages.search(here.engine)
        here.run.finish(RunStatus.INTERRUPTED, "stopped on request")
    first = sorted(heard(hook))
    assert "The controller died and was resumed after 0 s" in first
    assert "Stage search finished" in first
    assert "The run has ended: interrupted" in first
    with session(runs.open_run(folder)) as here:
        stages.search(here.engine)
        here.run.finish(RunStatus.COMPLETED)
    assert sorted([*first, "The run has ended: completed"]) == sorted(heard(hook))
    assert len(hook.messages) == len(told(folder))
    delivered = [e.body for e in events(folder) if isinstance(e.body, Decided) and e.body.kind == "delivered"]
    assert sum(len(d.facts["alerts"]) for d in delivered) == len(hook.messages)  # type: ignore[arg-type]
    assert "hunter2" not in (folder / "journal.jsonl").read_text()


def test_a_crash_that_a_watcher_told_is_not_told_by_the_resumed_run(tmp_path: Path, hook: Hook) -> None:
    run = create(tmp_path, settings(hook))
    run.close()
    (run.folder / WATCH).write_text(f'{{"raised": [{run.history.last_utc + 1}]}}')
    again = runs.open_run(run.folder)
    alerting = Alerting(again, again.past(), None)
    assert len(alerting._digest.crashes) == 1
    assert alerting._watch.told_utc == (run.history.last_utc + 1,)
    assert alerting.close(5.0) == []
    again.close()


def test_a_store_that_goes_away_is_told_at_the_end_of_the_run(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    run = create(tmp_path, settings(hook))
    run.mirror = Mirror(store)
    run.mirror.take()
    run.mirror.settle(run.folder / "journal.jsonl")
    with session(run) as here:
        monkeypatch.setattr(store, "before", outage)
        with pytest.raises(runs.Interrupted):
            here.run.record([Alert("x", "info", "something")])
    assert "The store cannot be written" in heard(hook)
