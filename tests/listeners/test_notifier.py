"""Delivery of alerts to real servers on loopback."""

import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.listeners.desk import Desk
from tests.servers.mailbox import Hook, Mailbox
from ziggurat.choices import Values
from ziggurat.domain import Candidate, Fidelity, RunStatus
from ziggurat.events import (
    Alert,
    Amended,
    Decided,
    RunFinished,
    RunStarted,
    SegmentFinished,
    StageFinished,
    TrialProposed,
)
from ziggurat.listeners import channels
from ziggurat.listeners.alert_rules import OVER, Rules
from ziggurat.listeners.alerts import Alerts
from ziggurat.listeners.channels import CAPACITY
from ziggurat.listeners.notifier import Notifier

LONG_S = 30.0
SOON = (0.01, 0.02)
ALERTS = [Alert(f"slow_trial/{i}", "warning", f"Trial {i} is slow", "60 s") for i in range(3)]


def to(*urls: str, **more: Any) -> Alerts:
    return Alerts(urls=list(urls), **more)


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"json://127.0.0.1:{server.getsockname()[1]}/hunter2"


def test_an_alert_arrives_by_mail_and_by_webhook(run: Any, hook: Hook, mailbox: Mailbox) -> None:
    text = "3 < 4 & <b>no HTML</b>"
    run.add(Alert("a", "critical", "Zu viel für heute", text))
    notifier = Notifier(to(hook.url, mailbox.url))
    run.feed(notifier)
    assert notifier.close(LONG_S) == 0
    for inbox in (hook, mailbox):
        (message,) = inbox.messages
        assert message.title == "[toy-1] Zu viel für heute"
        assert text in message.body  # with times beyond a minute ago, that of the alert follows
        assert "(2023-11-14 22:13 UTC)" in message.body
    assert hook.messages[0].kind == "failure"


def test_an_end_is_titled_so(run: Any, hook: Hook) -> None:
    run.add(ALERTS[0], Alert("slow_trial/0", "warning", "Trial 0 is slow", "over", state="resolved"))
    notifier = Notifier(to(hook.url))
    run.feed(notifier)
    notifier.close(LONG_S)
    assert hook.titles == ["[toy-1] Trial 0 is slow", "[toy-1] RESOLVED: Trial 0 is slow"]
    assert [m.kind for m in hook.messages] == ["warning", "success"]


def test_severities_and_rules_decide_where_an_alert_goes(run: Any, hook: Hook) -> None:
    other = Hook()
    settings = Alerts.model_validate(
        {
            "channels": {"all": hook.url, "dear": {"url": other.url, "severities": ["critical"]}},
            "rules": {"queued_job": {"channels": ["dear"]}},
        }
    )
    run.add(
        Alert("a", "info", "a"),
        Alert("b", "critical", "b"),
        Alert("c", "warning", "c", rule="queued_job"),
    )
    notifier = Notifier(settings)
    run.feed(notifier)
    assert notifier.close(LONG_S) == 0
    other.close()
    assert hook.titles == ["[toy-1] a", "[toy-1] b"]
    assert other.titles == ["[toy-1] b", "[toy-1] c"]


def test_a_refused_alert_is_sent_again(run: Any, hook: Hook) -> None:
    hook.refusals = 4  # Apprise itself tries twice
    run.add(ALERTS[0])
    notifier = Notifier(to(hook.url), SOON)
    run.feed(notifier)
    assert len(hook.wait_for(1)) == 1
    assert notifier.close(LONG_S) == 0
    assert len(hook.messages) == 1


def test_a_channel_that_comes_back_gets_everything_in_order(
    run: Any,
    hook: Hook,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hook.refusals = 12
    run.add(*ALERTS)
    notifier = Notifier(to(hook.url), (0.01,))
    run.feed(notifier)
    hook.wait_for(3)
    assert notifier.close(LONG_S) == 0
    assert sorted(hook.titles) == [f"[toy-1] Trial {i} is slow" for i in range(3)]
    assert caplog.text.count("does not take alerts") == 1
    assert caplog.text.count("takes alerts again") == 1
    assert "hunter2" not in caplog.text


def test_a_message_that_alone_is_refused_is_given_up(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    picky = Hook()
    take = picky.take
    monkeypatch.setattr(picky, "take", lambda title, *rest: "poison" not in title and take(title, *rest))
    run.add(Alert("p", "info", "poison"), *ALERTS)
    notifier = Notifier(to(picky.url), (0.01, 0.01))
    run.feed(notifier)
    picky.wait_for(3)
    run.add(Alert("late", "info", "late"))
    run.feed(notifier, since=4)
    picky.wait_for(4)
    assert notifier.close(LONG_S) == 1
    assert sorted(Counter(picky.titles).values()) == [1, 1, 1, 1]
    picky.close()


def test_a_dead_channel_does_not_hold_up_a_living_one(run: Any, hook: Hook) -> None:
    run.add(ALERTS[0])
    notifier = Notifier(to("json://127.0.0.1:9/", hook.url), pauses_s=(LONG_S,))
    run.feed(notifier)
    hook.wait_for(1)
    begun = time.monotonic()
    assert notifier.close(LONG_S) == 1
    assert time.monotonic() - begun < LONG_S / 2  # one more attempt, and no patience with what is dead


def test_what_has_not_arrived_is_told_without_the_address(
    run: Any,
    hook: Hook,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hook.refusals = 10_000
    run.add(*ALERTS)
    with caplog.at_level(logging.DEBUG):
        notifier = Notifier(to(hook.url), SOON)
        run.feed(notifier)
        assert notifier.close(LONG_S) == 3
    assert "3 alerts have not reached channel 'urls[0]' (scheme 'json')" in caplog.text
    assert "resuming the run sends them" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_black_hole_takes_no_time_from_the_run(run: Any, black_hole: str) -> None:
    run.add(*(Alert(str(i), "info", "x") for i in range(300)))
    plain, dead = Notifier(to()), Notifier(to(black_hole))
    took = []
    for notifier in (plain, dead):
        begun = time.monotonic()
        run.feed(notifier)
        took.append(time.monotonic() - begun)
    assert took[1] < took[0] + 0.5  # waiting for one answer alone takes 4 s
    assert dead.close(0.1) == 300


def test_a_queue_has_an_end(run: Any, black_hole: str) -> None:
    run.add(*(Alert(str(i), "info", "x") for i in range(CAPACITY + 5)))
    notifier = Notifier(to(black_hole))
    run.feed(notifier)
    assert notifier.close(0.1) == CAPACITY + 5


def sitting(run: Any, url: str) -> Notifier:
    """A controller that takes the run up."""
    notifier = Notifier(to(url), SOON)
    notifier.replay(run.events)
    return notifier


def test_a_resumed_run_sends_what_has_not_arrived_and_nothing_twice(run: Any, hook: Hook) -> None:
    first = Notifier(to(hook.url), SOON)
    run.add(ALERTS[0])
    run.feed(first)
    assert first.close(LONG_S) == 0
    run.add(*first.delivered())
    run.add(ALERTS[1])  # and here the controller dies
    second = sitting(run, hook.url)
    assert second.close(LONG_S) == 0
    run.add(*second.delivered())
    assert sitting(run, hook.url).close(LONG_S) == 0
    assert hook.titles == ["[toy-1] Trial 0 is slow", "[toy-1] Trial 1 is slow"]


def test_of_what_nobody_heard_only_the_latest_word_counts(run: Any, hook: Hook) -> None:
    over = {"text": "over", "state": "resolved"}
    run.add(
        Alert("gone", "warning", "gone"), Alert("gone", "warning", "gone", **over),
        Alert("dear", "critical", "dear"), Alert("dear", "critical", "dear", **over),
        Alert("twice", "warning", "twice", "first"), Alert("twice", "warning", "twice", "second"),
        Alert("heard", "warning", "heard"),
    )  # fmt: skip
    run.add(
        Decided("delivered", "urls[0]", facts={"alerts": [6]}), Alert("heard", "warning", "heard", **over)
    )
    assert sitting(run, hook.url).close(LONG_S) == 0
    assert sorted(hook.titles) == ["[toy-1] RESOLVED: dear", "[toy-1] RESOLVED: heard", "[toy-1] twice"]
    assert next(m for m in hook.messages if "twice" in m.title).body.startswith("second")


def test_alerts_reach_the_log_without_any_channel(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    run.add(Alert("over_budget", "critical", "Too dear", "2 USD"))
    run.add(Alert("over_budget", "critical", "Too dear", "more", state="resolved"))
    with caplog.at_level(logging.INFO, "ziggurat"):
        run.feed(Notifier(to()))
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("ERROR", "Too dear: 2 USD"),
        ("INFO", "resolved: Too dear: more"),
    ]


CHOICES = {f"c{i}": Values(values=[0, 1, 2, 3]) for i in range(8)}


def provoke(run: Any) -> None:
    """A story in which every rule speaks once, and all that lasts comes to its end."""
    on: dict[str, Any] = {name: {} for name in ("stage_finished", "run_finished", "idle_workers")}
    desk = Desk(run, CHOICES, no_improvement={"hours": 2}, slow_trial={}, unknown_utilisation={}, **on)
    run.begin()
    run.add(Decided("gate", "go", facts={"tau": 0.1, "gate_tau": 0.2}), Decided("gate", "stop", reason="tau"))
    run.add(Decided("approval", "wanted"), Decided("budget", "stop", reason="limit"))
    for number in range(20):
        run.add(TrialProposed(number, number, "search", Candidate({"c0": 0}), number, (Fidelity(3),)))
    for number in range(5):
        run.fail(number)
    run.train(5, seconds=10)
    run.train(6, seconds=10)
    run.train(7, seconds=10, cost_usd=2.0)
    desk.money(limit=1.0, plan=1.0).see(store_down=True, tracking_down_s=301.0, workers=9)
    desk.tell()  # nothing could be read of what was used, so far
    slow, queued = run.plan(8, forecast_s=10), run.plan(9)
    run.clock += 3 * 3600
    usage = {"gpu_utilisation": 0.1}
    key = run.plan(10)
    run.clock += 700
    run.add(SegmentFinished(key, 10, 700.0, 0.0, usage=usage))
    desk.see(elapsed={slow: 11_000.0, queued: 0.0})
    desk.tell()
    run.add(SegmentFinished(slow, 8, 1e4, 0.0), SegmentFinished(queued, 9, 1.0, 0.0))
    run.add(RunStarted("toy", "0", "", resumed=True), Decided("approval", "approved"))
    run.add(
        StageFinished("validate", "failed"), StageFinished("search", "ok"), Amended({"budget.limit_usd": 9})
    )
    desk.money(limit=9.0, plan=9.0).see(store_down=False, tracking_down_s=0.0, elapsed={})
    for number in range(11, 19):
        run.train(number)
    run.clock += 700
    run.add(RunFinished(RunStatus.COMPLETED))
    desk.tell()
    run.clock += 1
    run.add(RunFinished(RunStatus.FAILED, "why"))
    desk.tell()


def test_every_rule_speaks_once_and_every_word_arrives_once(
    run: Any, hook: Hook, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "PACE_S", 0.01)
    provoke(run)
    told = [e.body for e in run.events if isinstance(e.body, Alert)]
    raised = Counter(a.rule for a in told if a.state == "raised")
    assert raised == Counter([*Rules.model_fields])
    assert {a.rule for a in told if a.state == "resolved"} == set(OVER)
    notifier = Notifier(to(hook.url, mailbox.url))
    run.feed(notifier)
    assert notifier.close(LONG_S) == 0
    expected = Counter(f"[toy-1] {'RESOLVED: ' if a.state == 'resolved' else ''}{a.title}" for a in told)
    assert set(expected.values()) == {1}
    assert Counter(hook.titles) == expected
    assert Counter(mailbox.titles) == expected
