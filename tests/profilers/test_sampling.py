"""Sampling on made-up clocks: what is known of a median when runs disturb one another."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from ziggurat.domain import Measurement
from ziggurat.profilers.sampling import (
    FEWEST,
    SPAN_S,
    Gauges,
    Sampled,
    interval,
    sample,
    summary,
    verdict,
)
from ziggurat.profilers.setting import DeviceSetting
from ziggurat.protocols import FloatArray


@dataclass
class Machine:
    """A machine whose runs take what a function of the time says; its clock moves only while it runs."""

    milliseconds: Callable[[float], float]
    share: float = 1.0
    watts: float = 0.0
    now: float = 0.0
    runs: list[float] = field(default_factory=list)

    def once(self) -> float:
        """Run once."""
        took = self.milliseconds(self.now)
        self.now += took / 1000
        self.runs.append(took)
        return took

    def gauges(self) -> Gauges:
        return Gauges(lambda: self.now, lambda: self.share * self.now, lambda: self.watts * self.now)


def bursts(seed: int, base_ms: float, share: float, factor: float) -> Callable[[float], float]:
    """A time that is `factor` times as long in stretches of 100 ms on average, `share` of the time."""
    rng = np.random.default_rng([11, seed])
    state = {"slow": bool(rng.random() < share), "until": 0.0, "begun": False}

    def length() -> float:
        return float(rng.exponential(0.1 if state["slow"] else 0.1 * (1 - share) / share))

    def at(now: float) -> float:
        if not state["begun"]:
            state.update(begun=True, until=now + length())
        while now >= state["until"]:
            state["slow"] = not state["slow"]
            state["until"] += length()
        return base_ms * (factor if state["slow"] else 1.0) * math.exp(0.02 * float(rng.standard_normal()))

    return at


def device(**changes: float) -> DeviceSetting:
    return DeviceSetting.model_validate({"kind": "made-up", **changes})


def independent(samples: FloatArray) -> tuple[float, float]:
    """The usual interval of a median, for samples that know nothing of one another."""
    ordered, n = np.sort(samples), len(samples)
    left_out = int(n / 2 - 0.98 * math.sqrt(n))
    return float(ordered[left_out]), float(ordered[n - 1 - left_out])


def by_name(found: tuple[Measurement, ...]) -> dict[str, Measurement]:
    return {m.metric: m for m in found}


@pytest.mark.parametrize(
    ("base_ms", "share", "factor"), [(1.0, 0.3, 2.0), (1.0, 0.2, 1.5), (4.0, 0.3, 2.0), (1.0, 0.1, 3.0)]
)
def test_the_interval_covers_the_median_under_bursts_where_the_usual_one_does_not(
    base_ms: float, share: float, factor: float
) -> None:
    long = Machine(bursts(0, base_ms, share, factor))
    truth = float(np.median([long.once() for _ in range(100_000)]))
    mine, usual, wrong, cases = 0, 0, 0, 100
    for seed in range(1, cases + 1):
        machine = Machine(bursts(seed, base_ms, share, factor))
        samples = sample(machine.once, device(), machine.gauges()).milliseconds
        low, high = interval(samples)
        mine += low <= truth <= high
        low, high = independent(samples)
        usual += low <= truth <= high
        middle = float(np.median(samples))
        found = summary(Sampled(samples), "d")
        wrong += not device().noisy(found) and abs(middle / truth - 1) > 0.05
    assert mine >= 0.9 * cases
    assert usual < 0.85 * cases
    assert wrong <= 0.05 * cases


def test_the_interval_of_independent_samples_covers_and_is_narrow() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(100):
        samples = 1 + 0.02 * rng.standard_normal(500)
        low, high = interval(samples)
        covered += low <= 1 <= high
        assert high - low < 0.04
    assert covered >= 95


def test_a_quiet_machine_is_measured_for_the_least_time_and_no_longer() -> None:
    machine = Machine(lambda now: 1.0)  # noqa: ARG005
    sampled = sample(machine.once, device(warmup=10), machine.gauges())
    assert len(machine.runs) - 10 == len(sampled.milliseconds)
    assert 1000 * SPAN_S <= len(sampled.milliseconds) <= 1000 * SPAN_S + 2
    assert sampled.cpu_share == pytest.approx(1.0)
    assert by_name(summary(sampled, "d"))["latency_noise"].value == 0.0


def test_a_long_run_is_repeated_as_often_as_asked_where_time_allows() -> None:
    machine = Machine(lambda now: 10.0)  # noqa: ARG005
    sampled = sample(machine.once, device(warmup=0, repetitions=130), machine.gauges())
    assert len(sampled.milliseconds) == 130


def test_bursts_are_sampled_longer_than_quiet() -> None:
    lengths = []
    for milliseconds in (bursts(5, 1.0, 0.5, 2.0), bursts(5, 1.0, 0.001, 2.0)):
        machine = Machine(milliseconds)
        sample(machine.once, device(), machine.gauges())
        lengths.append(machine.now)
    assert lengths[0] > 2 * lengths[1]
    assert lengths[0] <= 2.0 + 0.01


def test_drift_is_noise() -> None:
    machine = Machine(lambda now: 1.0 + 0.3 * now)
    found = summary(sample(machine.once, device(), machine.gauges()), "d")
    assert device().noisy(found)
    assert machine.now == pytest.approx(2.0, abs=0.01)


def test_a_median_between_two_modes_is_noise() -> None:
    rng = np.random.default_rng(2)
    machine = Machine(lambda now: 1.0 if rng.random() < 0.52 else 2.0)  # noqa: ARG005
    found = summary(sample(machine.once, device(), machine.gauges()), "d")
    assert device().noisy(found)


def test_one_long_stall_is_no_noise() -> None:
    machine = Machine(lambda now: 100.0 if 0.2 < now < 0.21 else 1.0)
    found = by_name(summary(sample(machine.once, device(), machine.gauges()), "d"))
    assert found["latency_noise"].value < 0.01
    assert found["latency_p50_ms"].value == 1.0


def test_the_warm_up_takes_half_of_the_time_at_most() -> None:
    machine = Machine(lambda now: 100.0)  # noqa: ARG005
    sample(machine.once, device(warmup=1000, max_seconds=1.0), machine.gauges())
    assert len(machine.runs) == 6 + FEWEST


def test_garbage_is_not_collected_within_runs_and_is_afterwards() -> None:
    seen: list[bool] = []

    def once() -> float:
        seen.append(gc.isenabled())
        return 1.0

    time = iter(np.arange(0, 100, 0.01).tolist())
    sample(once, device(warmup=1, max_seconds=0.5), Gauges(lambda: next(time), None))
    assert seen[0]
    assert not any(seen[1:])
    assert gc.isenabled()


def test_percentiles_and_spread_are_those_of_the_samples() -> None:
    found = by_name(summary(Sampled(np.random.default_rng(0).permutation(np.arange(101.0))), "d"))
    assert found["latency_p50_ms"] == Measurement("latency_p50_ms", 50.0, "ms", None, "d", 34.0, 101)
    assert (found["latency_p90_ms"].value, found["latency_p99_ms"].value) == (90.0, 99.0)
    assert set(found) == {"latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "latency_noise"}


def test_the_interval_of_equal_blocks_is_what_a_missed_disturbance_could_change() -> None:
    samples = np.tile(np.arange(100.0), 10)  # every tenth of them is alike
    low, high = interval(samples)
    # 26 % of the time missed: the median would be at rank 0.5 / 0.74 = 0.675
    assert (low, high) == (pytest.approx(32.5, abs=1), pytest.approx(66.5, abs=1))


@pytest.mark.parametrize("count", [2, 5, 9, 20])
def test_few_samples_have_an_interval_that_holds_their_median(count: int) -> None:
    samples = np.arange(1.0, count + 1)
    low, high = interval(samples)
    assert 1 <= low <= float(np.median(samples)) <= high <= count


def test_energy_is_that_of_a_run() -> None:
    machine = Machine(lambda now: 2.0, watts=30.0)  # noqa: ARG005
    found = by_name(summary(sample(machine.once, device(), machine.gauges()), "d"))
    assert found["energy_mj"].value == pytest.approx(30 * 2.0)
    assert found["energy_mj"].unit == "mJ"


def test_without_gauges_there_is_neither_share_nor_energy() -> None:
    machine = Machine(lambda now: 2.0)  # noqa: ARG005
    sampled = sample(machine.once, device(), Gauges(lambda: machine.now, None))
    assert (sampled.cpu_share, sampled.energy_mj) == (None, None)


def profile_of(p50: float, noise: float, share: float | None) -> tuple[Measurement, ...]:
    found = (Measurement("latency_p50_ms", p50, "ms"), Measurement("latency_noise", noise))
    return found if share is None else (*found, Measurement("cpu_share", share))


@pytest.mark.parametrize(
    ("noise", "share", "sentence"),
    [
        (0.021, 0.99, "p50 is 1.23 ms ± 2.1 %"),
        (0.021, None, "p50 is 1.23 ms ± 2.1 %"),
        (0.021, 0.6, "p50 is 1.23 ms ± 2.1 %, but the machine is busy: the model had only 60 % of a core"),
        (
            0.14,
            0.6,
            "the machine is too busy: p50 is 1.23 ms ± 14.0 %, allowed are 5 %; the model had only 60 % of a "
            "core; stop what else runs, or raise max_seconds or noise_limit",
        ),
        (
            0.14,
            0.99,
            "too noisy: p50 is 1.23 ms ± 14.0 %, allowed are 5 %; stop what else runs, or raise max_seconds "
            "or noise_limit",
        ),
    ],
)
def test_the_verdict_is_one_sentence(noise: float, share: float | None, sentence: str) -> None:
    assert verdict(profile_of(1.2345, noise, share), device()) == sentence


def test_the_verdict_reads_metrics_that_carry_a_device() -> None:
    found = (Measurement("latency_p50_ms@edge", 2.0, "ms"), Measurement("latency_noise@edge", 0.5))
    assert device().noisy(found)
    assert verdict(found, device()).startswith("too noisy: p50 is 2 ms ± 50.0 %")


@pytest.mark.parametrize("noise", [math.nan, math.inf, 0.0501])
def test_what_is_not_narrow_is_noisy(noise: float) -> None:
    assert device().noisy(profile_of(1.0, noise, None))
    assert not device().noisy(profile_of(1.0, 0.05, None))


def test_a_device_that_prints_one_number_has_a_verdict_as_well() -> None:
    assert (
        verdict((Measurement("latency_p50_ms", 2.0, "ms"),), device()) == "p50 is 2 ms, without an interval"
    )
    assert verdict((), device()) == "no latency was measured"
