"""The rules of alerts cost little, however long the run is."""

import pytest

from benchmarks import alerts


@pytest.mark.parametrize("trials", [50, 500])
def test_a_tick_takes_far_less_than_five_milliseconds_of_the_processor(trials: int) -> None:
    found = alerts.measure(trials)
    assert found["mean_of_last_1000_ms"] < 2.0
    assert found["event_us"] < 1000
    assert found["alerts"] == 0
