"""A narrower space validates for every kind, keeps what was good, and is the same where little is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tabular
from tests.analysis.made import ACCURACY, PARAMETERS, drawn, stopped, trained
from ziggurat import choices as space
from ziggurat import spec as specs
from ziggurat.analysis import cuts, places
from ziggurat.analysis.narrow import narrower
from ziggurat.choices import Range, Values
from ziggurat.domain import Candidate, TrialStatus
from ziggurat.errors import SpecError
from ziggurat.spaces import Mlp, Parameters, TableSpace

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/**/*.yaml"))
SCRIPT = Parameters.model_validate(
    {
        "kind": "parameters",
        "choices": {
            "depth": [1, 2, 3, 4],
            "act": ["relu", "tanh", "gelu"],
            "rate": {"min": 1e-4, "max": 1e-1, "log": True},
            "warmup": {"values": [1, 2, 3], "when": {"act": "tanh"}},
            "units": {"min": 8, "max": 64, "step": 8},
        },
        "hyperparameters": ["rate", "warmup"],
    }
)


def outcome(candidate, rng):
    x = candidate.choices
    bend = (np.log10(x["rate"]) + 2.0) ** 2
    return {"val_accuracy": 0.9 - 0.15 * (x["act"] == "tanh") - 0.05 * bend + rng.normal(0, 0.005)}


@pytest.fixture(scope="module")
def found():
    return narrower(SCRIPT, trained(drawn(SCRIPT.choices(), 200), outcome), (ACCURACY,))


def test_bad_value_is_dropped_and_the_range_is_cut_to_the_good_region(found):
    assert found.changed
    assert found.space["choices"]["act"] == ["relu", "gelu"]
    rate = found.space["choices"]["rate"]
    assert 1e-4 < rate["min"] < 1e-2 < rate["max"] <= 0.1
    assert rate["log"]
    assert found.space["choices"]["depth"] == [1, 2, 3, 4]


def test_choice_that_can_no_longer_exist_goes_with_its_condition(found):
    assert "warmup" not in found.space["choices"]
    assert found.space["hyperparameters"] == ["rate"]
    assert list(found.choices) == ["depth", "act", "rate", "units"]


def test_reasons_tell_what_why_and_that_it_is_optimistic(found):
    assert any(r.startswith("choices.act: without tanh; of ") for r in found.reasons)
    assert any("among the best quarter, where" in r for r in found.reasons)
    assert "optimistic" in found.reasons[-1]


def test_kept_is_the_share_of_candidates(found):
    rng = np.random.default_rng(9)
    hits = np.mean([found.holds(space.sample(SCRIPT.choices(), rng)) for _ in range(2000)])
    assert found.kept == pytest.approx(hits, abs=0.05)


def test_candidates_are_carried_over_or_left_behind(found):
    inside = Candidate({"depth": 1, "act": "relu", "rate": 0.01, "units": 8})
    assert found.carried(inside) == inside
    assert (
        found.carried(Candidate({"depth": 1, "act": "tanh", "rate": 0.01, "warmup": 2, "units": 8})) is None
    )


def planted(setting, seed=0):
    """Trials in which one value of each narrowable place, its first or lowest, is bad."""
    known = [p for p in places.places(setting) if p.choice.size >= 2]

    def judge(candidate, rng):
        bad = 0
        for place in known[:3]:
            first = place.choice.values[0] if isinstance(place.choice, Values) else None
            held = place.values(candidate)
            bad += any(v == first if first is not None else place.choice.unit(v) < 0.3 for v in held)
        return {"val_accuracy": 0.9 - 0.1 * bad + rng.normal(0, 0.01), "parameters": 1000.0}

    return trained(drawn(setting.choices(), 150, seed), judge)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_example_narrows_to_a_spec_that_validates(path):
    raw = yaml.safe_load(path.read_text())
    if not isinstance(raw, dict) or "space" not in raw:
        pytest.skip("no spec")
    spec, _ = specs.read(path)
    trials = planted(spec.space)
    narrow = narrower(spec.space, trials, (ACCURACY, PARAMETERS))
    section = yaml.safe_load(yaml.safe_dump(narrow.space))
    again = specs.parse({**spec.plain(), "space": section}, "narrow")
    assert again.space.choices() == dict(narrow.choices)
    assert narrow.changed, narrow.reasons
    assert narrow.kept < 1
    front = max(trials, key=lambda t: t.value("val_accuracy"))
    assert narrow.holds(front.candidate)
    assert narrow.carried(front.candidate) is not None


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_choice_of_every_example_has_a_place(path):
    raw = yaml.safe_load(path.read_text())
    if not isinstance(raw, dict) or "space" not in raw:
        pytest.skip("no spec")
    spec, _ = specs.read(path)
    named = [n for p in places.places(spec.space) for n in p.names]
    assert sorted(named) == sorted(spec.space.choices())


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_front_that_is_worth_something_is_never_left_out(seed):
    rng = np.random.default_rng(seed)
    mlp = Mlp()
    weights = rng.normal(size=3)

    def judge(candidate, noise):
        x = candidate.choices
        value = 0.5 + 0.1 * weights[0] * (x["norm"] == "batch") + 0.1 * weights[1] * x["dropout"]
        return {
            "val_accuracy": float(np.clip(value + 0.05 * noise.normal(), 0.01, 0.99)),
            "parameters": 100.0 * x["depth"] + sum(float(v) for n, v in x.items() if n.startswith("width")),
        }

    trials = trained(drawn(mlp.choices(), 80, seed), judge, seed)
    objectives = (ACCURACY, replace(PARAMETERS, reference=450.0))
    narrow = narrower(mlp, trials, objectives)
    from ziggurat.analysis import evidence

    groups = evidence.groups(trials, objectives)
    for trial, on in zip(groups.trials, groups.front, strict=True):
        assert not on or narrow.holds(trial.candidate)
    assert {t.number for t in trials if not narrow.holds(t.candidate)} >= set(narrow.lost)
    assert space.count(narrow.choices) >= 160


def test_value_of_a_single_good_trial_stays_however_bad_it_is_otherwise():
    candidates = drawn(SCRIPT.choices(), 200)
    lucky = next(i for i, c in enumerate(candidates) if c.choices["act"] == "tanh")

    def judge(candidate, rng):
        if candidate == candidates[lucky]:
            return {"val_accuracy": 0.97}
        return outcome(candidate, rng)

    narrow = narrower(SCRIPT, trained(candidates, judge), (ACCURACY,))
    assert narrow.changed
    assert narrow.holds(candidates[lucky])
    assert narrow.space["choices"]["act"] == ["relu", "tanh", "gelu"]


def test_worthless_end_of_the_front_may_be_lost_and_is_named():
    def judge(candidate, rng):
        tiny = candidate.choices["depth"] == 1
        return {
            "val_accuracy": 0.05 if tiny else 0.8 + rng.normal(0, 0.01),
            "parameters": 10.0 if tiny else 1000.0,
        }

    trials = trained(drawn(SCRIPT.choices(), 200), judge)
    narrow = narrower(SCRIPT, trials, (ACCURACY, PARAMETERS))
    assert 1 not in narrow.choices["depth"].values
    assert narrow.lost
    assert all(t.candidate.choices["depth"] == 1 for t in trials if t.number in narrow.lost)


def test_few_trials_leave_the_space_as_it_was():
    narrow = narrower(SCRIPT, trained(drawn(SCRIPT.choices(), 20), outcome), (ACCURACY,))
    assert not narrow.changed
    assert narrow.kept == 1.0
    assert narrow.reasons == ["Nothing is narrowed: 20 trials are trained in full, 24 are needed."]
    assert Parameters.model_validate(narrow.space).choices() == SCRIPT.choices()
    assert narrower(SCRIPT, [], (ACCURACY,)).changed is False


def test_chance_alone_narrows_hardly_anything():
    narrowed = 0
    for seed in range(20):
        noise = trained(drawn(SCRIPT.choices(), 100, seed), lambda c, r: {"val_accuracy": r.random()}, seed)
        narrowed += narrower(SCRIPT, noise, (ACCURACY,)).changed
    assert narrowed <= 3


def test_enough_candidates_stay_for_a_further_round():
    small = Parameters.model_validate(
        {"kind": "parameters", "choices": {"a": [1, 2, 3, 4], "b": ["x", "y", "z"]}}
    )

    def judge(candidate, rng):
        return {"val_accuracy": 0.9 - 0.2 * (candidate.choices["b"] == "z") + rng.normal(0, 0.01)}

    trials = trained(drawn(small.choices(), 120), judge)
    assert narrower(small, trials, (ACCURACY,), wanted=8).choices["b"].values == ["x", "y"]
    kept = narrower(small, trials, (ACCURACY,), wanted=12)
    assert not kept.changed
    assert "fewer than the 12 candidates" in kept.reasons[0]


def test_stopped_trials_count_as_tried_and_lost_machines_do_not():
    from ziggurat.domain import Failure, FailureKind

    good = trained([c for c in drawn(SCRIPT.choices(), 160) if c.choices["act"] != "tanh"], outcome)
    tanh = [c for c in drawn(SCRIPT.choices(), 160, 4) if c.choices["act"] == "tanh"]
    ended = [stopped(c, 1000 + i) for i, c in enumerate(tanh)]
    assert narrower(SCRIPT, [*good, *ended], (ACCURACY,)).space["choices"]["act"] == ["relu", "gelu"]
    lost = [replace(t, status=TrialStatus.FAILED, failure=Failure(FailureKind.LOST, "")) for t in ended]
    narrow = narrower(SCRIPT, [*good, *lost], (ACCURACY,))
    assert "tanh" in narrow.choices["act"].model_dump()["values"]


def test_part_of_a_table_is_a_space_of_its_own(tmp_path):
    files = tabular.schedules(tmp_path)
    cost = files.pop("cost")
    table = TableSpace.model_validate({"kind": "table", **files, "costs": {"board": cost}})
    judge = lambda c, r: {"val_accuracy": 0.9 - 0.2 * (c.choices["edge_0"] == "none") + r.normal(0, 0.01)}  # noqa: E731
    narrow = narrower(table, trained(drawn(table.choices(), 70), judge), (ACCURACY,), wanted=10)
    assert narrow.space["only"]["edge_0"] == ["small", "large"]
    part = TableSpace.model_validate(narrow.space)
    assert len(part.table.candidates) == 54 == space.count(part.choices())
    assert narrow.kept == pytest.approx(2 / 3)
    whole = table.table
    assert all(part.table.known(c) == whole.known(c) for c in part.table.candidates)
    assert part.table.unit_s == whole.unit_s


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ({"edge_9": ["none"]}, "'edge_9' is no choice of the table"),
        ({"edge_0": ["nine"]}, "edge_0: 'nine' is no value of the table"),
        ({"edge_0": []}, "no candidate of the table has these values"),
    ],
)
def test_part_of_a_table_that_is_not_there_is_refused(tmp_path, only, told):
    files = tabular.schedules(tmp_path)
    files.pop("cost")
    with pytest.raises(SpecError, match=told):
        TableSpace.model_validate({"kind": "table", **files, "only": only}).choices()


@pytest.mark.parametrize(
    ("choice", "low", "high", "left"),
    [
        (Range(min=1, max=8), 3, 6, Range(min=3, max=6)),
        (Range(min=0.0, max=0.5, step=0.1), 0.2, 0.3, Values(values=[0.2, 0.3])),
        (Range(min=8, max=64, step=8), 24, 40, Range(min=24, max=40, step=8)),
        (Range(min=1, max=3), 2, 2, Values(values=[2])),
        (Values(values=[8, 16, 32, 64]), 16, 32, Values(values=[16, 32])),
    ],
    ids=["whole", "step", "whole step", "one", "values"],
)
def test_ends_are_cut_to_the_outermost_good_values(choice, low, high, left):
    ends = cuts._ends(choice, float(low), float(high))
    place = places.Place(("x",), choice, ("x",))
    questions = [
        cuts.Cut(place, side, value, 9, 0, 3.0, 0.0)
        for side, value in zip(("below", "above"), ends, strict=True)
    ]
    assert cuts.left(choice, questions) == left


def test_continuous_range_keeps_a_margin_and_round_numbers():
    low, high = cuts._ends(Range(min=1e-4, max=1e-1, log=True), 0.00234, 0.0211)
    assert (low, high) == (0.0011, 0.043)


def test_luck_is_fishers_exact_test():
    from math import comb

    place = places.Place(("act",), Values(values=["a", "b"]), ("act",))
    trials = trained([Candidate({"act": "a"})] * 6 + [Candidate({"act": "b"})] * 4, lambda c, r: {})
    best = {6, 7, 8}
    first = next(c for c in cuts.of(place, trials, best, best) if c.value == "a")
    assert (first.tries, first.hits, first.expected) == (6, 0, pytest.approx(1.8))
    assert first.p == pytest.approx(comb(7, 6) / comb(10, 6))
