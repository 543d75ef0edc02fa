"""Where alerts arrive in tests: an SMTP sink and a webhook, both real servers on loopback.

`Mailbox` takes e-mail, `Hook` takes JSON by POST. Each has the address that Apprise wants, `url`, and what
has arrived, `messages`. Both can be told to refuse what comes, and to keep whoever delivers waiting.
"""

# ruff: noqa: A005 - nobody imports the standard library's module of this name

from __future__ import annotations

import email
import email.policy
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PATIENCE_S = 40.0
"""Deadline of every wait, far beyond what it takes."""


@dataclass(frozen=True)
class Message:
    """One alert as it arrived; `kind` is what Apprise made of its severity, where the channel tells it."""

    title: str
    body: str
    utc: float
    kind: str = ""


class _Inbox:
    """What both servers share: messages, refusals, and a gate at which deliveries wait."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.requests = 0
        self.refusals = 0
        """So many deliveries are refused before one is taken."""
        self.gate = threading.Event()
        """Closed, it lets no delivery come to its end."""
        self.gate.set()
        self._lock = threading.Lock()

    @property
    def titles(self) -> list[str]:
        """Titles in the order of arrival."""
        return [message.title for message in self.messages]

    def take(self, title: str, body: str, kind: str = "") -> bool:
        """Whether a message is taken; if so, it is kept."""
        self.gate.wait(PATIENCE_S)
        with self._lock:
            self.requests += 1
            if self.requests <= self.refusals:
                return False
            self.messages.append(Message(title, body, time.time(), kind))
            return True

    def wait_for(self, enough: Callable[[list[Message]], object] | int) -> list[Message]:
        """The messages, once there are enough of them; an error if that does not come about."""
        deadline = time.monotonic() + PATIENCE_S
        while not (len(self.messages) >= enough if isinstance(enough, int) else enough(self.messages)):
            assert time.monotonic() < deadline, f"waited in vain; there are {self.titles}"
            time.sleep(0.01)
        return self.messages


class Hook(_Inbox):
    """A webhook that takes Apprise's JSON."""

    def __init__(self, secret: str = "hunter2") -> None:
        super().__init__()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                plain: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                taken = hook.take(plain["title"], plain["message"], plain.get("type", ""))
                self.send_response(200 if taken else 500)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.port = int(self._server.server_address[1])
        self.url = f"json://127.0.0.1:{self.port}/{secret}"

    def close(self) -> None:
        """End the server."""
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Mailbox(_Inbox):
    """An SMTP server that keeps every e-mail; it knows neither users nor encryption."""

    def __init__(self) -> None:
        super().__init__()
        from aiosmtpd.controller import Controller

        self._controller = Controller(self, hostname="127.0.0.1", port=_free_port())
        self._controller.start()
        self.port = int(self._controller.port)
        self.url = (
            f"mailto://127.0.0.1:{self.port}?from=ziggurat@example.org&to=team@example.org&mode=insecure"
        )

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        """Called by aiosmtpd for every e-mail."""
        del server, session
        found = email.message_from_bytes(envelope.content, policy=email.policy.default)
        part = found.get_body(preferencelist=("plain", "html"))
        body = str(part.get_content()).strip() if part is not None else ""
        taken = self.take(str(found["subject"]), body)
        return "250 OK" if taken else "451 try again later"

    def close(self) -> None:
        """End the server."""
        self.gate.set()
        self._controller.stop()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook of its own."""
    server = Hook()
    yield server
    server.close()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """An SMTP sink of its own; skips the test where it cannot be had."""
    pytest.importorskip("aiosmtpd", reason="needs aiosmtpd (pip install aiosmtpd)")
    server = Mailbox()
    yield server
    server.close()
