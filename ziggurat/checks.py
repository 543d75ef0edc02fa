"""A finding of the preflight as data: its name, its verdict, what was found and what to do about it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ziggurat.errors import ZigguratError

SEVERITIES = {True: "passed", None: "warning", False: "failed"}
STAGES = {
    "data": "validate",
    "splits": "validate",
    "space": "validate",
    "memory": "validate",
    "launcher": "validate",
    "search.trainer": "validate",
    "limits": "search",
    "success criteria": "search",
    "strategy": "search",
    "retrain.trainer": "retrain",
    "devices": "measure",
    "latency table": "measure",
    "measure": "measure",
}
"""The first stage that suffers from what a check finds; what is not listed concerns the whole run."""


@dataclass(frozen=True)
class Check:
    """One line of the preflight.

    Attributes:
        name: What was looked at.
        ok: Whether it is as it should be; None for a warning.
        text: What was found.
        cure: What to do about it.
        seconds: How long looking took.
    """

    name: str
    ok: bool | None
    text: str
    cure: str = ""
    seconds: float = 0.0

    @property
    def severity(self) -> str:
        """`passed`, `warning` or `failed`."""
        return SEVERITIES[self.ok]

    @property
    def stage(self) -> str:
        """The first stage of a run that it matters to; empty if it matters to all of it."""
        return STAGES.get(self.name, "")

    def plain(self) -> dict[str, Any]:
        """The check as plain JSON values."""
        return {
            "name": self.name,
            "ok": self.ok,
            "severity": self.severity,
            "text": self.text,
            "cure": self.cure,
            "seconds": round(self.seconds, 3),
            "stage": self.stage,
        }


@dataclass
class Findings:
    """Everything that was found by looking."""

    checks: list[Check] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    probes: list[Any] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, cure: str = "", *, ours: bool = False) -> Iterator[None]:
        """Time a block and turn an error of it into a failed check; our own say themselves what to do.

        Args:
            name: Of the check.
            cure: What to do about errors that are not our own.
            ours: Only our own errors are findings; all others go on, such as a request to stop.
        """
        first, began = len(self.checks), time.perf_counter()
        try:
            yield
        except ZigguratError as error:
            self.checks.append(Check(name, ok=False, text=str(error)))
        except Exception as error:
            if ours:
                raise
            print(f"inspection of {name}: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 - the log
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            self.checks.append(Check(name, ok=False, text=text, cure=cure))
        self._timed(first, time.perf_counter() - began)

    def _timed(self, first: int, seconds: float) -> None:
        """Share out what a block took among the checks it has added and not timed itself."""
        new = [i for i in range(first, len(self.checks)) if not self.checks[i].seconds]
        known = sum(c.seconds for c in self.checks[first:])
        for i in new:
            share = max(0.0, seconds - known) / len(new)
            self.checks[i] = replace(self.checks[i], seconds=share)

    def good(self, name: str, text: str) -> None:
        """Add a passed check."""
        self.checks.append(Check(name, ok=True, text=text))

    def warn(self, name: str, text: str, cure: str) -> None:
        """Add a warning."""
        self.checks.append(Check(name, None, text, cure))

    @property
    def failed(self) -> bool:
        """Whether a check has failed."""
        return any(c.ok is False for c in self.checks)


def counts(checks: Sequence[Check]) -> Mapping[str, int]:
    """How many checks there are of each severity."""
    return {s: sum(c.severity == s for c in checks) for s in SEVERITIES.values()}


def line(check: Check) -> str:
    """A check that has not passed as one line."""
    return f"{check.text}; {check.cure}" if check.cure and check.cure not in check.text else check.text
