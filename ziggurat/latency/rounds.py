"""Measuring many things on a machine that is not always equally fast.

The order is random, so that a drift of the machine does not meet large operations only. A reference is
measured again every few of them: what was measured while it was slow, and whatever the device calls noisy, is
measured once more at the end, and the smaller median counts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.latency.part import Part
from ziggurat.latency.table import Entry

if TYPE_CHECKING:
    import numpy as np

BLOCK = 12
"""Measurements after which the reference is measured again."""
SLOW = 1.08
"""How much slower than at best the reference may be."""
MOST = 2
"""How often anything is measured at most."""
REFERENCE = "reference"
MINUTE_S = 60
Say = Callable[[str], None]


def progress(text: str) -> None:
    """Show where a build stands, in place."""
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)  # noqa: T201 - progress


@dataclass(frozen=True)
class Round:
    """Things to be measured.

    Attributes:
        what: Their name, for messages.
        wanted: How each is measured, by key.
        reference: Measures the state of the machine.
        noisy: Whether a measurement is not good enough.
        say: Told where it stands.
    """

    what: str
    wanted: Mapping[str, Callable[[], Entry]]
    reference: Callable[[], Entry]
    noisy: Callable[[Entry], bool]
    say: Say

    def measure(self, part: Part, rng: np.random.Generator) -> None:
        """Measure everything once that is not in the part, then what is doubtful once more."""
        self._pass([key for key in self.wanted if not part.times(key)], part, rng)
        again = [k for k in self.wanted if part.times(k) < MOST and self._doubtful(k, part)]
        self._pass(again, part, rng, " again")

    def _doubtful(self, key: str, part: Part) -> bool:
        beside = part.beside(key, REFERENCE)
        slow = any(entry.p50_ms > SLOW * part.best(REFERENCE).p50_ms for entry in beside)
        return slow or self.noisy(part.best(key))

    def _pass(self, keys: Sequence[str], part: Part, rng: np.random.Generator, again: str = "") -> None:
        began = time.monotonic()
        for done, place in enumerate(rng.permutation(len(keys)), start=1):
            if done % BLOCK == 1:
                part.add(REFERENCE, self.reference())
            part.add(keys[place], self.wanted[keys[place]]())
            left = (time.monotonic() - began) / done * (len(keys) - done)
            self.say(f"{self.what}{again}: {done} of {len(keys)}, about {_duration(left)} left")
        if keys:
            part.add(REFERENCE, self.reference())
            took = _duration(time.monotonic() - began)
            self.say(f"{self.what}{again}: {len(keys)} measured in {took}\n")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < MINUTE_S else f"{seconds / MINUTE_S:.1f} min"
