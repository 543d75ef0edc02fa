"""Who may become champion, and by what numbers."""

from dataclasses import replace
from typing import Any

import pytest

from ziggurat.domain import Goal, Measurement, Objective
from ziggurat.listeners.mlflow_promotion import checks, difference
from ziggurat.listeners.mlflow_versions import Facts

ACCURACY = Objective("val_accuracy", Goal.MAXIMIZE, 0.1)
LATENCY = Objective("latency_p50_ms", Goal.MINIMIZE, 10.0, limit=5.0)


def facts(right: float = 0.9, latency: float = 2.0, **changes: Any) -> Facts:
    """A model that has seen everything a champion must have seen."""
    metrics = {
        "val_accuracy": Measurement("val_accuracy", right, step=9),
        "test_accuracy": Measurement("test_accuracy", right, samples=1000),
        "latency_p50_ms": Measurement(
            "latency_p50_ms", latency, "ms", device="phone", spread=0.1, samples=50
        ),
    }
    plain: dict[str, Any] = {
        "run_id": "r",
        "trial": 1,
        "judged": ACCURACY,
        "metrics": metrics,
        "objectives": (ACCURACY, LATENCY),
        "devices": ("phone",),
        "fingerprint": "53fd",
        "evaluations": 1,
        "looks": 1,
        "examples": {"validation": 1000},
        "model_format": "pt2",
    }
    return Facts(**{**plain, **changes})


def without(found: Facts, name: str) -> Facts:
    """The facts without a metric."""
    return replace(found, metrics={k: m for k, m in found.metrics.items() if k != name})


def failed(new: Facts, champion: Facts | None = None) -> dict[str, str]:
    """The checks that fail, by name, with their texts."""
    return {c.name: c.text for c in checks(new, champion, "m/1") if c.ok is False}


def test_the_first_champion_needs_no_comparison() -> None:
    assert failed(facts()) == {}


@pytest.mark.parametrize(
    ("new", "name", "words"),
    [
        (facts(evaluations=0), "sealed test", "never evaluated"),
        (without(facts(), "test_accuracy"), "sealed test", "never evaluated"),
        (facts(evaluations=2), "sealed test", "evaluated 2 times"),
        (facts(latency=5.1), "limit", "latency_p50_ms 5.1, the limit is 5"),
        (without(facts(), "latency_p50_ms"), "limit", "is not known"),
        (without(facts(), "latency_p50_ms"), "devices", "not measured on phone"),
        (facts(devices=("phone", "board")), "devices", "not measured on board"),
        (facts(model_format="pickle"), "model file", "runs what is in it"),
        (facts(model_format=""), "model file", "stored as ''"),
    ],
)
def test_what_is_lacking_is_named_with_its_numbers(new: Facts, name: str, words: str) -> None:
    assert words in failed(new)[name]


def test_a_limit_is_not_kept_by_a_prediction() -> None:
    predicted = Measurement("latency_p50_ms", 2.0, "ms", device="phone", spread=0.2)
    new = facts(metrics={**facts().metrics, "latency_p50_ms": predicted})
    assert "predicted and not measured" in failed(new)["limit"]
    assert "devices" in failed(new)


def test_a_limit_of_exactly_the_value_is_kept() -> None:
    assert failed(facts(latency=5.0)) == {}


def test_a_clearly_better_model_replaces_the_champion() -> None:
    assert failed(facts(0.95), facts(0.90)) == {}


@pytest.mark.parametrize(
    ("new", "words"), [(0.91, "may be chance"), (0.90, "may be chance"), (0.80, "worse")]
)
def test_what_is_not_better_beyond_chance_is_refused(new: float, words: str) -> None:
    assert words in failed(facts(new), facts(0.90))["champion"]


def test_being_faster_alone_is_told_but_does_not_suffice() -> None:
    text = failed(facts(0.90, latency=1.0), facts(0.90, latency=2.0))["champion"]
    assert "better in latency_p50_ms (1 against 2)" in text


@pytest.mark.parametrize("prints", [("a", "b"), ("", ""), ("a", "")])
def test_models_judged_on_different_data_are_not_compared(prints: tuple[str, str]) -> None:
    new, old = (facts(0.99, fingerprint=p) for p in prints)
    assert "other data" in failed(new, old)["champion"]


def test_the_interval_is_that_of_two_proportions() -> None:
    found = difference(facts(0.95), facts(0.90))
    assert found is not None
    # by hand: p = 951/1002, q = 901/1002, margin 1.959964 * sqrt(p(1-p)/1002 + q(1-q)/1002)
    assert (found.metric, round(found.low, 4), round(found.high, 4)) == ("test_accuracy", 0.0268, 0.073)
    swapped = difference(facts(0.90), facts(0.95))
    assert swapped is not None
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))


def test_a_perfect_score_is_not_taken_for_certain() -> None:
    few = Measurement("test_accuracy", 1.0, samples=10)
    new = facts(1.0, metrics={**facts(1.0).metrics, "test_accuracy": few})
    assert "may be chance" in failed(new, facts(0.9))["champion"]


def test_validation_decides_where_the_champion_was_never_tested() -> None:
    found = difference(facts(0.95), without(facts(0.90), "test_accuracy"))
    assert found is not None
    assert found.metric == "val_accuracy"
    assert found.low > 0


def test_a_metric_without_an_interval_is_compared_by_value() -> None:
    loss = Objective("val_loss", Goal.MINIMIZE, 2.0)

    def of(value: float) -> Facts:
        metrics = {**facts().metrics, "test_loss": Measurement("test_loss", value, samples=1000)}
        return facts(judged=loss, objectives=(loss,), metrics=metrics)

    assert failed(of(0.3), of(0.4)) == {}
    assert "worse" in failed(of(0.5), of(0.4))["champion"]


def test_an_unknown_value_is_no_reason_to_promote() -> None:
    gone = without(without(facts(), "test_accuracy"), "val_accuracy")
    assert "not known of both" in failed(facts(), gone)["champion"]
