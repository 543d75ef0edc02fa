"""What stages cost, were projected to cost, and how their machines were used; by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ziggurat.events import Alert, Charged, SegmentFinished
from ziggurat.report import ReportFacts, run_tables, summarize
from ziggurat.report.case import Case
from ziggurat.report.stage_charts import alerts, costs
from ziggurat.report.stage_costs import stage_costs


def found(spec, history, **facts):
    return {
        s.stage: s
        for s in stage_costs(Case(spec, history, summarize(spec.goals(), history), ReportFacts(**facts)))
    }


def test_charges_belong_to_the_stage_that_caused_them(make_story, make_spec):
    story = make_story(usd_per_hour=3600.0)
    story.begin("search")
    story.complete({"width": 1}, cost_s=10.0, val_accuracy=0.9)
    story.tell(Charged("idle", 4.0, 4.0, "search"))
    story.tell(Charged("queue", 1.0, 1.0, "search"))
    story.tell(Charged("idle", 2.0, 2.0))
    told = found(make_spec(1), story.history)
    assert told["search"].usd == pytest.approx(15.0)
    assert told["search"].reasons == {"idle": 4.0, "queue": 1.0}
    assert told["between stages"].usd == pytest.approx(2.0)
    assert sum(s.usd for s in told.values()) == pytest.approx(story.history.spent_usd)


def test_forecast_made_before_a_stage_counts_and_not_the_sum_of_its_segments(make_story, make_spec):
    story = make_story(usd_per_hour=3600.0)
    story.begin("search")
    story.complete({"width": 1}, cost_s=10.0, val_accuracy=0.9)
    assert found(make_spec(1), story.history)["search"].projected_usd == pytest.approx(11.0)
    told = found(make_spec(1), story.history, forecast_usd={"search": 7.0, "retrain": 3.0})
    assert told["search"].projected_usd == 7.0
    assert (told["retrain"].projected_usd, told["retrain"].usd, told["retrain"].verdict) == (3.0, 0.0, "")


def test_use_is_weighted_by_time_and_peaks_are_peaks(make_story, make_spec):
    story = make_story()
    tell, uses = (
        story.tell,
        iter(({"cpu_utilisation": 0.2, "memory_mb": 300.0}, {}, {"cpu_utilisation": 0.8})),
    )

    def metered(body):
        tell(replace(body, usage=next(uses)) if isinstance(body, SegmentFinished) else body)

    story.tell = metered
    story.begin("search")
    for seconds in (30.0, 50.0, 10.0):
        story.complete({"width": seconds}, cost_s=seconds, val_accuracy=0.9)
    told = found(make_spec(1), story.history)["search"]
    assert told.usage == {"cpu_utilisation": pytest.approx((30 * 0.2 + 10 * 0.8) / 40), "memory_mb": 300.0}
    assert (told.metered, told.segments) == (2, 3)
    table = run_tables.machines([told])
    assert [c.text for c in table.rows[0]] == ["search", "2 of 3", "35 %", "300"]


def test_nothing_metered_is_no_table(make_story, make_spec):
    story = make_story()
    story.complete({"width": 1}, val_accuracy=0.9)
    assert run_tables.machines(list(found(make_spec(1), story.history).values())).rows == ()


def test_bars_of_a_stage_add_up_to_its_cost(make_story, make_spec):
    story = make_story(usd_per_hour=3600.0)
    story.begin("search")
    story.complete({"width": 1}, cost_s=10.0, val_accuracy=0.9)
    story.tell(Charged("idle", 4.0, 4.0, "search"))
    chart = costs(list(found(make_spec(1), story.history).values()), priced=True)
    bars = {t["name"]: t["x"] for t in chart["data"]}
    assert bars == {"Work": [10.0], "Idle, queued or in vain": [4.0], "Projected before": [11.0]}


def raised(story, key, state="raised", severity="warning"):
    story.now += 60
    story.tell(Alert(key, severity, f"about {key}", state=state))


def test_alerts_are_told_in_order_with_what_became_of_them(make_story):
    story = make_story()
    for key, state in (("a", "raised"), ("b", "raised"), ("a", "raised"), ("a", "resolved"), ("a", "raised")):
        raised(story, key, state)
    history = story.history
    rows = [
        [c.text for c in row[:3]] for row in run_tables.alerts(history.alert_log, history.started_utc).rows
    ]
    assert rows == [
        ["1 min 00 s", "warning", "raised"],
        ["2 min 00 s", "warning", "raised"],
        ["3 min 00 s", "warning", "again"],
        ["4 min 00 s", "warning", "resolved"],
        ["5 min 00 s", "warning", "raised"],
    ]
    chart = alerts(history.alert_log, history.started_utc, history.last_utc)
    assert chart["data"][0]["x"] == [60.0, 240.0, None, 300.0, 300.0]
    assert chart["data"][1]["x"] == [120.0, 300.0]


def test_a_thousand_alerts_are_the_latest_forty(make_story):
    story = make_story()
    for i in range(1000):
        raised(story, f"key {i}")
    history = story.history
    chart = alerts(history.alert_log, history.started_utc, history.last_utc)
    assert len(chart["layout"]["yaxis"]["ticktext"]) == 40
    assert len(run_tables.alerts(history.alert_log, 0.0).rows) == 200
