"""What matters is found, what does not is about 0, and conditional choices count where they exist."""

import numpy as np
import pytest

from tests.analysis.made import ACCURACY, PARAMETERS, drawn, trained
from ziggurat.analysis import importance
from ziggurat.choices import Range, Values

CHOICES = {
    "depth": Values(values=[1, 2, 3, 4]),
    "act": Values(values=["relu", "tanh", "gelu"]),
    "inert": Values(values=["a", "b", "c"]),
    "noise": Range(min=0.0, max=1.0),
    "fixed": Values(values=[7]),
    "decay": Range(min=0.0, max=0.5, when={"act": ["relu"]}),
}


def outcome(candidate, rng):
    x = candidate.choices
    value = 0.6 + 0.06 * x["depth"] - 0.08 * (x["act"] == "tanh") - 0.3 * x.get("decay", 0.0)
    return {"val_accuracy": value + rng.normal(0, 0.01), "parameters": 10.0 ** x["depth"]}


@pytest.fixture(scope="module")
def found():
    trials = trained(drawn(CHOICES, 130), outcome)
    return {(i.metric, i.choice): i for i in importance.of(CHOICES, trials, (ACCURACY, PARAMETERS))}


def test_planted_choices_matter_and_their_intervals_exclude_nothing(found):
    for name in ("depth", "act", "decay"):
        assert found["val_accuracy", name].low > 0.005, name
    order = [c for m, c in found if m == "val_accuracy"]
    assert order[0] == "depth"
    assert found["val_accuracy", "depth"].share > 0.4


def test_inert_choices_are_about_nothing(found):
    for name in ("inert", "noise"):
        one = found["val_accuracy", name]
        assert abs(one.share) < 0.02, name
        assert one.low < 0.01


def test_metric_over_decades_is_explained_on_a_logarithmic_scale(found):
    one = found["parameters", "depth"]
    assert one.share == pytest.approx(1.0, abs=0.15)
    assert one.explained > 0.95
    assert all(found["parameters", n].share < 0.02 for n in ("act", "inert", "noise", "decay"))


def test_share_of_one_cause_among_two_is_its_part_of_the_variance():
    two = {"big": Values(values=[0, 1]), "small": Values(values=[0, 1])}
    trials = trained(
        drawn(two, 200),
        lambda c, r: {"val_accuracy": 0.3 + 0.2 * c.choices["big"] + 0.1 * c.choices["small"]},
    )
    shares = {i.choice: i.share for i in importance.of(two, trials, (ACCURACY,))}
    assert shares["big"] == pytest.approx(0.8, abs=0.1)
    assert shares["small"] == pytest.approx(0.2, abs=0.06)


def test_choice_of_one_value_is_left_out(found):
    assert not any(choice == "fixed" for _, choice in found)


def test_same_trials_give_the_same_numbers():
    trials = trained(drawn(CHOICES, 30), outcome)
    assert importance.of(CHOICES, trials, (ACCURACY,)) == importance.of(CHOICES, trials, (ACCURACY,))


def test_few_trials_or_no_spread_say_nothing():
    assert importance.of(CHOICES, trained(drawn(CHOICES, 19), outcome), (ACCURACY,)) == []
    assert (
        importance.of(CHOICES, trained(drawn(CHOICES, 40), lambda c, r: {"val_accuracy": 0.5}), (ACCURACY,))
        == []
    )
    assert np.isfinite(
        [i.share for i in importance.of(CHOICES, trained(drawn(CHOICES, 20), outcome), (ACCURACY,))]
    ).all()


def test_choice_is_exchanged_between_those_trials_alone_that_have_it():
    table = np.arange(12.0).reshape(6, 2)
    active = np.array([True, True, False, True, False, True])
    moved = importance._shuffled(table, slice(1, 2), active, np.random.default_rng(0))
    copies = moved.reshape(importance.SHUFFLES, 6, 2)
    assert (copies[:, :, 0] == table[:, 0]).all()
    assert (copies[:, ~active] == table[~active]).all()
    assert all(sorted(c[active, 1]) == sorted(table[active, 1]) for c in copies)
    assert not (copies[:, active] == table[active]).all()


def test_choice_that_only_names_its_candidate_is_left_out():
    rows = {"row": Values(values=[f"row_{i}" for i in range(500)])}
    trials = trained(drawn(rows, 40), lambda c, r: {"val_accuracy": r.random()})
    assert importance.of(rows, trials, (ACCURACY,)) == []
