"""The table of finalists and devices: what each retrained model costs on each device, and how sure that is.

The first device of a spec is the one of the objectives: its metrics carry no device in their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ziggurat.domain import JobKind
from ziggurat.report import words
from ziggurat.report.tables import DEVICE_METRICS, LATENCIES, QUALITY, Cell, Table, measured

if TYPE_CHECKING:
    from ziggurat.history import History
    from ziggurat.report.case import Case
    from ziggurat.report.results import RetrainedRow, Statistic

FURTHER = 4
"""Columns at most for metrics that only a command has named."""


def table(case: Case) -> Table:
    """A row for each retrained architecture on each device; columns that would be empty are left out."""
    limits = {d.name: d.noise_limit for d in case.spec.devices}
    first = next(iter(limits))
    found: list[tuple[RetrainedRow, str, dict[str, Statistic]]] = []
    for row in case.summary.retrained:
        known = {device or first: metrics for device, metrics in of_devices(row).items()}
        failed: dict[str, dict[str, Statistic]] = {
            d: {} for d in failures(case.history, row) if d not in known
        }
        found += [(row, device, metrics) for device, metrics in {**known, **failed}.items()]
    given = dict.fromkeys(n for _, _, metrics in found for n in metrics)
    names = [n for n in DEVICE_METRICS if n in given or n in LATENCIES]
    further = [n for n in given if n not in (*DEVICE_METRICS, *QUALITY)]
    names += further[:FURTHER]
    head = [Cell("Trial", "number"), Cell("Device")]
    head += [Cell(_heading(n), "number") for n in names]
    body = tuple(
        (
            Cell(str(row.trial), "number"),
            Cell(device, "", case.facts.devices.get(device, "")),
            *(_value(n, metrics.get(n)) for n in names),
            noise(_mean(metrics.get("latency_noise")), limits.get(device, limits[first]))
            if metrics
            else Cell("not measured", "bad", failures(case.history, row)[device]),
        )
        for row, device, metrics in found
    )
    notes = [
        "Of the trained models of all seeds, means; ± is half the width of the central 68 % of the samples, "
        "the widest of the seeds.",
        *(f"{n}: {text}." for n, text in case.facts.devices.items()),
    ]
    return Table((*head, Cell("Noise")), body, " ".join(notes))


def of_devices(row: RetrainedRow) -> dict[str, dict[str, Statistic]]:
    """What was measured on each device; the first device's name is empty."""
    found: dict[str, dict[str, Statistic]] = {}
    for name, statistic in row.metrics.items():
        if measured(name):
            base, _, device = name.partition("@")
            found.setdefault(device, {})[base] = statistic
    return found


def failures(history: History, row: RetrainedRow) -> dict[str, str]:
    """Why the last measurement of an architecture's models has failed, by device, where one has."""
    ends = [(s.job, s.end) for s in history.segments.values() if s.job.kind is JobKind.PROFILE]
    return {
        str(job.device): end.failure.text
        for job, end in ends
        if end is not None and end.failure is not None and job.trial in row.trials
    }


def noise(width: float | None, limit: float) -> Cell:
    """The verdict on noise: half the width of the 95 % interval of p50 relative to it, against its limit."""
    if width is None:
        return Cell("unknown", "", "the device gave no samples, so how well p50 is known is not")
    if width <= limit:
        return Cell(f"steady ({100 * width:.2g} %)", "good")
    return Cell(
        f"noisy ({100 * width:.2g} %)",
        "bad",
        f"above {100 * limit:.2g} %: differences this small mean nothing",
    )


def _heading(name: str) -> str:
    short = name.removeprefix("latency_").removesuffix("_ms") if name in LATENCIES else ""
    return f"{short} (ms)" if short else words.heading(name)


def _mean(statistic: Statistic | None) -> float | None:
    return None if statistic is None else statistic.mean


def _value(name: str, statistic: Statistic | None) -> Cell:
    if statistic is None:
        return Cell(words.ABSENT, "number")
    spread = statistic.noise if name == LATENCIES[0] else None
    each = ", ".join(words.shown(name, v, statistic.unit) for v in statistic.values)
    return Cell(words.spread(name, statistic.mean, spread), "number", each)
