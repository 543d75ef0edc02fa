"""How many jobs ran, and what they used of their machines, lately: sums that cost O(1) an event.

Both classes are folds of what they are told; times are arguments.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping

NAMES = ("gpu_utilisation", "cpu_utilisation")
"""What is looked at of a job's use, from 0 to 1."""
GRAIN = 30
"""Readings of a running job that a window is cut into, at most."""


class Load:
    """The number of jobs that run, as a step function of time, and its integral."""

    def __init__(self, horizon_s: float) -> None:
        """Nothing runs; what is older than the horizon is forgotten."""
        self._horizon_s = horizon_s
        self._times: list[float] = []
        self._sums: list[float] = []
        self._levels: list[int] = []

    def change(self, utc: float, by: int) -> None:
        """So many more jobs run from a moment on; moments come in order, or count as the latest so far."""
        utc = max(utc, self._times[-1]) if self._times else utc
        total, level = self._total(utc), (self._levels[-1] if self._levels else 0) + by
        if self._times and self._times[-1] == utc:
            self._levels[-1] = level
            return
        self._times.append(utc)
        self._sums.append(total)
        self._levels.append(level)
        self._forget(utc)

    def _forget(self, utc: float) -> None:
        old = bisect.bisect_right(self._times, utc - self._horizon_s) - 1
        if old > len(self._times) // 2:  # rarely, so that it costs little
            del self._times[:old], self._sums[:old], self._levels[:old]

    def _total(self, utc: float) -> float:
        """Job seconds until a moment."""
        at = bisect.bisect_right(self._times, utc) - 1
        return self._sums[at] + self._levels[at] * (utc - self._times[at]) if at >= 0 else 0.0

    def within(self, now_utc: float, window_s: float) -> float:
        """Job seconds in the window that ends now."""
        return self._total(now_utc) - self._total(now_utc - window_s)


class Use:
    """What trainings used of their machines in a window that moves on: means weighted by time.

    A job tells its mean since it began; two tellings give the mean between them.
    """

    def __init__(self, window_s: float) -> None:
        """Nothing has been told."""
        self._window_s = window_s
        self._told: dict[str, tuple[float, Mapping[str, float]]] = {}
        self._pieces: deque[tuple[float, Mapping[str, tuple[float, float]]]] = deque()
        self._sums = {name: [0.0, 0.0] for name in NAMES}
        self.silent = 0
        """Jobs that have ended without telling anything, since one last did tell something."""
        self.without_gpu = 0
        """The same of what they used of GPUs."""

    def tell(self, utc: float, job: str, seconds: float, usage: Mapping[str, float]) -> None:
        """A running job has used this much so far."""
        before = self._told.get(job, (0.0, {}))[0]
        if seconds - before >= self._window_s / GRAIN:
            self._take(utc, job, seconds, usage)

    def end(
        self, utc: float, job: str, seconds: float, usage: Mapping[str, float], *, failed: bool = False
    ) -> None:
        """A job has ended, and has used this much in all; one that has failed may not have come to tell."""
        self._take(utc, job, seconds, usage)
        self._told.pop(job, None)
        if failed:
            return
        known = any(name in usage for name in NAMES)
        self.silent = 0 if known else self.silent + 1
        self.without_gpu = 0 if NAMES[0] in usage else self.without_gpu + 1

    def _take(self, utc: float, job: str, seconds: float, usage: Mapping[str, float]) -> None:
        before, sums = self._told.get(job, (0.0, {}))
        if seconds <= before:
            return
        totals = {name: usage[name] * seconds for name in NAMES if name in usage}
        piece = {}
        for name, total in totals.items():
            used = min(max(total - sums.get(name, 0.0), 0.0), seconds - before)
            piece[name] = (seconds - before, used)
            self._add(name, seconds - before, used)
        self._told[job] = (seconds, totals)
        if piece:
            self._pieces.append((utc, piece))

    def _add(self, name: str, seconds: float, used: float) -> None:
        self._sums[name][0] += seconds
        self._sums[name][1] += used

    def mean(self, name: str, now_utc: float) -> tuple[float, float]:
        """Job seconds of the window that are known, and the mean use in them; 0 for none."""
        while self._pieces and self._pieces[0][0] <= now_utc - self._window_s:
            for old, (seconds, used) in self._pieces.popleft()[1].items():
                self._add(old, -seconds, -used)
        if not self._pieces:
            self._sums = {each: [0.0, 0.0] for each in NAMES}  # no rounding is carried on
        seconds, used = self._sums[name]
        return max(seconds, 0.0), used / seconds if seconds > 0 else 0.0
