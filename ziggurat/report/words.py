"""Numbers, metrics and money as people write them.

The only place where a report rounds. Every function takes plain values and gives plain text, without markup.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ziggurat.domain import Objective, Value

NAMES = {
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
    "train_loss": "training loss",
    "test_accuracy": "test accuracy",
    "test_loss": "test loss",
    "parameters": "parameters",
    "flops": "FLOPs",
    "model_size_mb": "model size",
    "peak_memory_mb": "peak memory",
    "latency_p50_ms": "latency p50",
    "latency_p90_ms": "latency p90",
    "latency_p99_ms": "latency p99",
    "file_size_mb": "file size",
    "onnx_accuracy": "accuracy as ONNX",
    "int8_accuracy": "accuracy in 8 bits",
    "energy_mj": "energy",
}
UNITS = {"_ms": "ms", "_mb": "MB", "_mj": "mJ", "_s": "s", "_usd": "US$"}
COUNTS = frozenset({"parameters", "flops"})
ABSENT = "\u2013"
"""What stands where there is no value."""
MINUTE, HOUR, DAY = 60, 3600, 86_400


def is_accuracy(metric: str) -> bool:
    """Whether a metric is a share of right answers, shown in percent."""
    return metric.split("@", maxsplit=1)[0].endswith("accuracy")


def name_of(metric: str) -> str:
    """A metric in words, without its unit; the device follows the name."""
    base, _, device = metric.partition("@")
    words = NAMES.get(base)
    if words is None:
        ending = next((e for e in UNITS if base.endswith(e)), "")
        words = base.removesuffix(ending).replace("_", " ").strip() or base
    return f"{words} on {device}" if device else words


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def unit_of(metric: str, unit: str = "1") -> str:
    """The unit that a value of this metric is shown with; empty for a pure number."""
    if is_accuracy(metric):
        return "%"
    if unit not in {"", "1"}:
        return unit
    base = metric.split("@", maxsplit=1)[0]
    return next((u for e, u in UNITS.items() if base.endswith(e)), "")


def heading(metric: str, unit: str = "1") -> str:
    """A metric as the heading of a column or an axis, unit included."""
    shown = unit_of(metric, unit)
    return capital(name_of(metric)) + (f" ({shown})" if shown else "")


def number(value: float, digits: int = 3) -> str:
    """A number to some significant digits, without an exponent where it can be read without one."""
    if not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.{digits}g}"
    if abs(value) < 1e-4:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - math.floor(math.log10(abs(value))), 0)}f}"


def bare(metric: str, value: float) -> str:
    """A metric's value without its unit, for a table whose heading names the unit."""
    if not math.isfinite(value):
        return ABSENT
    if is_accuracy(metric):
        return f"{100 * value:.2f}"
    if metric.split("@", maxsplit=1)[0] in COUNTS:
        return compact(value) if abs(value) >= 1e7 else f"{value:,.0f}"
    return number(value)


def compact(value: float) -> str:
    """A large count with a thousand's prefix, such as 12.3 M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{number(value / size)} {letter}"
    return f"{value:,.0f}"


def prefixed(value: float) -> str:
    """A number for an axis, with a thousand's prefix: 20k."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def shown(metric: str, value: float, unit: str = "1") -> str:
    """A metric's value with its unit."""
    if not math.isfinite(value):
        return ABSENT
    if is_accuracy(metric):
        return f"{100 * value:.1f} %"
    ending = unit_of(metric, unit)
    return bare(metric, value) + (f" {ending}" if ending else "")


def phrase(metric: str, value: float, unit: str = "1") -> str:
    """A value with its metric's name, as a part of a sentence."""
    text = shown(metric, value, unit)
    before = is_accuracy(metric) or metric in COUNTS
    return f"{text} {name_of(metric)}" if before else f"{name_of(metric)} {text}"


def spread(metric: str, mean: float, deviation: float | None) -> str:
    """A mean with its spread, in the unit of the column."""
    if deviation is None:
        return bare(metric, mean)
    if is_accuracy(metric):
        return f"{100 * mean:.2f} ± {100 * deviation:.2f}"
    if deviation == 0:
        return bare(metric, mean)
    places = max(0, 1 - math.floor(math.log10(deviation))) if deviation < 100 else 0  # noqa: PLR2004
    return f"{mean:,.{min(places, 6)}f} ± {deviation:,.{min(places, 6)}f}"


def usd(value: float | None) -> str:
    """An amount of US dollars, to the cent, or to two digits where that is less."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "$0"
    if abs(value) < 0.1:
        return f"${number(value, 2)}"
    return f"${value:,.2f}" if abs(value) < 1000 else f"${value:,.0f}"  # noqa: PLR2004


def duration(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 10:  # noqa: PLR2004 - tenths matter below ten seconds
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def percent(share: float | None) -> str:
    """A share in whole percent."""
    return ABSENT if share is None or not math.isfinite(share) else f"{100 * share:.0f} %"


def many(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun in the right number."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listing(parts: list[str]) -> str:
    """Parts joined as in a sentence."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def setting(value: Value) -> str:
    """One chosen value exactly, as it would be written in the spec."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def settings(choices: Mapping[str, Value], leave_out: frozenset[str] = frozenset()) -> str:
    """Choices as `name=value` in one line."""
    return "  ".join(f"{name}={setting(v)}" for name, v in choices.items() if name not in leave_out)


def aim(objective: Objective) -> str:
    """Which direction of an objective is better, as an arrow."""
    return "↓" if objective.goal == "minimize" else "↑"


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers with their runs drawn together: 3, 5 to 8."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(
        f"{p[0]} to {p[-1]}" if len(p) > 2 else ", ".join(map(str, p))  # noqa: PLR2004 - two are listed
        for p in parts
    )
