"""The sections of the page, for runs of every kind; and what becomes of a part that fails."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import yaml

from ziggurat.analysis.narrow import Narrowing
from ziggurat.domain import JobKind, Measurement
from ziggurat.events import Decided, TrialProposed
from ziggurat.report import ReportFacts, findings, gains, lessons, models, page, summarize
from ziggurat.report.blocks import Code, Figure, Grid, Section, Words, figures, plain_table
from ziggurat.report.case import Case
from ziggurat.report.findings import Findings
from ziggurat.report.machine import report_json
from ziggurat.spec import parse


def case_of(spec, history, **facts):
    return Case(spec, history, summarize(spec.goals(), history, workers=2), ReportFacts(**facts))


def kinds(section):
    return [type(block).__name__ for block in section.blocks]


def said(section):
    return " ".join(b.text for b in section.blocks if isinstance(b, Words))


def test_an_analysis_that_fails_costs_its_part_and_nothing_else(told, make_spec, monkeypatch, caplog):
    from ziggurat.analysis import crossval

    def broken(*_):
        raise ValueError("not positive definite")

    monkeypatch.setattr(crossval, "leave_one_out", broken)
    case = case_of(make_spec(2), told)
    found = findings.findings(case)
    assert found.fits == ()
    assert found.curve is not None
    assert "the cross-validation: not positive definite" in caplog.text
    shown = page.sections(case, page.series_of(case), found)
    trust = next(s for s in shown if s.id == "trust")
    assert "Could not be worked out: the cross-validation (ValueError: not positive definite)." in said(trust)


def test_a_section_that_fails_says_so_and_leaves_the_others_alone(told, make_spec, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(gains, "section", broken)
    case = case_of(make_spec(1), told)
    shown = page.sections(case, page.series_of(case), Findings())
    assert [s.title for s in shown if "could not be made" in said(s)] == ["What the money brought"]
    assert len(shown) == 7


def test_figures_that_may_stand_beside_each_other_do(told, make_spec):
    half = [Figure(f"f{i}", "", {"data": [], "layout": {"height": 1}}, half=True) for i in range(3)]
    rows = Section("s", "S", "", (half[0], half[1], half[2], Words("x"))).rows
    assert [len(r) for r in rows] == [2, 1, 1]


def test_each_chart_has_a_summary_or_stands_beside_one_that_has(told, make_spec):
    case = case_of(make_spec(3), told)
    drawn = figures(page.sections(case, page.series_of(case), findings.findings(case)))
    assert [f.id for f in drawn if not f.summary] == ["pareto-1", "pareto-2"]
    assert all(f.label for f in drawn)


def test_a_long_table_is_cut_and_says_where_the_rest_is():
    table = plain_table(("a", "b"), [("1", "2")] * 1000)
    assert len(table.rows) == 300
    assert table.note == "700 further rows are in report.json."


def test_suggested_space_is_a_section_of_a_spec_with_variables_by_their_names(told, make_spec):
    spec = make_spec(2)
    written = {"space": {"kind": "mlp", "activation": ["${ACT}", "gelu", "silu"]}}
    plain = spec.space.model_dump(mode="json", by_alias=True)
    case = case_of(spec, told, spec_text=yaml.safe_dump(written))
    text = lessons.space_yaml(case, Narrowing(plain, spec.space.choices(), 0.5, [], changed=True))
    found = yaml.safe_load(text)["space"]
    assert found["activation"] == ["${ACT}", "gelu", "silu"]
    assert found["width"] == [8, 16, 32, 64, 128]
    assert found["hyperparameters"]["learning_rate"] == {"min": 1e-4, "max": 0.06, "log": True}
    found["activation"][0] = "relu"
    assert parse({**spec.plain(), "space": found}, "test").space == spec.space


def test_a_narrower_space_comes_with_its_reasons_and_can_be_copied(told, make_spec):
    spec = make_spec(2)
    narrowed = {**spec.space.model_dump(mode="json", by_alias=True), "width": {"values": [32, 64, 128]}}
    found = Findings(
        narrowing=Narrowing(
            narrowed, spec.space.choices(), 0.0621, ["width: from 32."], lost=(3, 4, 5), changed=True
        )
    )
    section = lessons.section(case_of(spec, told), found)
    assert "A further round could search 6.2 % of the space" in said(section)
    assert "the front's 3 trials 3 to 5, worth nothing by the reference" in said(section)
    assert "width: from 32." in said(section)
    code = next(b for b in section.blocks if isinstance(b, Code))
    assert "width: [32, 64, 128]" in code.text


def test_what_separates_the_best_is_a_row_with_all_objectives(make_story, make_spec):
    rng = np.random.default_rng(5)
    story = make_story()
    for i in range(60):
        good = i % 2 == 0
        candidate = {"depth": 1, "width_1": 64 if good else 8, "activation": "relu", "learning_rate": 0.01}
        number = story.propose(
            candidate, {"parameters": (2000.0 if good else 1000.0) * rng.uniform(0.9, 1.1)}
        )
        story.segment(number, 2, val_accuracy=(0.95 if good else 0.85) + rng.normal(0, 0.01))
    case = case_of(make_spec(2), story.history)
    section = lessons.section(case, findings.findings(case))
    table = next(b.table for b in section.blocks if isinstance(b, Grid))
    assert [c.text for c in table.head] == [
        "What the best have more often", "Of the best", "Validation accuracy (points) ↑", "Parameters ↓",
    ]  # fmt: skip
    row = table.rows[0]
    assert row[0].text == "width_1 8 rather than 64"
    assert row[2].text.startswith(f"{lessons.MINUS}10 (")
    assert row[3].text.startswith(f"{lessons.MINUS}1,0")
    assert (row[2].style, row[3].style) == ("number warn", "number good")


def test_curves_without_money_are_about_time(make_story, make_spec):
    story = make_story(usd_per_hour=0.0)
    for i in range(4):
        story.complete({"width": i}, val_accuracy=0.8 + i / 100)
    case = case_of(make_spec(1), story.history)
    section = gains.section(case, findings.findings(case))
    assert section.title == "What the time brought"
    assert "$" not in section.lead


def test_test_accuracy_says_how_many_examples_it_rests_on(make_story, make_spec):
    story = make_story()
    number = story.propose({"width": 8}, stage="retrain")
    story.segment(number, 2, val_accuracy=0.9)
    story.segment(number, 2, kind=JobKind.EVALUATE, stage="measure", test_accuracy=0.9)
    trial = story.history.trials[number]
    trial.static["test_accuracy"] = Measurement("test_accuracy", 0.9, samples=900)
    # 1.96 sqrt(.9 * .1 / 900) = .0196
    assert "900 examples, so an accuracy near 90.0 % is known to ± 2.0 points" in models.sampling(
        case_of(make_spec(1), story.history)
    )


def test_rounds_and_approval_are_told(make_story, make_spec):
    story = make_story()
    facts = {"stage": "search", "kept": 0.12, "space": "{}"}
    story.tell(Decided("narrowed", "narrower", reason="width: from 32", facts=facts))
    story.tell(Decided("approval", "approved", facts={"by": "Ada"}))
    case = case_of(make_spec(1), story.history)
    shown = page.sections(case, page.series_of(case), Findings())
    course = next(s for s in shown if s.id == "course")
    text = str(course.blocks)
    assert "narrower, 12 % of the space. width: from 32" in text
    assert "by Ada" in text


def test_report_json_has_all_findings_and_no_number_that_is_none(told, make_spec):
    case = case_of(make_spec(3), told)
    plain = report_json(case, findings.findings(case))
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["schema_version"] == 1
    assert plain["curve"]["hypervolume"][-1] == pytest.approx(plain["hypervolume"])
    assert {f["metric"] for f in plain["cross_validation"]} == {
        "val_accuracy",
        "parameters",
        "latency_p50_ms",
    }
    assert plain["answer"]["questions"]["Limits"].startswith("All kept")
    assert plain["answer"]["trial"] in {row["trial"] for row in plain["retrained"]}
    assert sum(s["usd"] for s in plain["stages"]) == pytest.approx(plain["cost_usd"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, 0.0, -1.0])
def test_no_value_breaks_a_section(make_story, make_spec, value):
    story = make_story()
    for i in range(30):
        number = story.propose(
            {"depth": 1, "width_1": (8, 16)[i % 2]}, {"parameters": value if i % 3 else 10.0}
        )
        for rung in range(3):
            story.segment(number, rung, val_accuracy=value if i % 5 == 0 else 0.5 + i / 100)
            if rung < 2:
                story.decide(number, "continue", rung)
    case = case_of(make_spec(3), story.history)
    found = findings.findings(case)
    shown = page.sections(case, page.series_of(case), found)
    assert found.broken == {}
    assert not any("could not be made" in said(s) for s in shown)
    json.dumps(report_json(case, found), allow_nan=False)
    assert page.render(case, page.series_of(case), 0.0, found)


def test_predicted_latencies_are_said_to_be(make_story, make_spec):
    from ziggurat.report import questions
    from ziggurat.report.pick import pick

    story = make_story()
    predicted = Measurement("latency_p50_ms", 0.2, "ms", device="laptop", spread=0.01)
    plain = story.propose({"width": 8}, {"parameters": 10.0})
    proposed = TrialProposed(
        plain + 1, 1, "search", story.history.trials[0].candidate, 0, story.history.trials[0].ladder,
        static=(predicted, Measurement("parameters", 9.0)),
    )  # fmt: skip
    story.tell(proposed)
    story.segment(plain + 1, 2, val_accuracy=0.9)
    case = case_of(make_spec(3), story.history)
    text = questions.speed(case, pick(case.summary))
    assert text == "0.200 ms (p50) on laptop, predicted by a table, ± 5.0 %."


def test_what_the_validation_said_is_told(make_story, make_spec):
    from ziggurat.report.verdicts import before

    story = make_story()
    story.begin("validate")
    story.tell(Decided("subset", "go", reason="probes learn and differ"))
    story.tell(
        Decided("proxy_choice", "chosen", reason="the lowest rung is 1 epoch, the cheapest that agrees")
    )
    case = case_of(make_spec(1), story.history)
    choice, subset = before(case)
    assert choice == "The lowest rung is 1 epoch, the cheapest that agrees."
    assert subset == "On the subset: probes learn and differ. Verdict: go."
    story.end("validate", explained="All candidates learn; 96 % of the variance lies between them.")
    assert before(case)[1] == (
        "On the subset: All candidates learn; 96 % of the variance lies between them. Verdict: go."
    )
