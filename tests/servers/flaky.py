"""A proxy in front of a real HTTP server that fails as it is told: refuses, forgets to answer, breaks off."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

REFUSALS = {
    "busy": (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
    "gone": (404, b"<Error><Code>NoSuchUpload</Code><Message>The upload is not there.</Message></Error>"),
}
"""What is answered without passing a request on."""
Rule = Callable[[str, str], bool]


@dataclass
class Flaky:
    """What the proxy does to the next requests.

    Attributes:
        endpoint: Where it listens.
        busy: How many requests are answered 503 without being passed on.
        deaf: How many are passed on, and their answers thrown away.
        broken: How many answers end after half of their body.
        held: How many wait until `release` is set before they are passed on.
        only: Which requests count, by method and path.
        gone: How many are answered that there is no such upload, without being passed on.
        hold: Which requests count for `held` and `gone`.
        seen: Methods and paths of all requests.
        ranges: The parts of objects that were asked for.
    """

    endpoint: str = ""
    busy: int = 0
    deaf: int = 0
    broken: int = 0
    held: int = 0
    gone: int = 0
    release: threading.Event = field(default_factory=threading.Event)
    only: Rule = lambda method, path: True
    hold: Rule = lambda method, path: True
    seen: list[tuple[str, str]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def due(self, name: str, method: str, path: str) -> bool:
        """Whether a fault strikes this request; it is used up then."""
        with self.lock:
            left = getattr(self, name)
            rule = self.hold if name in {"held", "gone"} else self.only
            if left <= 0 or not rule(method, path):
                return False
            setattr(self, name, left - 1)
            return True


class Handler(BaseHTTPRequestHandler):
    """Passes requests on; `flaky` and `upstream` are set for every proxy."""

    protocol_version = "HTTP/1.1"
    flaky: Flaky
    upstream: str

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.flaky.seen.append((self.command, self.path))
        self.flaky.ranges += self.headers.get_all("Range") or []
        for name, (status, refusal) in REFUSALS.items():
            if self.flaky.due(name, self.command, self.path):
                self._answer(status, {"Content-Type": "application/xml"}, refusal)
                return
        if self.flaky.due("held", self.command, self.path):
            self.flaky.release.wait(60)
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if self.flaky.due("deaf", self.command, self.path):
            self.close_connection = True
            return
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in {"transfer-encoding", "connection"}}
        half = self.flaky.due("broken", self.command, self.path)
        self._answer(answer.status, kept, content, half=half)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, half: bool = False) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length") or str(len(body))
        for name, value in {**headers, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        self.close_connection = self.close_connection or half

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - names of the base class

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def in_front_of(endpoint: str) -> Iterator[Flaky]:
    """A proxy in front of a server; by itself it changes nothing."""
    flaky = Flaky()
    handler = type("Bound", (Handler,), {"flaky": flaky, "upstream": urlsplit(endpoint).netloc})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    flaky.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield flaky
    finally:
        flaky.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
