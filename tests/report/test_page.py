"""The files of the report, for runs in any state."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from ziggurat.domain import FailureKind, JobKind, RunStatus
from ziggurat.events import Alert, Amended, Decided
from ziggurat.files import write_whole
from ziggurat.history import History
from ziggurat.report import ReportFacts, front_json, result_json, summarize, write_report
from ziggurat.report.case import Case
from ziggurat.report.markup import packed_plotly, script_json
from ziggurat.report.page import render, series_of

FILES = {"index.html", "front.json", "report.json", "pareto.png", "hypervolume.png", "rungs.png", "cost.png"}
NONE = ReportFacts()


class Words(HTMLParser):
    """What a page says and loads: its text, its addresses, and its open elements."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.places: list[str] = []
        self.targets: list[str] = []
        self.heads: list[str] = []
        self.silent = 0
        self.open: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.silent += tag in {"script", "style"}
        self.addresses += [v for k, v in attributes if k in {"src", "href"} and not v.startswith("#")]
        self.places += [v for k, v in attributes if k == "id"]
        self.targets += [v[1:] for k, v in attributes if k == "href" and v.startswith("#")]
        self.heads += [tag] if tag in {"h1", "h2", "h3"} else []
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        self.silent -= tag in {"script", "style"}
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.silent:
            self.text.append(data)


def read(page):
    words = Words()
    words.feed(page)
    assert words.open == []
    assert len(page.encode()) < 6_000_000
    assert len(set(words.places)) == len(words.places), "an id stands twice"
    assert set(words.targets) <= set(words.places)
    assert words.heads[0] == "h1"
    assert words.heads.count("h1") == 1
    text = " ".join(" ".join(words.text).split())
    assert "could not be made" not in text.lower()
    assert "could not be worked out" not in text.lower()
    return page, text, words


def rendered(spec, history, facts=NONE):
    """The page without the files beside it."""
    summary = summarize(spec.goals(), history, workers=2, status=facts.status)
    case = Case(spec, history, summary, facts)
    return read(render(case, series_of(case), 1_790_009_999.0))


def written(folder, spec, history, facts=NONE):
    path = write_report(folder, spec, history, utc=1_790_009_999.0, facts=facts)
    assert {p.name for p in folder.iterdir()} == FILES
    for name in sorted(n for n in FILES if n.endswith(".png")):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    return *read(path.read_text(encoding="utf-8")), json.loads((folder / "front.json").read_text())


def payload(page):
    return json.loads(re.search(r'id="page-data">(.*?)</script>', page, re.DOTALL).group(1))


def test_page_of_a_completed_run_says_what_it_means(tmp_path, told, make_spec):
    facts = ReportFacts(test_looks=1, chance={"val_accuracy": 0.1}, mlflow="mlflow ui", data="digits")
    page, text, _, front = written(tmp_path, make_spec(3), told, facts)
    assert re.search(
        r"The best of 60 trials, trial \d+, reaches 9\d\.\d % validation accuracy \(chance: 10\.0 %\)", text
    )
    assert re.search(
        r"Retrained with the full recipe, .* test accuracy on the sealed test set over 2 seeds\.", text
    )
    assert "looked at once" in text
    assert "Kendall's tau" in text
    assert "0.62 over 6 candidates (90 % interval 0.31 to 0.84)" in text
    assert "Trial 31 took 2.4 times its forecast" in text
    assert "noisy (17 %)" in text
    assert "steady (4 %)" in text
    assert "ziggurat run spec.yaml" in text
    assert front["status"] == "completed"
    assert [c["id"] for c in payload(page)["charts"]] == [
        "latencies",
        "pareto-0",
        "pareto-1",
        "pareto-2",
        "volume",
        "parallel",
        "agreement-rungs",
        "agreement-retrained",
        "fit-val_accuracy",
        "rungs",
        "diversity",
        "stages",
        "cost",
        "alerts",
    ]


def test_page_holds_the_drawing_library_once_and_asks_for_nothing(told, make_spec):
    page, _, words = rendered(make_spec(2), told)
    assert page.count(packed_plotly()) == 1
    library = gzip.decompress(base64.b64decode(packed_plotly())).decode()
    assert "Licensed under the MIT license" in library[:300]
    assert words.addresses == ["data:,"]
    assert "default-src 'none'" in page


def test_front_json_has_the_agreed_shape(told, make_spec):
    front = front_json(summarize(make_spec(2).goals(), told))
    assert front["run_id"] == told.run_id
    assert front["objectives"] == [
        {"metric": "val_accuracy", "goal": "maximize", "reference": 0.5, "limit": 0.8, "unit": "1"},
        {"metric": "parameters", "goal": "minimize", "reference": 40_000, "limit": None, "unit": "1"},
    ]
    point = front["front"][0]
    assert set(point) == {"trial", "candidate", "metrics", "rung", "cost_usd"}
    assert point["candidate"] == dict(told.trials[point["trial"]].candidate.choices)
    model = front["retrained"][0]
    assert set(model["metrics"]["test_accuracy"]) == {"mean", "spread", "values"}
    assert len(model["seeds"]) == len(model["metrics"]["test_accuracy"]["values"]) == 2
    assert front["hypervolume"] > 0


def test_result_has_the_keys_of_the_command_line(tmp_path, told, make_spec):
    result = result_json(tmp_path, make_spec(2).goals(), told, tmp_path / "index.html", workers=2)
    assert list(result) == [
        "run_id", "run_dir", "status", "trials", "segments", "hypervolume", "front", "retrained", "cost_usd",
        "wall_s", "utilisation", "report",
    ]  # fmt: skip
    assert set(result["trials"]) == {"total", "completed", "stopped", "failed"}
    assert set(result["front"][0]) == {"trial", "candidate", "metrics"}
    assert 0.5 < result["utilisation"] <= 1
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def nothing(story):
    """No event beyond the start."""


def preflight_failed(story):
    story.begin("preflight")
    story.end("preflight", "failed", reason="the checkpoint store is not writable", checks=9)


def failures_only(story):
    story.begin("search")
    for i in range(12):
        story.fail(story.propose({"width": i}), FailureKind.OUT_OF_MEMORY, "x" * 5000)
    story.end("search", "failed", reason="12 of 12 trials failed")


def one_point(story):
    story.begin("search")
    number = story.propose({"width": 8}, {"parameters": 800.0, "latency_p50_ms": 0.1})
    story.segment(number, 2, val_accuracy=1.0, val_loss=0.0)
    story.end("search")


def no_front(story):
    story.begin("search")
    for i in range(3):
        number = story.propose({"width": i}, {"parameters": 800.0, "latency_p50_ms": 9.0})
        story.segment(number, 2, val_accuracy=0.9, val_loss=0.3)
    story.end("search")


def paused_only(story):
    story.begin("search")
    for i in range(3):
        number = story.propose({"width": i}, {"parameters": 800.0 * i, "latency_p50_ms": 0.1})
        story.segment(number, 0, val_accuracy=0.6, val_loss=float("nan"))
        story.decide(number, "pause", 0)


def twins(story):
    for _ in range(4):
        number = story.propose({"width": 8}, {"parameters": 0.0, "latency_p50_ms": 0.0})
        story.segment(number, 2, 0.0, val_accuracy=0.9, val_loss=0.1)
    retrained = story.propose({"width": 8}, stage="retrain")
    story.segment(retrained, 2)


STATES = [nothing, preflight_failed, failures_only, one_point, no_front, paused_only, twins]


@pytest.mark.parametrize("state", STATES)
def test_any_state_of_a_run_with_one_objective_has_a_page(make_story, make_spec, state):
    story = make_story()
    state(story)
    _, text, _ = rendered(make_spec(1), story.history)
    assert "nan" not in text.lower()


@pytest.mark.parametrize("state", STATES)
def test_any_state_of_a_run_has_a_report(tmp_path, make_story, make_spec, state):
    story = make_story()
    state(story)
    _, text, _, front = written(tmp_path, make_spec(2), story.history)
    assert "nan" not in text.lower()
    assert isinstance(front["front"], list)


def test_four_objectives_make_six_charts(told, make_spec):
    page, *_ = rendered(make_spec(4), told)
    assert sum(c["id"].startswith("pareto") for c in payload(page)["charts"]) == 6


def test_a_history_without_any_event_has_a_report(tmp_path, make_spec):
    _, text, _, front = written(tmp_path, make_spec(2), History())
    assert "No trial was started, so there is no front." in text
    assert front["front"] == []
    assert front["status"] == "running"


def test_a_failed_run_names_its_stage_and_reason(make_story, make_spec):
    story = make_story()
    preflight_failed(story)
    _, text, _ = rendered(make_spec(2), story.history)
    assert "The run failed in the stage preflight: the checkpoint store is not writable." in text


def test_a_run_ended_by_its_budget_says_what_was_cut_and_what_is_needed(
    tmp_path, make_story, make_spec, make_search
):
    story = make_story()
    story.begin("search")
    make_search(story, 20, np.random.default_rng(1))
    story.end("search", "stopped_by_budget")
    story.finish(RunStatus.STOPPED_BY_BUDGET)
    _, text, _ = rendered(make_spec(2), story.history)
    assert (
        "The budget of $0.40 ended the run. 20 of 60 planned trials were started. "
        "0 of 6 retrainings were done." in text
    )
    assert re.search(r"Finishing would take about \$\d", text)


def test_an_interrupted_run_says_how_to_go_on(make_story, make_spec):
    story = make_story()
    one_point(story)
    story.finish(RunStatus.INTERRUPTED)
    facts = ReportFacts(resume="ziggurat resume runs/digits")
    _, text, _ = rendered(make_spec(2), story.history, facts)
    assert "ziggurat resume runs/digits continues where it stopped" in text


def test_no_text_of_a_run_becomes_markup(make_story, make_spec):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    story = make_story()
    number = story.propose({evil: evil}, {"parameters": 8.0})
    story.segment(number, 2, val_accuracy=0.9)
    story.fail(story.propose({"width": 1}), FailureKind.USER_ERROR, evil)
    story.tell(Alert("k", "critical", evil, evil))
    story.tell(Decided("gate", evil, reason=evil, facts={"tau": evil}))
    story.tell(Amended({"budget.limit_usd": 9.0}, evil))
    story.begin(evil)
    story.end(evil, "failed", reason=evil)
    facts = ReportFacts(
        reason=evil, data=evil, devices={evil: evil}, mlflow=evil, spec_text=evil, version=evil
    )
    page, text, words = rendered(make_spec(2), story.history, facts)
    assert "<img src=x" not in page
    assert page.count("<script") == 3
    assert words.addresses == ["data:,"]
    assert "<script>alert(1)" in text
    hover = payload(page)["trials"]["0"]
    assert "<" not in json.dumps(hover)


def test_secrets_of_the_spec_are_not_printed(make_spec):
    spec = make_spec(
        2,
        alerts={"urls": ["json://user:hunter2@example.org"]},
        tracking={"uri": "http://me:hunter2@host:5000"},
    )
    page, *_ = rendered(spec, History(), ReportFacts(mlflow="mlflow ui http://me:hunter2@host:5000"))
    assert "hunter2" not in page
    assert "val_accuracy" in page


def test_without_a_price_cost_is_worker_time(make_story, make_spec):
    story = make_story(usd_per_hour=0.0)
    one_point(story)
    page, *_ = rendered(make_spec(2), story.history)
    volume = next(c for c in payload(page)["charts"] if c["id"] == "volume")
    assert "Worker time" in volume["layout"]["xaxis"]["title"]["text"]
    assert volume["data"][1]["x"] == [0.0, 10.0]


def test_a_thousand_trials_fit_into_the_file_in_time(make_whole, make_spec):
    history = make_whole(1000).history
    begun = time.process_time()
    page, *_ = rendered(make_spec(2), history)
    assert time.process_time() - begun < 15
    assert len(page) < 3_000_000


def test_latencies_keyed_by_metric_alone_belong_to_the_only_device(make_story, make_spec):
    story = make_story()
    trial = story.propose({"width": 8}, stage="retrain")
    story.segment(trial, 2, val_accuracy=0.9)
    found = {"latency_p50_ms": 0.5, "latency_p90_ms": 0.6, "latency_p99_ms": 0.7, "latency_noise": 0.01}
    story.segment(trial, 2, kind=JobKind.PROFILE, stage="measure", **found)
    _, text, _ = rendered(make_spec(2, devices=[{"name": "phone"}]), story.history)
    assert "phone 0.500 0.600 0.700 steady (1 %)" in text


def test_metrics_without_a_device_belong_to_the_first_of_several(make_story, make_spec):
    story = make_story()
    trial = story.propose({"width": 8}, stage="retrain")
    story.segment(trial, 2, val_accuracy=0.9)
    found = {"latency_p50_ms": 0.5, "latency_noise": 0.01, "latency_p50_ms@edge": 5.0}
    story.segment(trial, 2, kind=JobKind.PROFILE, stage="measure", **found)
    _, text, _ = rendered(make_spec(2), story.history)
    assert re.search(r"laptop 0\.500 \S \S steady \(1 %\)", text)
    assert re.search(r"edge 5\.00 \S \S unknown", text)


def test_a_proxy_that_could_not_be_judged_says_why(make_story, make_spec):
    story = make_story()
    story.tell(Decided("proxy", "unchecked", reason="fewer than 3 candidates reached the top rung"))
    _, text, _ = rendered(make_spec(2), story.history)
    assert "Fewer than 3 candidates reached the top rung. Verdict: unchecked." in text


def test_a_file_is_replaced_whole_and_leaves_nothing_behind(tmp_path):
    write_whole(tmp_path / "a.txt", b"one")
    write_whole(tmp_path / "a.txt", b"two")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.txt", b"two")]


def test_importing_the_report_imports_no_drawing_library():
    heavy = "{'matplotlib', 'plotly', 'jinja2', 'rich'}"
    code = f"import sys, ziggurat.report; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_in_a_script_can_neither_end_nor_open_one():
    text = script_json({"a": "</script><!-- & -->"})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & -->"}
