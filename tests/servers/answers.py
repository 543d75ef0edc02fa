"""An HTTP server on loopback that answers what it was told to, in place of a cluster's or an engine's API."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = Callable[[str, str, dict[str, list[str]], Any], tuple[int, Any]]
"""Method, path, query and JSON body to a status and a JSON value, or bytes."""


class Answers:
    """A running server, and the requests that it has had."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(size)
                body = json.loads(raw) if raw else None
                url = urlsplit(self.path)
                asked.append((self.command, self.path, body))
                status, value = answer(self.command, url.path, parse_qs(url.query), body)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                kind = "application/octet-stream" if isinstance(value, bytes) else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do_HEAD = _do  # noqa: N815 - as http.server has it

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def answering(answer: Answer) -> Iterator[Answers]:
    """A server as long as it is needed."""
    server = Answers(answer)
    try:
        yield server
    finally:
        server.close()
