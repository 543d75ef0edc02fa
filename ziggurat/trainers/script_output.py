"""Metrics in the lines that a script prints; lines of any length and bytes of any kind are borne."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ziggurat.trainers.script_metrics import MetricSetting

LONGEST = 1 << 14
"""Bytes of a line that are looked at: its first ones."""
NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|(?i:nan|inf(?:inity)?))"
PER_CENT = 0.01

Tell = Callable[[str, float, float | None], None]
"""Takes a metric's name, a value and the epoch in the script's own count, if that was told."""


@dataclass
class _Sought:
    """A metric as it is searched in lines."""

    metric: str
    value: re.Pattern[str]
    step: re.Pattern[str] | None
    scale: float
    at: float | None = None

    def look(self, line: str, tell: Tell) -> None:
        """Tell what a line says of it."""
        if self.step is not None and (match := self.step.search(line)):
            self.at = _number(match[1], self.at)
        match = self.value.search(line)
        if match is None or (value := _number(match[1], None)) is None:
            return
        # only our own pattern looks for the sign
        scale = PER_CENT if self.scale == 1.0 and match.groupdict().get("percent") else self.scale
        tell(self.metric, value * scale, self.at)


class OutputReader:
    """Reads one stream."""

    def __init__(self, metrics: Mapping[str, MetricSetting], tell: Tell) -> None:
        """Look for some metrics, by name."""
        self._tell = tell
        self._rest = b""
        self._sought = [
            _Sought(name, _pattern(name, m), re.compile(m.step) if m.step is not None else None, m.scale)
            for name, m in metrics.items()
        ]
        # most output is no metric: what does not even hold a name is not taken apart
        plain = all(m.pattern is None and m.step is None for m in metrics.values())
        self._needles = [m.called(name).encode() for name, m in metrics.items()] if plain else None

    def feed(self, chunk: bytes) -> None:
        """Take output as it comes; a carriage return ends a line too."""
        if not self._sought:
            return
        whole, end, rest = (self._rest + chunk).replace(b"\r", b"\n").rpartition(b"\n")
        self._rest = rest[:LONGEST]
        if end and (self._needles is None or any(n in whole for n in self._needles)):
            for line in whole.split(b"\n"):
                self._look(line)

    def finish(self) -> None:
        """Take what follows the last line's end."""
        rest, self._rest = self._rest, b""
        self._look(rest)

    def _look(self, line: bytes) -> None:
        if not line or (self._needles is not None and not any(n in line for n in self._needles)):
            return
        text = line[:LONGEST].decode("utf-8", errors="replace")
        for sought in self._sought:
            sought.look(text, self._tell)


def _pattern(metric: str, setting: MetricSetting) -> re.Pattern[str]:
    if setting.pattern is not None:
        return re.compile(setting.pattern)
    name = re.escape(setting.called(metric))
    return re.compile(
        rf"(?<![\w./-]){name}['\"]?\s*[=:]\s*['\"]?(?:tensor\()?({NUMBER})(?!\w|\.\d)\s*(?P<percent>%)?"
    )


def _number(text: str | None, otherwise: float | None) -> float | None:
    try:
        return float(text) if text is not None else otherwise
    except ValueError:
        return otherwise
