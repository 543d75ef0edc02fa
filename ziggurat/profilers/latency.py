"""Latency and memory of a model in evaluation mode, measured on the device of a setting.

A run is one batch through the model, waited for. Time is taken by the clock on a CPU and by events on a GPU.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from ziggurat.domain import Measurement
from ziggurat.errors import SpecError
from ziggurat.profilers.device import TorchDevice
from ziggurat.profilers.memory import peak_bytes
from ziggurat.protocols import FloatArray

_FEWEST = 20
"""Samples that are taken however long they need."""


def profile(setting: TorchDevice, model: nn.Module, example: Tensor) -> tuple[Measurement, ...]:
    """Latency percentiles and their noise, and peak memory; see `TorchDevice.profile`."""
    setting.check()
    device, dtype = torch.device(setting.device), getattr(torch, setting.dtype)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    model = copy.deepcopy(model).to(device, dtype).eval()
    batch = example[:1].to(device, dtype).repeat(setting.batch_size, *(1,) * (example.dim() - 1))
    with _threads(setting.threads if device.type == "cpu" else None), _no_collection():
        try:
            with torch.inference_mode():
                milliseconds = _sampled(setting, lambda: model(batch), device)
        except NotImplementedError as error:
            raise SpecError(
                f"device '{setting.name}': the model cannot run as {setting.dtype} on {setting.device} "
                f"({str(error).splitlines()[0]}); use dtype: float32"
            ) from error
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) - before
        else:
            peak = peak_bytes(model, batch)
    memory = Measurement("peak_memory_mb", peak / 1e6, "MB", device=setting.name)
    return (*summary(milliseconds, setting.name), memory)


def summary(milliseconds: FloatArray, device: str) -> tuple[Measurement, ...]:
    """Percentiles of (n,) samples, each with half the width of the central 68 % as spread, and their noise.

    The noise is that width relative to the median.
    """
    low, middle, high = np.quantile(milliseconds, (0.16, 0.5, 0.84))
    samples, spread = len(milliseconds), float(high - low) / 2

    def latency(percent: int) -> Measurement:
        value = float(np.quantile(milliseconds, percent / 100))
        return Measurement(
            f"latency_p{percent}_ms", value, "ms", device=device, spread=spread, samples=samples
        )

    noise = Measurement("latency_noise", float((high - low) / middle), device=device, samples=samples)
    return (latency(50), latency(90), latency(99), noise)


def _sampled(setting: TorchDevice, run: Callable[[], object], device: torch.device) -> FloatArray:
    """Milliseconds of single runs after a warm-up, which takes no more than half of the time."""
    once = _timer(run, device)
    start = time.perf_counter()
    for _ in range(setting.warmup):
        once()
        if time.perf_counter() - start > setting.max_seconds / 2:
            break
    samples: list[float] = []
    while len(samples) < setting.repetitions:
        samples.append(once())
        if len(samples) >= _FEWEST and time.perf_counter() - start > setting.max_seconds:
            break
    return np.array(samples)


def _timer(run: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """A function that runs once and returns the milliseconds it took."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

        def by_events() -> float:
            with torch.cuda.device(device):
                begin.record()
                run()
                end.record()
                end.synchronize()
            return float(begin.elapsed_time(end))

        return by_events

    def by_clock() -> float:
        start = time.perf_counter_ns()
        run()
        return (time.perf_counter_ns() - start) / 1e6

    return by_clock


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Another number of torch's threads for a while; None leaves it."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
