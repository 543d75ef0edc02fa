"""The forecast of a run, by hand."""

import pytest

from tests import tabular
from tests.real import plain
from tests.support import Story
from ziggurat import spec
from ziggurat.domain import Measurement
from ziggurat.estimate import estimate, naive_usd, survivors
from ziggurat.events import SegmentFinished, StageFinished
from ziggurat.paces import Paces


def parsed(**changes):
    settings = {
        "fidelities": [{"epochs": 1, "data_fraction": 0.5}, {"epochs": 3}],
        "search": {"trials": 12, "workers": 2},
        "retrain": {"k": 2, "seeds": 3, "epochs": 10},
        "launcher": {"kind": "local", "usd_per_hour": 3600},
        **changes,
    }
    return spec.parse(plain(**settings), "test")


def known(seconds):
    """A history whose preflight has found seconds for an epoch."""
    story = Story()
    story.add(StageFinished("preflight", "ok", {"epoch_s": seconds}))
    return story.history


def test_without_a_stopper_every_trial_reaches_every_rung():
    assert survivors(parsed()) == [12.0, 12.0]


def test_asha_keeps_a_share_at_every_rung_beyond_its_grace():
    ladder = [{"epochs": e} for e in (1, 2, 4, 8)]
    search = {"trials": 12, "stopper": {"kind": "asha", "reduction_factor": 2}}
    assert survivors(parsed(fidelities=ladder, search=search)) == [12.0, 6.0, 3.0, 1.5]
    search["stopper"]["grace"] = 2
    assert survivors(parsed(fidelities=ladder, search=search)) == [12.0, 12.0, 12.0, 6.0]
    search["stopper"] = {"kind": "asha", "reduction_factor": 10}
    assert survivors(parsed(fidelities=ladder, search=search)) == pytest.approx([12.0, 1.2, 1.0, 1.0])


def test_brackets_and_percentiles_are_forecast_as_well():
    ladder = [{"epochs": e} for e in (1, 2, 4)]
    search = {"trials": 22, "stopper": {"kind": "asha", "reduction_factor": 2, "brackets": 2}}
    # two decisions: 4 / 3 parts of the trials; one decision: 2 / 2 parts; so shares 4 / 7 and 3 / 7
    expected = [22.0, 22 * (4 / 7 / 2 + 3 / 7), 22 * (4 / 7 / 4 + 3 / 7 / 2)]
    assert survivors(parsed(fidelities=ladder, search=search)) == pytest.approx(expected)
    search["stopper"] = {"kind": "percentile", "percentile": 25, "grace": 1}
    assert survivors(parsed(fidelities=ladder, search=search)) == pytest.approx([22.0, 22.0, 16.5])
    search["stopper"] = {"kind": "median"}
    assert survivors(parsed(fidelities=ladder, search=search)) == [22.0, 22.0, 22.0]


def test_stages_are_forecast_at_the_known_rate():
    rows = {row.stage: row for row in estimate(parsed(), known(2.0))}
    # a trial: 1 epoch on half of the data, then 2 on all of it
    assert rows["search"].seconds == pytest.approx(12 * 2.5 * 2.0)
    assert rows["search"].wall_s == pytest.approx(30.0)
    assert rows["search"].usd == pytest.approx(60.0)
    assert rows["search"].segments == 24
    assert rows["retrain"].seconds == pytest.approx(2 * 3 * 10 * 2.0)
    assert "validate" not in rows


def test_validation_is_forecast_with_its_probes_and_the_climb():
    settings = parsed(validate={"candidates": 4, "seeds": 2, "subset": 0.5, "epochs": 2})
    rows = {row.stage: row for row in estimate(settings, known(1.0))}
    assert rows["validate"].seconds == pytest.approx(4 * 2 * 2 * 0.5 + 4 * 2.5)
    settings = parsed(validate={"candidates": 4, "seeds": 2, "subset": 0.5, "epochs": 2, "proxy": False})
    rows = {row.stage: row for row in estimate(settings, known(1.0))}
    assert rows["validate"].seconds == pytest.approx(8.0)


def test_early_stopping_saves_what_the_naive_search_would_cost():
    search = {"trials": 12, "stopper": {"kind": "asha", "reduction_factor": 2}}
    settings = parsed(search=search)
    cost = next(row.usd for row in estimate(settings, known(2.0)) if row.stage == "search")
    assert cost == pytest.approx((12 * 0.5 + 6 * 2) * 2.0)
    assert naive_usd(settings, known(2.0)) == pytest.approx(60.0)


def table(folder, **space):
    """The spec of a table of schedules of 4 and of 20 epochs, or of its curves."""
    return spec.parse(
        {
            "name": "table",
            "space": {"kind": "table", **space},
            "objectives": [{"metric": "val_loss" if "curves" in space else "val_accuracy", "reference": 0.1}],
            "fidelities": [{"epochs": 4}, {"epochs": 10 if "curves" in space else 20}],
            "validate": {"enabled": False},
            "retrain": {"enabled": False},
            "tracking": {"enabled": False},
            "search": {
                "trainer": {"kind": "table"},
                "trials": 10,
                "stopper": {"kind": "asha", "reduction_factor": 5},
            },
            "launcher": {"kind": "simulated", "usd_per_hour": 3600},
        },
        "test",
    )


def test_separate_trainings_are_forecast_whole_and_curves_from_where_they_ended(tmp_path):
    whole = table(tmp_path, accuracy=tabular.schedules(tmp_path)["accuracy"])
    going_on = table(tmp_path, curves=tabular.curves(tmp_path))
    for settings, seconds in ((whole, 10 * 4 + 2 * 20), (going_on, 10 * 4 + 2 * 6)):
        assert estimate(settings, known(2.0))[0].seconds == pytest.approx(2.0 * seconds)
    assert naive_usd(whole, known(2.0)) == pytest.approx(2.0 * 10 * 24)
    assert naive_usd(going_on, known(2.0)) == pytest.approx(2.0 * 10 * 10)


def test_the_rate_of_separate_trainings_is_that_of_the_whole_of_each(tmp_path):
    settings = table(tmp_path, accuracy=tabular.schedules(tmp_path)["accuracy"])
    story = Story(ladder=settings.ladder())
    number = story.propose(settings.space.table.candidates[0])
    for spent in (8.0, 60.0):  # two and then three seconds an epoch, though only 16 were added
        job = story.start(number)
        found = (Measurement("val_accuracy", 0.5, step=1),)
        story.add(SegmentFinished(job.key, number, spent, 0.0, measurements=found))
    assert Paces(settings, story.history).measured == [3.0]
    assert naive_usd(settings, story.history) == pytest.approx(3.0 * 240)
