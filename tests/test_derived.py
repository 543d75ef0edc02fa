"""Derived metrics: rewards and penalties by hand, what a spec may say of them, and a whole search of one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import real, tabular
from tests.support import Story
from ziggurat import derived, outcomes, spec
from ziggurat.derived import Penalty, Scaled
from ziggurat.domain import FailureKind, Goal, Job, JobKind, Measurement
from ziggurat.engine import Engine
from ziggurat.errors import SpecError
from ziggurat.events import SegmentFinished, SegmentPlanned
from ziggurat.stages import search

UP, DOWN = Goal.MAXIMIZE, Goal.MINIMIZE
REWARD = {"kind": "scaled", "metric": "val_accuracy", "cost": "latency_p50_ms", "target": 2.0}
SOFT = {"kind": "penalty", "metric": "val_loss", "cost": "flops", "target": 100.0, "weight": 0.5}
positive = st.floats(min_value=1e-3, max_value=1e3)
shares = st.floats(min_value=0.01, max_value=1.0)
weights = st.floats(min_value=1e-3, max_value=10)


def scaled(**changes):
    return Scaled(**{**REWARD, **changes})


def penalty(**changes):
    return Penalty(**{**SOFT, **changes})


def test_a_scaled_reward_by_hand():
    assert scaled(exponent=-0.5).value(0.8, 8.0, UP) == pytest.approx(0.4)
    assert scaled(exponent=-0.5).value(0.8, 0.5, UP) == pytest.approx(1.6)
    # twice the latency takes 5 % of the accuracy away, as the source wants it
    assert scaled().value(0.80, 4.0, UP) == pytest.approx(0.80 * 0.9526, abs=1e-4)
    assert scaled(exponent=-0.5).value(3.0, 8.0, DOWN) == pytest.approx(6.0)


def test_a_hard_reward_gives_nothing_for_being_cheaper():
    hard = scaled(exponent=-1.0, within=0.0)
    assert [hard.value(0.8, cost, UP) for cost in (0.0, 0.1, 2.0)] == [0.8, 0.8, 0.8]
    assert hard.value(0.8, 4.0, UP) == pytest.approx(0.4)


def test_a_reward_of_no_cost_is_not_defined():
    assert math.isnan(scaled().value(0.8, 0.0, UP))
    assert math.isnan(scaled().value(0.8, math.nan, UP))
    assert math.isnan(penalty().value(0.8, math.nan, UP))


def test_a_penalty_by_hand():
    assert penalty().value(0.8, 101.0, UP) == pytest.approx(0.3)
    assert penalty().value(2.0, 104.0, DOWN) == pytest.approx(4.0)


@given(shares, positive, weights, st.sampled_from([UP, DOWN]))
def test_a_penalty_is_nothing_within_the_target(metric, target, weight, goal):
    made = penalty(target=target, weight=weight)
    assert made.value(metric, target, goal) == metric
    assert made.value(metric, target / 3, goal) == metric


@given(shares, positive, positive, positive, weights, st.sampled_from([UP, DOWN]))
def test_beyond_the_target_a_dearer_candidate_is_worse(metric, target, low, more, weight, goal):
    loss = -1.0 if goal is UP else 1.0
    for made in (penalty(target=target, weight=weight), scaled(target=target, exponent=-weight)):
        cheap, dear = (made.value(metric, target + c, goal) * loss for c in (low, low + more))
        assert cheap < dear or cheap == pytest.approx(dear)


@given(shares, positive, weights, st.sampled_from([None, 0.0, -0.3]), st.sampled_from([UP, DOWN]))
def test_at_the_target_a_reward_is_the_metric(metric, target, weight, within, goal):
    assert scaled(target=target, exponent=-weight, within=within).value(metric, target, goal) == metric


def test_a_reward_that_is_not_defined_is_not_given():
    known = {
        "val_accuracy": Measurement("val_accuracy", 0.5),
        "latency_p50_ms": Measurement("latency_p50_ms", 0.0),
    }
    assert derived.measurements({"reward": scaled()}, {"reward": UP}, known) == ()


def test_what_is_not_known_gives_no_derived_metric():
    made = {"reward": scaled()}
    accuracy = Measurement("val_accuracy", 0.5, step=3)
    latency = Measurement("latency_p50_ms", 2.0, "ms", device="cpu", spread=0.1, samples=40)
    goals = {"reward": UP}
    assert derived.measurements(made, goals, {"val_accuracy": accuracy}) == ()
    assert derived.measurements(made, goals, {"latency_p50_ms": latency}) == ()
    both = {m.metric: m for m in (accuracy, latency)}
    assert derived.measurements(made, goals, both) == (Measurement("reward", 0.5, step=3),)


def given_spec(objectives=({"metric": "reward", "reference": 0.5},), made=REWARD, **changes):
    return spec.parse(real.plain(derived={"reward": made}, objectives=list(objectives), **changes), "test")


def test_a_derived_metric_goes_the_way_of_its_metric():
    found = given_spec()
    assert (found.goals()[0].goal, found.judged().metric, found.learned().metric) == (
        UP,
        "reward",
        "val_accuracy",
    )
    assert found.inputs() == ("val_accuracy", "latency_p50_ms")
    softened = given_spec(made=SOFT)
    assert (softened.goals()[0].goal, softened.inputs()) == (DOWN, ("val_loss", "flops"))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({**REWARD, "metric": "accuracy"}, ("reward.metric is 'accuracy'", "val_accuracy")),
        ({**REWARD, "metric": "flops"}, ("reward.metric is 'flops'", "that training tells")),
        ({**REWARD, "cost": "val_loss"}, ("reward.cost is 'val_loss'", "latency_p50_ms")),
        ({**REWARD, "cost": "latency"}, ("reward.cost is 'latency'", "latency_p50_ms")),
        ({**REWARD, "target": 0}, ("derived.reward.target", "above 0")),
        ({**REWARD, "exponent": 0.07}, ("derived.reward.exponent", "0.07", "below 0")),
        ({**REWARD, "within": 0.07}, ("derived.reward.within", "0.07")),
        ({**SOFT, "weight": -1}, ("derived.reward.weight", "-1", "above 0")),
        ({**SOFT, "exponent": -1}, ("derived.reward.exponent", "unknown key")),
        ({**REWARD, "kind": "soft"}, ("derived.reward.kind", "'soft'", "scaled")),
    ],
)
def test_a_derived_metric_that_cannot_be_made_is_refused_in_one_line(made, words):
    with pytest.raises(SpecError) as error:
        given_spec(made=made)
    line = str(error.value)
    assert "\n" not in line
    assert [w for w in words if w not in line] == [], line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("val_loss", "a metric already"),
        ("test_accuracy", "a metric already"),
        ("soft accuracy", "letters, digits and _"),
        ("soft_accuracy", "ends in accuracy"),
        ("cost_ms", "ends in _ms"),
    ],
)
def test_a_name_that_means_something_else_is_refused(name, words):
    settings = real.plain(derived={name: REWARD}, objectives=[{"metric": name, "reference": 0.5}])
    with pytest.raises(SpecError, match=f"^test: derived: .*{words}") as error:
        spec.parse(settings, "test")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("made", "objective", "words"),
    [
        (REWARD, {"reference": -0.1}, "numbers from 0"),
        (REWARD, {"reference": 0.5, "goal": "minimize"}, "can only be 'maximize'"),
        ({**SOFT, "metric": "val_accuracy"}, {"reference": 1.0}, "numbers below 1"),
        (SOFT, {"reference": 0.0}, "numbers above 0"),
        (SOFT, {"reference": 3.0, "limit": -1.0}, "limit of reward is -1"),
    ],
)
def test_a_reference_that_nothing_reaches_is_refused(made, objective, words):
    with pytest.raises(SpecError, match=words):
        given_spec([{"metric": "reward", **objective}], made)


def test_a_penalty_may_have_a_negative_reference_and_a_reward_one_above_1():
    assert given_spec([{"metric": "reward", "reference": -2.0}], {**SOFT, "metric": "val_accuracy"})
    assert given_spec([{"metric": "reward", "reference": 1.2}])


def told(settings, kind, found, *, static=None, story=None):
    """The derived values that a job of a trial gives."""
    story = story or Story(ladder=settings.ladder())
    number = story.propose(real.train("0").candidate, static)
    job = Job("k", kind, "search", number, ladder=settings.ladder(), from_rung=-1, to_rung=0)
    return {m.metric: m.value for m in outcomes.derive(settings, story.history, job, found)}


def test_a_training_gives_the_reward_from_what_was_measured_before():
    found = (Measurement("val_accuracy", 0.6, step=1),)
    known = {"latency_p50_ms": 2.0}
    assert told(given_spec(), JobKind.TRAIN, found, static=known) == {"reward": 0.6}
    assert told(given_spec(), JobKind.EVALUATE, found, static=known) == {}
    assert told(given_spec(), JobKind.TRAIN, found) == {}


def test_a_model_trained_anew_takes_the_cost_of_its_candidate():
    story = Story()
    story.propose(real.train("0").candidate, {"latency_p50_ms": 2.0})
    story.propose(real.train("0", "other").candidate, {"latency_p50_ms": 9.0})
    found = (Measurement("val_accuracy", 0.6, step=1),)
    assert told(given_spec(), JobKind.TRAIN, found, story=story) == {"reward": 0.6}


def test_measuring_a_trained_model_gives_its_reward_anew():
    settings, story = given_spec(), Story(ladder=(spec.Fidelity(1),))
    number = story.propose(real.train("0").candidate, {"latency_p50_ms": 2.0})
    story.finish(number, val_accuracy=0.6, reward=0.6)
    job = Job("profile", JobKind.PROFILE, "search", number)
    measured = (Measurement("latency_p50_ms", 8.0, "ms"),)
    found = measured + outcomes.derive(settings, story.history, job, measured)
    story.add(SegmentPlanned(job, 1.0, 0.0))
    story.add(SegmentFinished(job.key, number, 1.0, 0.0, measurements=found))
    trial = story.trial(number)
    assert trial.value("reward") == pytest.approx(0.6 * 4**-0.07)
    assert (trial.value("val_accuracy"), trial.value("latency_p50_ms")) == (0.6, 8.0)
    assert "reward" not in trial.static


def test_a_training_lacks_what_its_objectives_are_made_of():
    settings = given_spec(made={**REWARD, "cost": "flops", "target": 9.0})
    accuracy, flops = Measurement("val_accuracy", 0.5, step=1), Measurement("flops", 0.0)
    for found, word in (((flops,), "val_accuracy"), ((accuracy,), "flops"), ((accuracy, flops), "no reward")):
        failure = outcomes.lacking(settings, found)
        assert failure is not None
        assert (failure.kind, word in failure.text) == (FailureKind.NO_METRIC, True)
    assert outcomes.lacking(settings, (accuracy, flops, Measurement("reward", 0.5, step=1))) is None
    said = outcomes.lacking(settings, (flops,), {"train_s": 1.0, "said": "no labels found"})
    assert said is not None
    assert said.text.endswith("; its last words: no labels found")
    # a latency may be measured later
    assert outcomes.lacking(given_spec(), (accuracy,)) is None


def table_spec(folder, made):
    files = tabular.schedules(folder)
    space = {"architectures": files["architectures"], "accuracy": files["accuracy"]}
    return {
        "name": "laboratory",
        "space": {"kind": "table", **space, "costs": {"board": files["cost"]}},
        "derived": {"reward": made},
        "objectives": [{"metric": "reward", "reference": 0.1}],
        "fidelities": [{"epochs": 4}, {"epochs": 20}],
        "validate": {"enabled": False},
        "retrain": {"enabled": False},
        "tracking": {"enabled": False},
        "search": {"trainer": {"kind": "table"}, "trials": 20, "strategy": {"kind": "frontier", "ahead": 0}},
        "launcher": {"kind": "simulated", "usd_per_hour": 1.0},
    }


@pytest.mark.parametrize("cost", ["board", "parameters"])
def test_the_laboratory_searches_a_reward_of_a_column(tmp_path, cost):
    target = {"board": 8.0, "parameters": 4e6}[cost]
    made = {"kind": "scaled", "metric": "val_accuracy", "cost": cost, "target": target, "exponent": -0.3}
    run = real.create(tmp_path / "runs", table_spec(tmp_path, made))
    engine = Engine(run)
    search(engine)
    engine.close()
    run.close()
    table, history = run.spec.space.table, run.history
    done = [t for t in history.of_stage("search") if t.rung == t.top_rung]
    assert done
    for trial in history.of_stage("search"):
        row = table.rows[trial.candidate]
        for rung, epochs in enumerate((4, 20)[: trial.rung + 1]):
            by_hand = table.scores[epochs][row] * (table.static[cost][row] / target) ** -0.3
            assert trial.value("reward", rung) == pytest.approx(by_hand)
    # what is found is better than half of the table, though a quarter was looked at and less trained in full
    rewards = table.scores[20] * (table.static[cost] / target) ** -0.3
    assert max(t.value("reward") for t in done) >= sorted(rewards)[-8]
