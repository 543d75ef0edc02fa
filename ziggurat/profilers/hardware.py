"""What a measurement depends on, in words that can be compared: the machine, and versions of libraries."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine() -> dict[str, str]:
    """Processor, cores, architecture and system of this machine."""
    return {
        "cpu": _processor(),
        "cores": str(os.cpu_count()),
        "architecture": platform.machine(),
        "system": platform.system(),
    }


def conditions(place: str, threads: int, batch_size: int) -> str:
    """Under what a model is measured on a device as torch names it, cpu or cuda:0, in a few words."""
    from ziggurat.profilers.energy import joules_of

    threaded = f"{threads} thread{'s' * (threads > 1)}, " if place == "cpu" else ""
    counter = "with" if joules_of(place) is not None else "no"
    return f"{threaded}batch of {batch_size}, {counter} energy counter"


def library(name: str) -> str:
    """Name and version of an installed package, without importing it."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} (not installed)"


def gpu(index: int) -> dict[str, str]:
    """Name and driver of a GPU by NVML's index; `unknown` where NVML does not tell."""
    try:
        import pynvml

        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index))
        driver = pynvml.nvmlSystemGetDriverVersion()
    except Exception:  # noqa: BLE001 - the library is missing, or any of NVML's errors
        return {"gpu": "unknown", "driver": "unknown"}
    return {"gpu": _text(name), "driver": _text(driver)}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _processor() -> str:
    """Model of the processor, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Hardware", "Model"} and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
