"""How latency is sampled, the same for every kind of device, and how well its median is known.

Runs that follow one another are not independent: another process may hold the core for a tenth of a second.
So the samples, in the order of time, are cut into a few long blocks, and the interval of the median comes
from how the blocks differ. Sampling goes on until that interval is narrow enough, or time is up.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ziggurat.domain import Measurement
from ziggurat.profilers.setting import DeviceSetting
from ziggurat.protocols import FloatArray

FEWEST = 20
"""Samples that are taken however long they need."""
MOST = 200_000
"""Samples that are never passed, unless `repetitions` asks for more."""
SPAN_S = 0.5
"""Seconds over which samples are spread at least, where the time allows: longer than most disturbances."""
BUSY = 0.9
"""Share of a core below which something else has run meanwhile."""
_BLOCKS = {10: 2.262, 5: 2.776}
"""Numbers of blocks, each with the 97.5 % quantile of Student's t of one degree less."""
_UNSEEN = 0.5 / 0.05**0.1 - 0.5
"""How far from the median lies the rank that would be the median, had a disturbance been seen that takes 26 %
of the time: 10 blocks miss it with a chance of 5 %."""
_GROWTH = 1.2
"""How much more is sampled before the interval is looked at again."""


@dataclass(frozen=True)
class Gauges:
    """Clocks beside the samples, each a function without arguments.

    Attributes:
        wall: Seconds since any moment.
        cpu: Seconds for which the calling thread has run; None where the work is done elsewhere.
        joules: Energy since any moment; None where no counter is readable.
    """

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] | None = time.thread_time
    joules: Callable[[], float] | None = None


@dataclass(frozen=True)
class Sampled:
    """What sampling gives.

    Attributes:
        milliseconds: (n,) samples in the order of time.
        cpu_share: Share of the time for which the thread had a core; None if that cannot be known.
        energy_mj: Millijoules a run; None without a counter.
    """

    milliseconds: FloatArray
    cpu_share: float | None = None
    energy_mj: float | None = None


def sample(once: Callable[[], float], setting: DeviceSetting, gauges: Gauges | None = None) -> Sampled:
    """Samples of a run, taken until its median is known well enough.

    The warm-up takes no more than half of `max_seconds`. Then at least `repetitions` samples are spread over
    at least `SPAN_S`; more follow until the interval is within `noise_limit` or `max_seconds` are over.
    However long they take, there are `FEWEST`.

    Args:
        once: Runs once and returns the milliseconds it took.
        setting: How patiently.
        gauges: Other clocks, in tests.
    """
    gauges = gauges or Gauges()
    start = gauges.wall()
    for _ in range(setting.warmup):
        once()
        if gauges.wall() - start > setting.max_seconds / 2:
            break
    with _no_collection():
        before = _read(gauges)
        samples = _collect(once, setting, gauges.wall, start + setting.max_seconds)
        after = _read(gauges)
    wall, cpu, joules = (
        None if a is None or b is None else a - b for a, b in zip(after, before, strict=True)
    )
    share = None if cpu is None or not wall else min(1.0, cpu / wall)
    return Sampled(np.array(samples), share, None if joules is None else 1000 * joules / len(samples))


def clocked(run: Callable[[], object]) -> Callable[[], float]:
    """A function that runs once and returns the milliseconds it took by the wall clock."""

    def once() -> float:
        start = time.perf_counter_ns()
        run()
        return (time.perf_counter_ns() - start) / 1e6

    return once


def interval(samples: FloatArray) -> tuple[float, float]:
    """95 % interval of the median of (n,) samples, n > 1, in the order of time, which may hang together.

    The samples are cut into 10 long blocks, and into 5; how much the share of samples below the median
    differs from block to block tells how far the median's own rank is known (the larger answer of the two
    counts, as blocks shorter than a disturbance resemble their neighbours). The interval is what lies
    between those ranks. They are never closer to the median than `_UNSEEN`.

    Source: quantile intervals from the error of the distribution's value there, Woodruff 1952, Confidence
    intervals for medians and other position measures, JASA 47; the error of a mean from blocks, Schmeiser
    1982, Batch size effects in the analysis of simulation output, Operations Research 30(3).
    """
    middle = float(np.median(samples))
    below = (samples < middle) + 0.5 * (samples == middle)
    width = _UNSEEN
    for blocks, quantile in _BLOCKS.items():
        shares = [float(b.mean()) for b in np.array_split(below, min(blocks, len(samples)))]
        width = max(width, quantile * float(np.std(shares, ddof=1)) / math.sqrt(len(shares)))
    low, high = np.quantile(samples, (max(0.0, 0.5 - width), min(1.0, 0.5 + width)))
    return float(low), float(high)


def summary(sampled: Sampled, device: str) -> tuple[Measurement, ...]:
    """The measurements of a sampling.

    Returns:
        latency_p50_ms, latency_p90_ms and latency_p99_ms, each with half the width of the central 68 % of
        the samples as spread; latency_noise, half the width of the 95 % interval of p50 relative to p50;
        cpu_share and energy_mj where they are known.
    """
    milliseconds = sampled.milliseconds
    count = len(milliseconds)
    low, middle, high = np.quantile(milliseconds, (0.16, 0.5, 0.84))
    spread = float(high - low) / 2
    left, right = interval(milliseconds)
    noise = (right - left) / 2 / float(middle) if middle > 0 else 0.0

    def latency(percent: int) -> Measurement:
        value = float(np.quantile(milliseconds, percent / 100))
        return Measurement(f"latency_p{percent}_ms", value, "ms", device=device, spread=spread, samples=count)

    found = [*map(latency, (50, 90, 99)), Measurement("latency_noise", noise, device=device, samples=count)]
    if sampled.cpu_share is not None:
        found.append(Measurement("cpu_share", sampled.cpu_share, device=device))
    if sampled.energy_mj is not None:
        found.append(Measurement("energy_mj", sampled.energy_mj, "mJ", device=device, samples=count))
    return tuple(found)


def verdict(measurements: Sequence[Measurement], device: DeviceSetting) -> str:
    """One sentence on how far a profile can be trusted, such as `p50 is 1.23 ms ± 2 %`."""
    found = {m.metric.partition("@")[0]: m.value for m in measurements}
    p50, noise, share = (found.get(n) for n in ("latency_p50_ms", "latency_noise", "cpu_share"))
    if p50 is None:
        return "no latency was measured"
    if noise is None:
        return f"p50 is {p50:.3g} ms, without an interval"
    known = f"p50 is {p50:.3g} ms ± {noise:.1%}".replace("%", " %")
    core = f"the model had only {share:.0%} of a core".replace("%", " %") if share is not None else ""
    busy = share is not None and share < BUSY
    if device.noisy(measurements):
        allowed = f"allowed are {100 * device.noise_limit:.3g} %"
        cure = "stop what else runs, or raise max_seconds or noise_limit"
        if busy:
            return f"the machine is too busy: {known}, {allowed}; {core}; {cure}"
        return f"too noisy: {known}, {allowed}; {cure}"
    return f"{known}, but the machine is busy: {core}" if busy else known


def _collect(
    once: Callable[[], float], setting: DeviceSetting, wall: Callable[[], float], deadline: float
) -> list[float]:
    """Milliseconds of runs until the interval is narrow enough, time is up or there are too many."""
    samples: list[float] = []
    most = max(setting.repetitions, MOST)
    ready = min(wall() + SPAN_S, deadline)
    wanted = setting.repetitions
    while len(samples) < most:
        samples.append(once())
        now = wall()
        if len(samples) >= FEWEST and now >= deadline:
            break
        if len(samples) >= wanted and now >= ready:
            if _narrow(samples, setting.noise_limit):
                break
            wanted = math.ceil(_GROWTH * len(samples))
    return samples


def _narrow(samples: Sequence[float], limit: float) -> bool:
    array = np.array(samples)
    low, high = interval(array)
    return (high - low) / 2 <= limit * float(np.median(array))


def _read(gauges: Gauges) -> tuple[float | None, ...]:
    return (
        gauges.wall(),
        None if gauges.cpu is None else gauges.cpu(),
        None if gauges.joules is None else gauges.joules(),
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection within a measured run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
