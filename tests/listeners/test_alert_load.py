"""Sums over a window that moves on, held equal to adding everything up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ziggurat.listeners.alert_load import Load, Use

SPANS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), max_size=30)


@given(SPANS, st.integers(1, 120), st.integers(0, 100))
def test_load_is_the_sum_of_all_overlaps(spans: list[tuple[int, int]], window: int, later: int) -> None:
    load = Load(120)
    changes = sorted([(a, 1) for a, _ in spans] + [(a + n, -1) for a, n in spans])
    now = max((t for t, _ in changes), default=0) + later
    for utc, by in changes:
        load.change(utc, by)
    plain = sum(max(0, min(a + n, now) - max(a, now - window)) for a, n in spans)
    assert load.within(now, window) == pytest.approx(plain)


def test_load_keeps_no_more_than_it_needs() -> None:
    load = Load(10)
    for second in range(10_000):
        load.change(second, 1 if second % 2 == 0 else -1)
    assert len(load._times) < 50
    assert load.within(10_000, 10) == pytest.approx(5)


def test_means_are_weighted_by_time_and_old_ones_are_dropped() -> None:
    use = Use(100)
    use.end(30, "a", 30, {"cpu_utilisation": 0.2})
    use.end(40, "b", 10, {"cpu_utilisation": 1.0})
    assert use.mean("cpu_utilisation", 50) == (40, pytest.approx((30 * 0.2 + 10) / 40))
    assert use.mean("gpu_utilisation", 50) == (0, 0)
    assert use.mean("cpu_utilisation", 131) == (10, pytest.approx(1.0))
    assert use.mean("cpu_utilisation", 141) == (0, 0)


def test_a_running_job_counts_with_what_it_did_between_two_looks() -> None:
    use = Use(30)
    for seconds, mean in ((10, 1.0), (20, 0.5), (30, 1 / 3)):  # busy for 10 s, then not at all
        use.tell(seconds, "a", seconds, {"gpu_utilisation": mean})
    assert use.mean("gpu_utilisation", 30) == (30, pytest.approx(1 / 3))
    assert use.mean("gpu_utilisation", 41) == (20, pytest.approx(0.0))
    use.end(50, "a", 50, {"gpu_utilisation": 0.6})  # 20 s of full use at its end
    assert use.mean("gpu_utilisation", 51) == (30, pytest.approx(20 / 30))
