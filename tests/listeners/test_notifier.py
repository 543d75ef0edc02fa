"""Delivery of alerts to a real server on loopback."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ziggurat.events import Alert
from ziggurat.listeners.notifier import Notifier

LONG_S = 30.0


class Inbox(ThreadingHTTPServer):
    """Keeps what it is sent; refuses the first `refusals` requests, and answers only once `gate` is open."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[dict[str, Any]] = []
        self.refusals = 0
        self.requests = 0
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_address[1]}/hunter2"


class Handler(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.gate.wait(LONG_S)
        self.server.requests += 1
        refused = self.server.requests <= self.server.refusals
        if not refused:
            self.server.received.append(body)
        self.send_response(500 if refused else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    server = Inbox()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


ALERTS = [Alert(f"slow_trial/{i}", "warning", f"Trial {i} is slow", "60 s") for i in range(3)]


def test_each_alert_arrives_once(run: Any, inbox: Inbox) -> None:
    run.begin()
    run.add(*ALERTS, ALERTS[0])
    notifier = Notifier([inbox.url])
    run.feed(notifier)
    assert notifier.close(LONG_S) == 0
    assert [m["title"] for m in inbox.received] == [f"[toy-1] Trial {i} is slow" for i in range(3)]
    assert inbox.received[0]["message"] == "60 s"
    assert inbox.received[0]["type"] == "warning"


def test_a_refused_alert_is_sent_again(run: Any, inbox: Inbox) -> None:
    inbox.refusals = 2
    run.add(ALERTS[0])
    notifier = Notifier([inbox.url], pauses_s=(0.01, 0.01))
    run.feed(notifier)
    assert notifier.close(LONG_S) == 0
    assert inbox.requests == 3
    assert len(inbox.received) == 1


def test_attempts_end_and_the_log_says_so_without_the_address(
    run: Any, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    inbox.refusals = 100
    run.add(ALERTS[0])
    with caplog.at_level(logging.DEBUG):
        notifier = Notifier([inbox.url], pauses_s=(0.01,))
        run.feed(notifier)
        notifier.close(LONG_S)
    assert inbox.requests == 2
    assert "alert 'slow_trial/0' did not reach channel 0 (scheme 'json')" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_dead_channel_does_not_hold_up_a_living_one(run: Any, inbox: Inbox) -> None:
    run.add(ALERTS[0])
    notifier = Notifier(["json://127.0.0.1:9/", inbox.url], pauses_s=(LONG_S,))
    run.feed(notifier)
    # the dead one is waiting for its next attempt
    assert notifier.close(3) == 1
    assert len(inbox.received) == 1


def test_a_slow_channel_holds_up_neither_the_run_nor_its_end(run: Any, inbox: Inbox) -> None:
    inbox.gate.clear()
    run.add(*(Alert(str(i), "info", "x") for i in range(300)))
    notifier = Notifier([inbox.url])
    run.feed(notifier)
    # the queue holds 100; the rest is only logged
    assert 100 <= notifier.close(0.2) <= 101
    assert inbox.received == []


def test_alerts_of_earlier_sessions_are_not_sent_again(run: Any, inbox: Inbox) -> None:
    run.add(ALERTS[0])
    notifier = Notifier([inbox.url])
    notifier.replay(run.events)
    run.add(ALERTS[0], ALERTS[1])
    run.feed(notifier)
    notifier.close(LONG_S)
    assert [m["title"] for m in inbox.received] == ["[toy-1] Trial 1 is slow"]


def test_alerts_reach_the_log_without_any_channel(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    run.add(Alert("plan_exceeded", "critical", "Too dear", "2 USD"))
    with caplog.at_level(logging.INFO, "ziggurat"):
        run.feed(Notifier([]))
    assert [(r.levelname, r.message) for r in caplog.records] == [("ERROR", "Too dear: 2 USD")]
