"""What a device prints, read as measurements: `name=value` lines, JSON, or raw samples, among other lines.

Everything that is no measurement is passed over; what calls itself one and cannot be true is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from ziggurat.domain import Measurement
from ziggurat.profilers.sampling import Sampled, summary
from ziggurat.protocols import FloatArray

SAMPLES = "samples_ms"
QUANTILES = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms")
KNOWN = (SAMPLES, *QUANTILES, "peak_memory_mb", "file_size_mb", "energy_mj")
EXPECTED = (
    "print latency_p50_ms=NUMBER or samples_ms=[NUMBER, ...], or a JSON object of such names; "
    f"known are {', '.join(KNOWN)}"
)
UNITS = {"_ms": "ms", "_mb": "MB", "_mj": "mJ"}
FEWEST = 5
"""Samples from which percentiles are made."""
SHOWN = 200
"""Characters of a text that a message repeats."""
MOST = 32
"""Metrics that are taken from one reply."""
_METRIC = re.compile(r"[a-z][a-z0-9_]{0,60}_(ms|mb|mj)")
_PAIR = re.compile(r"^\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*(\S.*?)\s*$")


def measurements(text: str, device: str) -> tuple[Measurement, ...]:
    """The measurements of a reply.

    Args:
        text: What a device has printed.
        device: Its name.

    Returns:
        What it printed, with percentiles, spread and noise if it printed samples.

    Raises:
        ValueError: There is none, or one cannot be true; the text says what came.
    """
    found = dict(_pairs(text))
    if not set(found) & set(KNOWN):
        raise ValueError(f"printed no measurement but {shown(text)}" if text.strip() else "printed nothing")
    samples = found.pop(SAMPLES, None)
    single = {name: _number(name, value) for name, value in list(found.items())[:MOST]}
    made = () if samples is None else summary(Sampled(_samples(samples)), device)
    mine = {m.metric for m in made}
    result = made + tuple(
        Measurement(name, value, UNITS[name[-3:]], device=device)
        for name, value in single.items()
        if name not in mine
    )
    _in_order({m.metric: m.value for m in result})
    return result


def shown(text: str) -> str:
    """The end of a text as one line without anything that a terminal would act on."""
    plain = "".join(c if c.isprintable() else "?" for c in " ".join(text[-SHOWN:].split()))
    return repr(plain if len(text) <= SHOWN else f"...{plain}")


def _pairs(text: str) -> Iterator[tuple[str, Any]]:
    """Names of metrics with their values, as parsed, in the order of printing."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end]
        start = at + len(line) - len(line.lstrip())
        if line.strip()[:1] in {"{", "["}:
            try:
                plain, end = decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                plain = None
            yield from _of_json(plain)
        elif (match := _PAIR.match(line)) and _METRIC.fullmatch(match[1]):
            yield match[1], _parsed(match[2])
        at = end + 1


def _of_json(plain: object) -> Iterator[tuple[str, Any]]:
    if isinstance(plain, Mapping):
        yield from ((str(k), v) for k, v in plain.items() if _METRIC.fullmatch(str(k)))
    elif isinstance(plain, list) and plain and all(_is_number(v) for v in plain):
        yield SAMPLES, plain


def _parsed(text: str) -> Any:  # noqa: ANN401 - whatever stands there
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(name: str, value: object) -> float:
    if not _is_number(value):
        raise ValueError(f"printed {name} = {shown(str(value))}, which is no number")
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"printed {name} = {number:g}, which cannot be a measurement")
    return number


def _samples(values: object) -> FloatArray:
    if not isinstance(values, list):
        raise ValueError(f"printed {SAMPLES} = {shown(str(values))}, which is no list of numbers")
    if len(values) < FEWEST:
        raise ValueError(f"printed {len(values)} samples, but percentiles need at least {FEWEST}")
    return np.array([_number(f"{SAMPLES}[{i}]", v) for i, v in enumerate(values)])


def _in_order(values: Mapping[str, float]) -> None:
    known = [(name, values[name]) for name in QUANTILES if name in values]
    for (low, a), (high, b) in pairwise(known):
        if b < a:
            raise ValueError(f"printed {high} = {b:g} below {low} = {a:g}, which cannot be")
