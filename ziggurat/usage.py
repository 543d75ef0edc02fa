"""What a job uses of its machine: processor, memory and GPUs of its process and of all that it has started.

A thread takes samples while a job runs. Time in which the process was stopped from outside (a measurement
elsewhere had the machine to itself) counts for nothing. GPUs are read through NVML, and only those that the
job works with; where nothing can be read, nothing is told.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

EVERY_S = 2.0
"""Seconds between two samples."""
STOPPED = 3.0
"""An interval so many times longer than it should be is one in which the process was stopped."""
THREADS = "OMP_NUM_THREADS"
GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Sample:
    """A look at the machine.

    Attributes:
        cpu_s: Processor seconds of the process and all it has started, since any moment.
        memory_mb: Their resident memory.
        gpu: Busy share of its GPUs, 0 to 1; None if that cannot be read.
        gpu_memory_mb: Memory taken on its GPUs, by whomever; None likewise.
    """

    cpu_s: float
    memory_mb: float
    gpu: float | None = None
    gpu_memory_mb: float | None = None


def cores() -> float:
    """How many cores a job is meant to use: its threads, as the numerical libraries are told."""
    told = os.environ.get(THREADS, "")
    return float(told) if told.isdigit() and int(told) else float(os.cpu_count() or 1)


def look() -> Sample:
    """A sample of this process, its descendants and its GPUs."""
    times = os.times()
    seconds = times.user + times.system + times.children_user + times.children_system
    memory = 0.0
    with contextlib.suppress(psutil.Error):
        me = psutil.Process()
        memory = me.memory_info().rss / 1e6
        for child in me.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                its = child.cpu_times()
                seconds += its.user + its.system + its.children_user + its.children_system
                memory += child.memory_info().rss / 1e6
    return Sample(seconds, memory, *_gpus())


def _gpus() -> tuple[float | None, float | None]:
    """Mean busy share and memory of the GPUs that the job works with."""
    if not _works_on_gpus():
        return None, None
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [_handle(pynvml, name) for name in _visible(pynvml)]
        busy = [pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100 for handle in handles]
        taken = sum(pynvml.nvmlDeviceGetMemoryInfo(handle).used for handle in handles) / 1e6
    except Exception:  # noqa: BLE001 - the library is missing, or any of NVML's errors
        return None, None
    return (sum(busy) / len(busy), taken) if busy else (None, None)


def _works_on_gpus() -> bool:
    """Whether the job was given GPUs, or this process has begun to use some."""
    if os.environ.get(GPUS, "").strip(" -1"):
        return True
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _visible(pynvml: object) -> list[str]:
    given = os.environ.get(GPUS)
    if given is not None:
        return [word.strip() for word in given.split(",") if word.strip()]
    return [str(i) for i in range(pynvml.nvmlDeviceGetCount())]  # type: ignore[attr-defined]


def _handle(pynvml: object, name: str) -> object:
    if name.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(name))  # type: ignore[attr-defined]
    return pynvml.nvmlDeviceGetHandleByUUID(name.encode())  # type: ignore[attr-defined]


class Meter:
    """Adds up samples."""

    def __init__(
        self,
        sample: Callable[[], Sample] = look,
        now: Callable[[], float] = time.monotonic,
        every_s: float = EVERY_S,
    ) -> None:
        """Begin with a first sample."""
        self._sample, self._now, self._every_s = sample, now, every_s
        self._lock = threading.Lock()
        self._cores = cores()
        self._then, self._last = now(), sample()
        self._wall_s = self._cpu_s = self._gpu_s = self._gpu_wall_s = 0.0
        self._memory_mb, self._gpu_memory_mb = self._last.memory_mb, self._last.gpu_memory_mb

    def take(self) -> None:
        """Take a sample."""
        found = self._sample()
        with self._lock:
            now = self._now()
            took = now - self._then
            if took < STOPPED * self._every_s:
                self._wall_s += took
                self._cpu_s += max(0.0, found.cpu_s - self._last.cpu_s)
                if found.gpu is not None:
                    self._gpu_s += took * found.gpu
                    self._gpu_wall_s += took
            self._memory_mb = max(self._memory_mb, found.memory_mb)
            if found.gpu_memory_mb is not None:
                self._gpu_memory_mb = max(self._gpu_memory_mb or 0.0, found.gpu_memory_mb)
            self._then, self._last = now, found

    def told(self) -> dict[str, float]:
        """Mean use since the beginning (0 to 1) and peaks (MB)."""
        with self._lock:
            found = {"memory_mb": round(self._memory_mb, 1)}
            if self._wall_s > 0:
                found["cpu_utilisation"] = round(min(1.0, self._cpu_s / self._wall_s / self._cores), 4)
            if self._gpu_wall_s > 0:
                found["gpu_utilisation"] = round(min(1.0, self._gpu_s / self._gpu_wall_s), 4)
            if self._gpu_memory_mb is not None:
                found["gpu_memory_mb"] = round(self._gpu_memory_mb, 1)
        return found


_meters: list[Meter] = []
"""Those of the jobs that this process does now."""


@contextmanager
def metered() -> Iterator[Meter]:
    """A meter for a job that this process does, while the block lasts."""
    meter, over = Meter(), threading.Event()

    def follow() -> None:
        while not over.wait(EVERY_S):
            meter.take()

    thread = threading.Thread(target=follow, name="usage", daemon=True)
    thread.start()
    _meters.append(meter)
    try:
        yield meter
    finally:
        over.set()
        thread.join()
        meter.take()
        _meters.remove(meter)


def current() -> Mapping[str, float]:
    """What the job that runs in this process has used so far; empty if none does."""
    return _meters[-1].told() if _meters else {}


def from_plain(plain: object) -> dict[str, float]:
    """What another process has told, without what makes no sense."""
    if not isinstance(plain, Mapping):
        return {}
    return {str(k): float(v) for k, v in plain.items() if isinstance(v, (int, float)) and 0 <= v < 1e12}
