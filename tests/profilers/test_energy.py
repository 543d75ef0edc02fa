"""Energy counters, read from folders that look like the system's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ziggurat.profilers.energy import gpu_joules, processor_joules


class Zone:
    """A RAPL zone on disk."""

    def __init__(self, root: Path, folder: str, name: str, most: int = 1_000_000_000) -> None:
        self.path = root / folder
        self.path.mkdir()
        (self.path / "name").write_text(f"{name}\n")
        (self.path / "max_energy_range_uj").write_text(f"{most}\n")
        self.set(0)

    def set(self, microjoules: int) -> None:
        (self.path / "energy_uj").write_text(f"{microjoules}\n")


def test_packages_and_memory_are_added_up_without_the_cores_inside_them(tmp_path: Path) -> None:
    zones = [Zone(tmp_path, f"intel-rapl:{i}", f"package-{i}") for i in (0, 1)]
    core, dram = Zone(tmp_path, "intel-rapl:0:0", "core"), Zone(tmp_path, "intel-rapl:0:1", "dram")
    whole = Zone(tmp_path, "intel-rapl:2", "psys")
    joules = processor_joules(tmp_path)
    assert joules is not None
    for zone, value in zip(
        (*zones, core, dram, whole), (5_000_000, 2_000_000, 900, 500_000, 70), strict=True
    ):
        zone.set(value)
    assert joules() == pytest.approx(7.5)


def test_a_counter_that_wraps_around_goes_on(tmp_path: Path) -> None:
    zone = Zone(tmp_path, "intel-rapl:0", "package-0", most=100_000_000)
    zone.set(90_000_000)
    joules = processor_joules(tmp_path)
    assert joules is not None
    readings = []
    for value in (95_000_000, 10_000_000, 60_000_000, 5_000_000):
        zone.set(value)
        readings.append(joules())
    assert readings == pytest.approx([5.0, 20.0, 70.0, 115.0])


def test_energy_from_before_the_counter_was_opened_is_not_counted(tmp_path: Path) -> None:
    zone = Zone(tmp_path, "intel-rapl:0", "package-0")
    zone.set(42_000_000)
    joules = processor_joules(tmp_path)
    assert joules is not None
    assert joules() == 0


def test_a_machine_without_a_counter_has_no_energy(tmp_path: Path) -> None:
    assert processor_joules(tmp_path) is None
    assert processor_joules(tmp_path / "absent") is None
    Zone(tmp_path, "intel-rapl:0", "core")
    assert processor_joules(tmp_path) is None


def test_a_counter_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    zone = Zone(tmp_path, "intel-rapl:0", "package-0")
    (zone.path / "energy_uj").unlink()  # as it is to a user who may not read it
    assert processor_joules(tmp_path) is None


def test_a_gpu_that_is_not_there_has_no_counter() -> None:
    assert gpu_joules(63) is None
