"""A fake of the metadata services of EC2 (version 2) and Google Cloud, on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"


class Imds(ThreadingHTTPServer):
    """What it answers can be changed at any time; what it was asked is kept."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token = "token-1"
        self.answers: dict[str, str] = {}
        self.preempted = "FALSE"
        self.broken = False
        self.asked: list[str] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def announce(self, action: str = "terminate", time: str = "2026-11-22T12:00:00Z") -> None:
        self.answers[ACTION] = json.dumps({"action": action, "time": time})


class Handler(BaseHTTPRequestHandler):
    server: Imds

    def do_PUT(self) -> None:
        wanted = self.path == "/latest/api/token" and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self.answer(*((200, self.server.token) if wanted else (400, "")))

    def do_GET(self) -> None:
        if self.path == "/computeMetadata/v1/instance/preempted":
            google = self.headers["Metadata-Flavor"] == "Google"
            return self.answer(*((200, self.server.preempted) if google else (403, "")))
        if self.headers["X-aws-ec2-metadata-token"] != self.server.token:
            return self.answer(401, "")
        found = self.server.answers.get(self.path)
        return self.answer(404, "") if found is None else self.answer(200, found)

    def answer(self, status: int, text: str) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_response(500 if self.server.broken else status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def imds() -> Iterator[Imds]:
    """The server, until the block ends."""
    with Imds() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
