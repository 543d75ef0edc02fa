"""The answers at the top of the page, checked by hand."""

from __future__ import annotations

import math

import pytest

from ziggurat.domain import JobKind, RunStatus
from ziggurat.events import Amended, Decided
from ziggurat.report import ReportFacts, questions, summarize
from ziggurat.report.answer import answers
from ziggurat.report.case import Case
from ziggurat.report.findings import Findings, findings
from ziggurat.report.pick import interval, pick
from ziggurat.report.results import Statistic


def case_of(spec, story, **facts):
    summary = summarize(spec.goals(), story.history, workers=2)
    return Case(spec, story.history, summary, ReportFacts(**facts))


def asked(case, found=None):
    return {a.question: a for a in answers(case, findings(case) if found is None else found)}


def trained(story, width, accuracies, parameters=800.0, latency=0.2):
    """A search trial and its retrainings, measured on two devices."""
    static = {"parameters": parameters, "latency_p50_ms": latency}
    story.segment(story.propose({"width": width}, static), 2, val_accuracy=0.9)
    for seed, accuracy in enumerate(accuracies):
        number = story.propose({"width": width}, {"parameters": parameters}, stage="retrain", seed=seed)
        story.segment(number, 2, val_accuracy=accuracy)
        story.segment(number, 2, kind=JobKind.EVALUATE, stage="measure", test_accuracy=accuracy - 0.01)
        found = {"latency_p50_ms": latency, "latency_p99_ms": 2 * latency, "latency_p50_ms@edge": 1.5}
        story.segment(number, 2, kind=JobKind.PROFILE, stage="measure", **found)


def test_interval_over_seeds_is_students(make_story):
    # mean 0.9, deviation 0.01, three values: 4.303 * 0.01 / sqrt(3)
    low, high = interval(Statistic(0.9, 0.01, (0.89, 0.9, 0.91)))
    assert (low, high) == pytest.approx((0.9 - 0.024841, 0.9 + 0.024841), abs=1e-6)


@pytest.mark.parametrize("values", [(0.9,), (0.9, 0.8)])
def test_two_seeds_have_no_interval(values):
    assert interval(Statistic(0.9, 0.05 if len(values) > 1 else None, values)) is None


def test_each_question_has_one_sentence(make_story, make_spec):
    story = make_story()
    story.begin("search")
    trained(story, 8, (0.93, 0.95, 0.97))
    told = asked(case_of(make_spec(3), story, chance={"val_accuracy": 0.1}))
    assert list(told) == [
        "Which model", "How good", "How fast", "How large", "Against the reference",
        "Against random search", "Limits", "What it cost",
    ]  # fmt: skip
    assert told["Which model"].text == "The architecture of trial 0 (width 8), retrained as models 1 to 3."
    assert told["How good"].text == (
        "94.0 % test accuracy (mean of 3 seeds, 95 % interval 89.03 to 98.97 %); "
        "95.0 % validation accuracy (mean of 3 seeds, 95 % interval 90.03 to 99.97 %); "
        "90.0 % in the search; 10.0 % by chance."
    )
    assert told["How fast"].text == "0.200 ms on laptop (p50, p99 0.400 ms); 1.50 ms on edge (p50)."
    assert told["How large"].text == "800 parameters."
    assert told["Against the reference"].text == (
        "45.0 points more validation accuracy (95.0 % against 50.0 %), 2.00 % of the parameters "
        "(800 against 40,000) and 40.0 % of the latency p50 (0.200 ms against 0.500 ms)."
    )
    assert told["Limits"].text == (
        "All kept: validation accuracy 95.0 % (≥ 80.0 %) and latency p50 0.200 ms (≤ 0.300 ms)."
    )
    assert told["Limits"].mark == "good"


def test_a_model_beyond_a_limit_is_not_taken_if_another_keeps_it(make_story, make_spec):
    story = make_story()
    trained(story, 8, (0.99, 0.99), latency=0.2)
    story.segment(1, 2, kind=JobKind.PROFILE, stage="measure", latency_p50_ms=0.9)
    trained(story, 16, (0.9, 0.9), latency=0.1)
    summary = summarize(make_spec(3).goals(), story.history)
    assert [r.trial for r in summary.retrained] == [0, 3]
    assert pick(summary).trial == 3


def test_a_broken_limit_is_said_and_marked(make_story, make_spec):
    story = make_story()
    trained(story, 8, (0.99,))
    story.segment(1, 2, kind=JobKind.PROFILE, stage="measure", latency_p50_ms=0.9)
    told = asked(case_of(make_spec(3), story))["Limits"]
    assert told.text.startswith(
        "1 of 2 broken: validation accuracy 99.0 % (≥ 80.0 %) and latency p50 0.900 ms"
    )
    assert told.mark == "bad"


def test_a_limit_on_what_is_not_known_is_neither_kept_nor_broken(make_story, make_spec):
    story = make_story()
    number = story.propose({"width": 8}, stage="retrain")
    story.segment(number, 2, val_accuracy=0.9)
    told = asked(case_of(make_spec(3), story))["Limits"]
    assert told.text.startswith("Not all known:")
    assert "latency p50 not known (≤ 0.300 ms)" in told.text
    assert told.mark == "warn"


def test_without_a_baseline_nothing_is_claimed_about_random_search(make_story, make_spec):
    story = make_story()
    story.complete({"width": 8}, val_accuracy=0.9)
    assert asked(case_of(make_spec(1), story))["Against random search"].text.startswith("Not known")


def test_random_search_is_compared_at_equal_cost(make_story, make_spec):
    story = make_story(usd_per_hour=3600.0)
    story.begin("search")
    story.complete({"width": 1}, cost_s=10.0, val_accuracy=0.85)
    story.complete({"width": 2}, cost_s=90.0, val_accuracy=0.95)
    story.begin("baseline")
    story.complete({"width": 3}, stage="baseline", cost_s=20.0, val_accuracy=0.84)
    told = asked(case_of(make_spec(1), story))["Against random search"].text
    # by 20 dollars the search had reached 85 %, not yet 95 %
    assert told == (
        "At the same cost of $20.00, a hypervolume of 0.3500 against 0.3400 (1.03 times), and at best 85.0 % "
        "against 84.0 % validation accuracy."
    )


def test_cost_is_held_against_plan_and_limit(make_story, make_spec):
    story = make_story(usd_per_hour=3600.0)
    story.complete({"width": 1}, cost_s=10.0, val_accuracy=0.9)

    def mark(plan, limit):
        spec = make_spec(1, budget={"plan_usd": plan, "limit_usd": limit})
        told = asked(case_of(spec, story), Findings())["What it cost"]
        return told.text.split(":")[0], told.mark

    assert mark(20.0, 30.0) == ("Within plan", "good")
    assert mark(9.0, 30.0) == ("Within plan", "good")
    assert mark(8.0, 30.0) == ("Over plan", "warn")
    assert mark(1.0, 9.0) == ("Over the limit", "bad")
    story.tell(Amended({"budget.limit_usd": 11.0}))
    assert mark(9.0, 9.5) == ("Within plan", "good")


def test_without_a_price_there_is_time(make_story, make_spec):
    story = make_story(usd_per_hour=0.0)
    story.complete({"width": 1}, cost_s=10.0, val_accuracy=0.9)
    told = asked(case_of(make_spec(1), story), Findings())["What it cost"]
    assert told.text == "5.3 s (10 s of worker time); the machines have no price."
    assert told.mark == ""


def test_an_empty_run_is_asked_nothing(make_story, make_spec):
    story = make_story()
    assert list(asked(case_of(make_spec(2), story))) == ["What it cost"]


def test_values_that_are_no_numbers_are_not_told(make_story, make_spec):
    story = make_story()
    number = story.propose({"width": 8}, {"parameters": math.inf, "latency_p50_ms": math.nan})
    story.segment(number, 2, val_accuracy=0.9)
    story.finish(RunStatus.COMPLETED)
    text = " ".join(a.text for a in asked(case_of(make_spec(1), story)).values())
    assert "nan" not in text.lower()
    assert "inf" not in text.lower()


def test_many_choices_are_not_all_named(make_story, make_spec):
    story = make_story()
    story.complete({f"width_{i}": i for i in range(11)}, val_accuracy=0.9)
    told = asked(case_of(make_spec(1), story))["Which model"]
    assert "(11 choices, listed below)" in told.text


def test_the_first_learned_objective_is_the_one_of_quality(make_story, make_spec):
    story = make_story()
    spec = make_spec(
        2,
        objectives=[{"metric": "parameters", "reference": 1e5}, {"metric": "val_accuracy", "reference": 0.5}],
    )
    story.segment(story.propose({"width": 8}, {"parameters": 9.0}), 2, val_accuracy=0.9)
    case = case_of(spec, story)
    assert questions.quality(case, pick(case.summary)) == "90.0 % in the search."


def test_an_overridden_verdict_is_said(make_story, make_spec):
    from ziggurat.report.verdicts import overrides

    story = make_story()
    story.tell(Decided("gate", "overridden", reason="tau is 0.1; overridden by validate.override: known"))
    assert overrides(case_of(make_spec(1), story)) == [
        "The verdict of the proxy gate was to stop, and the spec overrode it: "
        "tau is 0.1; overridden by validate.override: known."
    ]
