"""What decisions are made from: forecasts at measured rates, the reserve, known metrics and generators."""

import pytest

from tests.real import plain
from tests.support import CHOICES, LADDER, Story
from ziggurat import choices, spec
from ziggurat.contexts import (
    UNKNOWN_RATE_S,
    Rates,
    chance,
    forecaster,
    known_static,
    make_context,
    reserve_usd,
    rng_for,
    seed_for,
)
from ziggurat.domain import Candidate, Fidelity, Measurement
from ziggurat.events import Amended, SegmentFinished, StageFinished
from ziggurat.segments import units


def parsed(**changes):
    return spec.parse(plain(**changes), "test")


def told(*seconds, metrics=None):
    """A story with trainings to the first rung that took some seconds each."""
    story = Story()
    rng = story.context().rng
    for spent in seconds:
        number = story.propose(choices.sample(CHOICES, rng), {"parameters": 7.0})
        job = story.start(number)
        found = (Measurement("val_accuracy", 0.5, step=1),)
        story.add(SegmentFinished(job.key, number, spent, 0.0, measurements=metrics or found))
    return story


def test_a_segment_stands_for_its_epochs_on_the_whole_training_part():
    ladder = (Fidelity(2, 0.5), Fidelity(6, 1.0))
    assert [units(ladder, -1, 0), units(ladder, 0, 1), units(ladder, -1, 1)] == [1.0, 4.0, 6.0]


def test_a_forecast_follows_the_preflight_then_others_then_the_candidate_itself():
    settings = parsed(launcher={"kind": "local", "usd_per_hour": 3600})
    story = Story()
    stranger = Candidate({"width": 5})
    assert forecaster(settings, story.history, LADDER)(stranger, -1, 1).seconds == 3 * UNKNOWN_RATE_S
    story.add(StageFinished("preflight", "ok", {"epoch_s": 0.5}))
    assert forecaster(settings, story.history, LADDER)(stranger, -1, 1).seconds == 1.5
    story = told(1.0, 2.0, 3.0, 4.0, 5.0)
    forecast = forecaster(settings, story.history, LADDER)
    assert forecast(stranger, -1, 0).seconds == 4.0  # the upper quartile of 1 to 5
    assert forecast(story.trial(0).candidate, 0, 1) == forecast(story.trial(0).candidate, 0, 1)
    assert forecast(story.trial(0).candidate, 0, 1).seconds == 2.0  # its own second an epoch, 1 to 3
    assert forecast(story.trial(0).candidate, 0, 1).usd == pytest.approx(2.0)


def test_a_failed_training_says_nothing_about_rates():
    story = told(1.0)
    story.propose(Candidate({"width": 6}))
    story.fail(1)
    assert Rates(story.history).typical == 1.0


def test_the_reserve_holds_retraining_and_measuring_and_at_most_half_of_the_limit_in_force():
    changes = {
        "launcher": {"kind": "local", "usd_per_hour": 3600},
        "retrain": {"k": 2, "seeds": 3, "epochs": 10},
        "budget": {"stop_margin_s": 2.0},
    }
    story = told(1.0)
    # 6 models x 10 epochs x 1.2; each on the test part, on one device, and exported in 3 s; two workers stop
    assert reserve_usd(parsed(**changes), story.history) == pytest.approx(72 + 12 + 18 + 2 * 2.5)
    limited = parsed(**{**changes, "budget": {"limit_usd": 100, "stop_margin_s": 2.0}})
    assert reserve_usd(limited, story.history) == 50.0
    story.add(Amended({"budget.limit_usd": 500.0}))
    assert reserve_usd(limited, story.history) == pytest.approx(107)
    assert reserve_usd(parsed(**{**changes, "retrain": {"enabled": False}}), story.history) == 0.0
    own = parsed(**{**changes, "budget": {"stages": {"retrain": 20.0, "measure": 4.0}}})
    assert reserve_usd(own, story.history) == 24.0


def test_of_machines_that_are_held_the_reserve_pays_all_for_as_long_as_it_takes():
    changes = {
        "launcher": {"kind": "local", "usd_per_hour": 3600, "charge": "held"},
        "retrain": {"k": 1, "seeds": 3, "epochs": 10},
        "budget": {"stop_margin_s": 2.0},
    }
    # three models on two workers take as long as two: 20 epochs x 1.2, 2.5 s to stop, then 3 x (1 + 1 + 3) s
    assert reserve_usd(parsed(**changes), told(1.0).history) == pytest.approx(2 * (24 + 2.5 + 15))


def test_known_metrics_are_given_and_others_left_out():
    story = told(1.0)
    static = known_static(story.history)
    assert static([story.trial(0).candidate, Candidate({"width": 99})]) == [{"parameters": 7.0}, {}]


def test_chance_is_what_the_preflight_found():
    story = Story()
    assert chance(story.history) == {}
    story.add(
        StageFinished("preflight", "ok", {"chance.val_accuracy": 0.1, "epoch_s": 2.0, "chance.odd": "no"})
    )
    assert chance(story.history) == {"val_accuracy": 0.1}


def test_generators_and_seeds_are_functions_of_seed_stage_and_index():
    settings, other = parsed(), parsed(seed=1)
    draws = {
        (who, stage, index): float(rng_for(s, stage, index).random())
        for who, s in (("one", settings), ("other", other))
        for stage in ("search", "retrain")
        for index in (0, 1)
    }
    assert len(set(draws.values())) == 8
    assert float(rng_for(parsed(), "search", 0).random()) == draws["one", "search", 0]
    assert seed_for(settings, "search", 3) == seed_for(parsed(), "search", 3)
    assert 0 <= seed_for(settings, "search", 3) < 2**31
    assert seed_for(settings, "search", 3) != seed_for(settings, "search", 4)


def test_a_context_draws_as_the_next_trial_of_its_stage():
    settings = parsed()
    story = told(1.0, 1.0)
    context = make_context(settings, story.history, "search")
    assert float(context.rng.random()) == float(rng_for(settings, "search", 2).random())
    assert context.trials == 6
    assert context.top == 1
