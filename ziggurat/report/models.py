"""The section on the retrained models: how good, how sure, and what they cost on each device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ziggurat.report import devices, tables, verdicts, words
from ziggurat.report.blocks import Block, Figure, Grid, Heading, Links, Section
from ziggurat.report.blocks import Words as Text
from ziggurat.report.dots import Dot, dots
from ziggurat.report.tables import LATENCIES

if TYPE_CHECKING:
    from ziggurat.report.case import Case
    from ziggurat.report.results import Statistic

ROWS = 24
"""Rows of the chart of latencies."""
Z95 = 1.96


def section(case: Case) -> Section:
    """The retrained models."""
    table = tables.retrained(case)
    blocks: list[Block] = []
    if table.rows:
        blocks.append(Grid(table, "Retrained models"))
        blocks += _on_devices(case)
        cards = tuple((path, f"model {n}") for n, path in sorted(case.facts.cards.items()))
        blocks += [Links("Model cards: ", cards)] if cards else []
    else:
        blocks.append(Text("No model has been trained with the full recipe.", "empty"))
    state, looks = verdicts.retraining_state(case), verdicts.looks(case.facts.test_looks)
    said = [f"{state}." if state else "", looks, sampling(case), verdicts.unchecked(case)]
    blocks += [Text(" ".join(s for s in said if s), "note")] if any(said) else []
    return Section("models", "The models", _lead(case), tuple(blocks))


def _lead(case: Case) -> str:
    rows = case.summary.retrained
    if not rows:
        return ""
    seeds = max(len(r.seeds) for r in rows)
    what = words.many(len(rows), "architecture")
    return (
        f"{what} from the front {'was' if len(rows) == 1 else 'were'} trained with the full recipe, "
        f"with {words.many(seeds, 'seed')} each; only these numbers are worth quoting."
    )


def sampling(case: Case) -> str:
    """How far a test accuracy can be off because the test part is but a sample."""
    for row in case.summary.retrained:
        trial = case.history.trials[row.trials[0]]
        for name, found in {**trial.static, **trial.results.get(trial.rung, {})}.items():
            if name == "test_accuracy" and found.samples and 0 <= found.value <= 1:
                n = found.samples
                half = 100 * Z95 * math.sqrt(found.value * (1 - found.value) / n)
                return (
                    f"The test part has {n:,} examples, so an accuracy near {100 * found.value:.1f} % is "
                    f"known to ± {half:.1f} points (95 %), whatever the seeds."
                )
    return ""


def _on_devices(case: Case) -> list[Block]:
    table = devices.table(case)
    if not table.rows:
        return []
    blocks: list[Block] = [Heading("On the devices"), Grid(table, "Retrained models on each device")]
    chart = latencies(case)
    return [*blocks, chart] if chart is not None else blocks


def latencies(case: Case) -> Figure | None:
    """Median latency with the middle of its samples, and the slow tail, for each model on each device."""
    first = case.spec.devices[0].name
    found: list[Dot] = []
    places = 0
    for row in case.summary.retrained:
        for device, metrics in devices.of_devices(row).items():
            middle = metrics.get(LATENCIES[0])
            if middle is None or not math.isfinite(middle.mean) or places >= ROWS:
                continue
            places += 1
            found += _dots(f"trial {row.trial} on {device or first}", middle, metrics.get(LATENCIES[2]))
    if not found:
        return None
    chart = dots(found, "Latency (ms)", log=True, level=True)
    tails = [d for d in found if d.group != MIDDLE]
    summary = (
        "Dots are medians; bars span the middle 68 % of the samples. Diamonds are the 99th percentile: what "
        "the slowest answer in a hundred takes."
        if tails
        else "Dots are medians; bars span the middle 68 % of the samples."
    )
    return Figure("latencies", "Latency of each model on each device", chart, summary)


MIDDLE = "p50, middle 68 %"


def _dots(row: str, middle: Statistic, tail: Statistic | None) -> list[Dot]:
    half = middle.noise if middle.noise is not None else math.nan
    said = f"{row}: {words.spread(LATENCIES[0], middle.mean, middle.noise)} ms"
    ends = (max(middle.mean - half, 0.0), middle.mean + half) if math.isfinite(half) else (math.nan, math.nan)
    dot = [Dot(row, MIDDLE, middle.mean, *ends, said)]
    if tail is not None and math.isfinite(tail.mean):
        dot.append(
            Dot(row, "p99", tail.mean, said=f"{row}: p99 {words.shown(LATENCIES[2], tail.mean, 'ms')}")
        )
    return dot
