"""What separates the best: planted effects are found with their size, chance is not, and words say it."""

import numpy as np
import pytest

from tests.analysis.made import ACCURACY, PARAMETERS, drawn, stopped, trained
from ziggurat.analysis import evidence
from ziggurat.analysis.factors import separating
from ziggurat.choices import Range, Values

CHOICES = {
    "depth": Values(values=[2, 4]),
    "rate": Range(min=1e-4, max=1e-1, log=True),
    "act": Values(values=["relu", "tanh", "gelu"]),
    "inert": Values(values=["a", "b", "c", "d"]),
    "skip": Values(values=[False, True]),
}


def outcome(candidate, rng):
    x = candidate.choices
    return {
        "val_accuracy": 0.8 + 0.018 * (x["depth"] == 4) - 0.05 * (x["act"] == "tanh") + rng.normal(0, 0.012),
        "parameters": 1000.0 * x["depth"],
    }


@pytest.fixture(scope="module")
def found():
    return separating(CHOICES, trained(drawn(CHOICES, 150), outcome), (ACCURACY,))


def test_planted_effect_is_found_with_its_size_and_an_interval_around_it(found):
    depth = next(f for f in found if f.choice == "depth")
    assert depth.value == "4"
    assert depth.low < 0.018 < depth.high
    assert 0.008 < depth.effect < 0.03
    assert depth.better
    assert depth.count <= depth.best


def test_words_tell_effect_interval_and_how_many_of_the_best(found):
    depth = next(f for f in found if f.choice == "depth")
    assert depth.words.startswith("depth 4 rather than 2: +")
    assert "points of val_accuracy (95 %: " in depth.words
    assert f"{depth.count} of the {depth.best} best have it" in depth.words


def test_inert_choices_are_not_named(found):
    assert {f.choice for f in found} <= {"depth", "act"}


def test_every_interval_excludes_nothing(found):
    assert found
    assert all(f.low > 0 or f.high < 0 for f in found)


def test_chance_alone_is_hardly_ever_called_a_factor():
    hits = 0
    for seed in range(20):
        noise = trained(drawn(CHOICES, 60, seed), lambda c, r: {"val_accuracy": 0.5 + r.normal(0, 0.1)}, seed)
        # the best are chosen by the very values that are compared
        hits += bool(separating(CHOICES, noise, (ACCURACY,)))
    assert hits <= 3


def test_price_of_a_good_choice_is_said():
    trials = trained(drawn(CHOICES, 150), outcome)
    both = separating(CHOICES, trials, (ACCURACY, PARAMETERS))
    prices = [f for f in both if f.metric == "parameters" and f.value == "4"]
    assert all(not f.better and "which is its price" in f.words for f in prices)


def test_larger_half_of_a_number_is_compared_with_the_smaller():
    found = separating(
        CHOICES,
        trained(drawn(CHOICES, 120), lambda c, r: {"val_accuracy": 0.9 + 0.05 * np.log10(c.choices["rate"])}),
        (ACCURACY,),
    )
    assert found[0].choice == "rate"
    assert found[0].value == "larger"
    assert found[0].words.startswith("rate above 0.0")


def test_booleans_are_written_as_in_the_spec():
    found = separating(
        CHOICES,
        trained(
            drawn(CHOICES, 80),
            lambda c, r: {"val_accuracy": 0.5 + 0.1 * c.choices["skip"] + r.normal(0, 0.01)},
        ),
        (ACCURACY,),
    )
    assert found[0].words.startswith("skip true rather than false: ")


def test_too_few_trials_say_nothing():
    assert separating(CHOICES, trained(drawn(CHOICES, 15), outcome), (ACCURACY,)) == []
    assert separating(CHOICES, [], (ACCURACY,)) == []


def test_trials_that_never_reached_the_top_are_left_out():
    trials = trained(drawn(CHOICES, 60), outcome)
    more = [stopped(c, 1000 + i) for i, c in enumerate(drawn(CHOICES, 60, 5))]
    assert separating(CHOICES, [*trials, *more], (ACCURACY,)) == separating(CHOICES, trials, (ACCURACY,))


def test_best_are_the_front_and_the_next_ranks_up_to_a_quarter():
    trials = trained(drawn(CHOICES, 100), outcome)
    groups = evidence.groups(trials, (ACCURACY,))
    assert groups.best.sum() == 25
    worst_of_best = min(t.value("val_accuracy") for t in groups.top)
    rest = [t.value("val_accuracy") for t, b in zip(groups.trials, groups.best, strict=True) if not b]
    assert worst_of_best >= max(rest)


def test_trials_beyond_a_limit_or_worthless_by_the_reference_come_last():
    from dataclasses import replace

    trials = trained(drawn(CHOICES, 100), outcome)
    tight = replace(PARAMETERS, limit=2000.0)
    groups = evidence.groups(trials, (ACCURACY, tight))
    assert all(t.value("parameters") <= 2000 for t in groups.top)
    assert not any(
        t.value("parameters") > 2000 for t, f in zip(groups.trials, groups.front, strict=True) if f
    )
    modest = replace(PARAMETERS, reference=3000.0)
    groups = evidence.groups(trials, (ACCURACY, modest))
    assert all(t.value("parameters") < 3000 for t in groups.top)
    assert all(t.value("parameters") >= 3000 for t, o in zip(groups.trials, groups.outer, strict=True) if o)
    assert groups.outer.any()
