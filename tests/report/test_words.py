"""Numbers as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ziggurat.report import words


@pytest.mark.parametrize(
    ("metric", "value", "unit", "text"),
    [
        ("val_accuracy", 0.9784, "1", "97.8 %"),
        ("parameters", 12_300.0, "1", "12,300"),
        ("parameters", 12_300_000.0, "1", "12.3 M"),
        ("latency_p50_ms", 0.24381, "ms", "0.244 ms"),
        ("latency_p50_ms", 1234.5, "ms", "1,234 ms"),
        ("latency_p50_ms@edge", 1.0, "ms", "1.00 ms"),
        ("model_size_mb", 3.14159, "MB", "3.14 MB"),
        ("val_loss", 0.0, "1", "0"),
        ("val_loss", math.nan, "1", "\u2013"),
        ("energy", 2.5, "J", "2.50 J"),
    ],
)
def test_a_value_is_shown_with_its_unit(metric, value, unit, text):
    assert words.shown(metric, value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "$0"), (0.00314, "$0.0031"), (1.5, "$1.50"), (12_345.6, "$12,346"), (None, "\u2013")],
)
def test_money_is_shown_to_the_cent_or_to_two_digits(value, text):
    assert words.usd(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.26, "4.3 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (270_000, "3 d 3 h")],
)
def test_a_duration_is_shown_in_two_units(seconds, text):
    assert words.duration(seconds) == text


def test_a_mean_is_as_exact_as_its_spread():
    assert words.spread("latency_p50_ms", 1.23456, 0.0123) == "1.235 ± 0.012"
    assert words.spread("test_accuracy", 0.9721, 0.0042) == "97.21 ± 0.42"
    assert words.spread("parameters", 12_300, 0.0) == "12,300"
    assert words.spread("val_loss", 0.5, None) == "0.500"


def test_a_metric_nobody_listed_reads_well_too():
    assert words.heading("energy_per_image_ms@edge") == "Energy per image on edge (ms)"


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_has_a_short_text(value):
    assert 0 < len(words.number(value)) <= 16


@given(st.floats(0, 1e7))
def test_any_duration_has_a_short_text(value):
    assert 0 < len(words.duration(value)) <= 14
