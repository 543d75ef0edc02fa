"""Energy counters of a machine: RAPL for its processors, NVML for its GPUs.

A counter counts for the whole package, whatever runs on it and idle power included. Where the machine has
none, or does not let this user read it, there is no energy; nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters of processors; by default only root may read them."""
Joules = Callable[[], float]
"""Energy since the counter was opened."""


def processor_joules(folder: Path = POWERCAP) -> Joules | None:
    """The energy of all processor packages and their memory, or None if it cannot be read here.

    A counter that wraps around is followed as long as it is read at least once in each round (minutes).

    Args:
        folder: Where the zones are; each is a folder with `name`, `energy_uj` and `max_energy_range_uj`.
    """
    zones = [_Zone(path) for path in sorted(folder.glob("intel-rapl:*")) if _counts(path)]
    if not zones:
        return None
    try:
        for zone in zones:
            zone.joules()
    except (OSError, ValueError):
        return None
    return lambda: sum(zone.joules() for zone in zones)


def gpu_joules(index: int) -> Joules | None:
    """The energy of a GPU by NVML's index, or None if it has no counter or NVML is absent."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # noqa: BLE001 - the library is missing, or any of NVML's errors
        return None
    return lambda: (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start) / 1000


def joules_of(device: str) -> Joules | None:
    """The energy counter of a device as torch names it: cpu, cuda or cuda:1."""
    kind, _, index = device.partition(":")
    return processor_joules() if kind == "cpu" else gpu_joules(int(index or 0))


class _Zone:
    """A RAPL zone, added up over wrap-arounds."""

    def __init__(self, path: Path) -> None:
        self._file = path / "energy_uj"
        self._range = path / "max_energy_range_uj"
        self._last: int | None = None
        self._total = 0

    def joules(self) -> float:
        """Joules since the first call."""
        now = int(self._file.read_text())
        if self._last is not None:
            step = now - self._last
            self._total += step if step >= 0 else step + int(self._range.read_text())
        self._last = now
        return self._total / 1e6


def _counts(path: Path) -> bool:
    """Whether a zone is a package or memory beside it; cores are part of their package."""
    try:
        name = (path / "name").read_text().strip()
    except OSError:
        return False
    return name.startswith("package") or name == "dram"
