"""Notices that a machine is about to be taken away, asked of its cloud from inside the machine.

EC2 announces the end of a spot instance two minutes ahead at its metadata service (IMDSv2), Google Cloud half
a minute ahead. Both are asked every few seconds by a thread of their own; on another machine the first
question goes unanswered, and none follows. What comes as a signal (Slurm, Kubernetes, AWS Batch) is none of
this module's business.

Sources: Amazon EC2 User Guide, "Spot Instance interruption notices" and "EC2 instance rebalance
recommendations"; Google Compute Engine, "Preemptible VM instances", metadata key `preempted`.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

EVERY_S = 5.0
"""As often as AWS recommends."""
FIRST_S, LATER_S = 1.0, 3.0
"""Seconds that the first question may take, off such a machine in vain, and every later one."""
TOKEN_S = 21_600
LONGEST = 4096
_log = logging.getLogger(__name__)


class Absent(Exception):  # noqa: N818 - names a finding: this is not such a machine
    """The machine is not of this cloud, or its metadata service is out of reach."""


class Source(Protocol):
    """Somebody who knows when this machine will be taken away."""

    def ask(self) -> str | None:
        """What it says about the end of this machine; None if there is none in sight.

        Raises:
            Absent: It cannot know; it is not asked again.
            OSError: It did not answer this time.
        """


class Ec2:
    """The metadata service of an EC2 instance, version 2: a token first, then questions."""

    def __init__(self, endpoint: str | None = None, *, rebalance: bool = False) -> None:
        """Nothing is asked yet.

        Args:
            endpoint: Where the service is; by default as the AWS SDKs find it.
            rebalance: Heed recommendations to rebalance too: earlier, but most of them come to nothing.
        """
        self._endpoint = (endpoint or _ec2_endpoint(os.environ)).rstrip("/")
        self._rebalance = rebalance
        self._token = ""
        self._token_ends = 0.0
        self._known = False

    def ask(self) -> str | None:
        """The interruption notice, or the recommendation to rebalance if it is to be heeded."""
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true" and not self._known:
            raise Absent("AWS_EC2_METADATA_DISABLED is set")
        action = self._get("spot/instance-action")
        if action is not None and "action" in action:
            return f"EC2 will {action['action']} this spot instance at {action.get('time', 'any moment')}"
        if self._rebalance:
            advice = self._get("events/recommendations/rebalance")
            if advice is not None and "noticeTime" in advice:
                return f"EC2 recommended at {advice['noticeTime']} to leave this spot instance"
        return None

    def _get(self, path: str) -> Mapping[str, object] | None:
        """A JSON answer; None if there is none (404)."""
        url = f"{self._endpoint}/latest/meta-data/{path}"
        for last in (False, True):
            try:
                text = _fetch("GET", url, {"X-aws-ec2-metadata-token": self._current_token()}, LATER_S)
            except urllib.error.HTTPError as error:
                if error.code == 401 and not last:  # noqa: PLR2004 - the token has run out
                    self._token = ""
                    continue
                if error.code == 404:  # noqa: PLR2004 - nothing is announced
                    return None
                raise
            return _mapping(text)
        return None

    def _current_token(self) -> str:
        now = time.monotonic()
        if not self._token or now > self._token_ends:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}
            timeout = LATER_S if self._known else FIRST_S
            try:
                self._token = _fetch("PUT", f"{self._endpoint}/latest/api/token", headers, timeout).strip()
            except OSError as error:
                if self._known:
                    raise
                raise Absent(f"no EC2 metadata service at {self._endpoint} ({error})") from None
            self._known = True
            self._token_ends = now + TOKEN_S / 2
        return self._token


class Gce:
    """The metadata server of a Google Compute Engine instance."""

    def __init__(self, host: str | None = None) -> None:
        """Nothing is asked yet.

        Args:
            host: Where the server is; by default as Google's own libraries find it.
        """
        host = host or os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
        self._url = f"http://{host}/computeMetadata/v1/instance/preempted"
        self._known = False

    def ask(self) -> str | None:
        """The flag `preempted`."""
        try:
            timeout = LATER_S if self._known else FIRST_S
            text = _fetch("GET", self._url, {"Metadata-Flavor": "Google"}, timeout)
        except OSError as error:
            if self._known:
                raise
            raise Absent(f"no Google metadata server ({error})") from None
        if text.strip() not in {"TRUE", "FALSE"} and not self._known:
            raise Absent("what answers is no Google metadata server")
        self._known = True
        return "Google Cloud is taking this instance away" if text.strip() == "TRUE" else None


class Notices:
    """A thread that asks all sources every few seconds, until one has a notice or none is left."""

    def __init__(
        self,
        sources: Sequence[Source],
        on_notice: Callable[[str], None],
        *,
        every_s: float = EVERY_S,
    ) -> None:
        """Begin to ask.

        Args:
            sources: Whom; those that are absent are left out after their first answer.
            on_notice: Called at most once, from that thread, with what was announced.
            every_s: Seconds between two rounds.
        """
        self._sources = list(sources)
        self._on_notice = on_notice
        self._every_s = every_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="notices", daemon=True)
        self._thread.start()

    @property
    def watching(self) -> bool:
        """Whether anybody is still asked."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop asking; a question under way is not waited for."""
        self._closed.set()

    def _watch(self) -> None:
        while self._sources and not self._closed.is_set():
            for source in list(self._sources):
                notice = self._ask(source)
                if notice is not None and not self._closed.is_set():
                    self._on_notice(notice)
                    return
            if self._sources:
                self._closed.wait(self._every_s)

    def _ask(self, source: Source) -> str | None:
        try:
            return source.ask()
        except Absent as absent:
            _log.info("not watched: %s", absent)
            self._sources.remove(source)
        except (OSError, ValueError) as error:  # it answers again, or the machine is gone
            _log.info("%s did not answer: %s", type(source).__name__, error)
        return None


def sources() -> list[Source]:
    """Whoever might know about this machine."""
    return [Ec2(), Gce()]


def _ec2_endpoint(environment: Mapping[str, str]) -> str:
    """Where the AWS SDKs would look for the metadata service."""
    six = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
    usual = "http://[fd00:ec2::254]" if six else "http://169.254.169.254"
    return environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or usual


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A metadata service sends nobody elsewhere."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        del args, kwargs


def _fetch(method: str, url: str, headers: Mapping[str, str], timeout_s: float) -> str:
    """The text of an answer, never through a proxy."""
    if not url.startswith(("http://", "https://")):
        raise Absent(f"{url} is no address of a metadata service")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
    request = urllib.request.Request(url, method=method, headers=dict(headers))  # noqa: S310 - checked above
    with opener.open(request, timeout=timeout_s) as answer:
        return str(answer.read(LONGEST).decode("utf-8", errors="replace"))


def _mapping(text: str) -> Mapping[str, object] | None:
    found = json.loads(text)
    return found if isinstance(found, dict) else None
