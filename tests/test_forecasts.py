"""`ziggurat estimate` and `ziggurat prices`: data, what is printed in 80 and 120 columns, bad input."""

import datetime
import json

import numpy as np
import pytest

from flows import forecast_words, forecasts
from flows.cli import Exit, app, guarded
from tests.pricing import tables
from tests.real import create, plain
from tests.support import Story
from ziggurat import prices, spec
from ziggurat.alternatives import loss_of, places, shown
from ziggurat.domain import Candidate, Measurement
from ziggurat.errors import SpecError
from ziggurat.estimate import estimate, seen, survivors
from ziggurat.events import SegmentFinished, StageFinished
from ziggurat.paces import Paces, around
from ziggurat.pricing.arbitrage import Loss, rank
from ziggurat.pricing.resolve import Crew, Need
from ziggurat.pricing.table import load

TODAY = datetime.date(2026, 9, 1)


def parsed(**changes):
    settings = {
        "fidelities": [{"epochs": 1}, {"epochs": 3}],
        "search": {"trials": 10, "workers": 2},
        "retrain": {"k": 2, "seeds": 2, "epochs": 10},
        "launcher": {"kind": "local", "usd_per_hour": 3600},
        **changes,
    }
    return spec.parse(plain(**settings), "test")


def trained(settings, *paces):
    """A history in which candidates have been trained to the first rung at these paces."""
    story = Story(ladder=settings.ladder())
    for i, pace in enumerate(paces):
        number = story.propose(Candidate({"width": i}))
        job = story.start(number)
        found = (Measurement("val_accuracy", 0.5, step=1),)
        story.add(SegmentFinished(job.key, number, pace, 0.0, measurements=found))
    return story.history


def test_the_forecast_is_the_mean_of_what_candidates_took_and_its_interval_holds_it():
    settings = parsed()
    history = trained(settings, 1.0, 2.0, 3.0, 6.0)
    row = next(r for r in estimate(settings, history) if r.stage == "search")
    assert row.seconds == pytest.approx(10 * 3 * 3.0)  # mean pace 3, though their upper quartile is 3.75
    assert row.low_s < row.seconds < row.high_s
    assert row.low_s >= 10 * 3 * 1.0
    assert (row.usd, row.low_usd, row.high_usd) == (row.seconds, row.low_s, row.high_s)  # 3600 USD an hour
    assert Paces(settings, history).basis == "trainings of 4 candidates"


def test_the_interval_covers_what_further_candidates_take():
    rng = np.random.default_rng(7)
    hits = 0
    for seed in range(200):
        known = rng.lognormal(0, 0.5, size=12)
        low, high = around(list(known), 20, seed)
        hits += low <= rng.lognormal(0, 0.5, size=20).mean() <= high
    assert hits / 200 > 0.78  # 90 % is aimed at; a bootstrap of twelve is a little short


def test_more_known_candidates_narrow_the_interval():
    rng = np.random.default_rng(3)
    paces = list(rng.lognormal(0, 0.5, size=400))
    few, some, many = (around(paces[:n], 1000, 0) for n in (6, 30, 400))
    assert few[1] - few[0] > some[1] - some[0] > many[1] - many[0]
    assert around(paces[:6], 10, 0) == around(paces[:6], 10, 0)


def test_one_candidate_tells_nothing_of_how_much_they_differ():
    assert around([2.0], 10, 0) == (1.0, 4.0)


def test_equal_paces_leave_nothing_open():
    assert around([2.0] * 5, 10, 0) == (2.0, 2.0)
    assert around([2.0] * 50, 10, 0) == (2.0, 2.0)


def test_batches_of_the_preflight_count_until_something_is_trained():
    story = Story()
    story.add(StageFinished("preflight", "ok", {"epoch_s": 3.0, "epochs_s": [1.0, 2.0, 3.0]}))
    paces = Paces(parsed(), story.history)
    span = paces.span(10.0, 1, 5)
    assert span.seconds == pytest.approx(20.0)
    assert 10.0 <= span.low < 20.0 < span.high
    assert "a few batches of 3 candidates" in paces.basis


def test_the_start_of_every_segment_is_told_apart_from_the_work():
    settings = parsed()
    story = Story(ladder=settings.ladder())
    for i, rate in enumerate((2.0, 2.0, 2.0)):
        number = story.propose(Candidate({"width": i}))
        for _ in settings.fidelities:
            job = story.start(number)
            work = 1 if job.to_rung == 0 else 2
            found = (Measurement("val_accuracy", 0.5, step=work),)
            story.add(SegmentFinished(job.key, number, 5.0 + rate * work, 0.0, measurements=found))
    paces = Paces(settings, story.history)
    assert paces.start_s == pytest.approx(5.0)
    assert paces.measured == pytest.approx([2.0] * 3)
    assert paces.span(10.0, 3, 1).seconds == pytest.approx(3 * 5 + 10 * 2)


def test_what_early_stopping_has_done_so_far_counts_in_the_forecast():
    settings = parsed(search={"trials": 40, "workers": 2, "stopper": {"kind": "asha", "reduction_factor": 2}})
    story = Story(ladder=settings.ladder())
    assert seen(settings, story.history, "search") == survivors(settings) == [40.0, 20.0]
    for i in range(16):
        number = story.propose(Candidate({"width": i}))
        story.finish(number, val_accuracy=0.5)
        story.verdict(number, "continue" if i < 14 else "stop")
    # 14 of 16 went on; 8 more are imagined of which half do
    assert seen(settings, story.history, "search") == [40.0, pytest.approx(40 * (14 + 4) / (16 + 8))]


def test_candidates_that_are_measured_on_a_device_are_part_of_the_search():
    goals = [{"metric": "val_accuracy", "reference": 0.1}, {"metric": "latency_p50_ms", "reference": 5}]
    both = [parsed(), parsed(objectives=goals)]
    plain_s, measured_s = (estimate(s, trained(s, 2.0))[0].seconds for s in both)
    assert measured_s == pytest.approx(plain_s + 10 * 2.0)  # as long as nothing is known, as long as an epoch


def test_without_anything_known_the_interval_is_a_factor_either_way():
    span = Paces(parsed(), Story().history).span(10.0, 1, 5)
    assert (span.low, span.seconds, span.high) == (5.0, 10.0, 20.0)
    assert "guess" in Paces(parsed(), Story().history).basis


def test_a_baseline_and_measuring_are_part_of_the_forecast():
    settings = parsed(search={"trials": 10, "workers": 2, "baseline": 5})
    rows = {r.stage: r for r in estimate(settings, trained(settings, 2.0))}
    assert list(rows) == ["search", "baseline", "retrain", "measure"]
    assert rows["baseline"].seconds == pytest.approx(5 * 3 * 2.0)
    assert rows["measure"].trials == 4
    assert rows["measure"].usd > 0


def test_the_work_of_a_launcher_is_priced_on_suitable_machines(tmp_path):
    launcher = {"kind": "local", "price": {"instance": "four", "region": "here"}, "resources": {"gpus": 1}}
    settings = parsed(
        prices=str(tables.write(tmp_path)), launcher=launcher, search={"trials": 10, "workers": 4}
    )
    rows = estimate(settings, trained(settings, 3600.0))
    [place] = places(settings, rows, load(settings.prices))
    hours = 10 * 3 + 4 * 10
    assert place.hours == pytest.approx(hours)
    assert place.usd == pytest.approx(hours * 0.9)
    assert {a.choice.offer.machine.gpu for a in place.found} == {"A10G"}  # times hold for no other
    cheapest = place.found[0]
    assert (cheapest.choice.offer.instance, cheapest.choice.offer.region) == ("one", "there")
    assert cheapest.usd == pytest.approx(hours * cheapest.choice.useful_usd)


def test_a_retraining_launcher_has_a_list_of_its_own():
    full = {"kind": "local", "usd_per_hour": 7, "resources": {"gpus": 1}}
    settings = parsed(retrain={"k": 2, "seeds": 1, "epochs": 10, "launcher": full, "workers": 2})
    rows = estimate(settings, trained(settings, 3600.0))
    main, apart = places(settings, rows, load(), ["us-west-2", "us-east-1"])
    assert (main.key, apart.key) == ("launcher", "retrain.launcher")
    assert apart.hours == pytest.approx(20)
    assert all(a.choice.offer.machine.gpus for a in apart.found)
    assert not any(a.choice.offer.machine.gpus for a in main.found)


def test_the_few_that_are_shown_have_one_that_is_never_taken_back():
    choices = rank(load(), Crew(Need(4, 12, 1)), Loss(600, 300))
    found = shown(choices)
    assert len(found) == 5
    assert found[-1].offer.market == "on_demand"
    assert len({(c.offer.instance, c.offer.market) for c in found}) == 5


def test_an_interruption_loses_a_segment_or_what_is_between_checkpoints():
    settings = parsed()
    rows = estimate(settings, trained(settings, 60.0))[:1]
    assert loss_of(settings, settings.launcher, rows).checkpoint_s == pytest.approx(10 * 3 * 60 / 20)
    often = parsed(search={"trials": 10, "workers": 2, "trainer": {"kind": "lightning", "checkpoint_s": 30}})
    assert loss_of(often, often.launcher, rows).checkpoint_s == 30


def report(settings, history):
    return forecasts.data(settings, history, TODAY, [])


def test_the_forecast_says_whether_it_keeps_the_limits():
    history = trained(parsed(), 1.0, 2.0, 3.0)
    total = report(parsed(), history)["total_usd"]
    for factor, said in ((10, "fits"), (0.5, "exceeds"), (1.01, "may exceed")):
        data = report(parsed(budget={"limit_usd": total * factor, "limit_hours": 1e-9}), history)
        assert data["verdicts"] == {"limit_usd": said, "limit_hours": "exceeds"}


def test_old_prices_are_warned_of_and_young_ones_are_not():
    launcher = {"kind": "local", "price": {"instance": "c7i.xlarge", "region": "us-east-1"}}
    settings = parsed(launcher=launcher)
    assert prices.aged(settings, datetime.date(2026, 2, 1)) == []
    assert prices.aged(settings, TODAY) == ["launcher.price is 225 days old (2026-01-19)"]
    [check] = prices.checks(settings, TODAY)
    assert check.ok is None
    assert "prices refresh" in check.cure
    [check] = prices.checks(settings, datetime.date(2026, 2, 1))
    assert check.ok
    assert prices.checks(parsed(), TODAY) == []


@pytest.mark.parametrize("wide", [80, 120])
def test_the_printed_forecast_fits_the_terminal(wide):
    launcher = {
        "kind": "local",
        "price": {"instance": "g5.12xlarge", "region": "us-west-2", "market": "spot"},
    }
    launcher["resources"] = {"gpus": 1}
    settings = parsed(launcher=launcher, budget={"limit_usd": 1e-6, "limit_hours": 5, "plan_usd": 1e-7})
    text = forecast_words.text(report(settings, trained(settings, 100.0, 20_000.0)), wide)
    assert max(len(line) for line in text.splitlines()) <= wide
    for word in (
        "stage",
        "90 % interval",
        "total",
        "exceeds the limit",
        "naive",
        "never",
        "us-west-2",
        "warning",
    ):
        assert word in text
    assert ("priced on" in text) == (wide == 120)


def test_times_and_money_are_short():
    assert [forecast_words.lasting(s) for s in (0.1234, 59, 90, 7200, 200_000)] == [
        "0.123 s", "59 s", "1.5 min", "2 h", "2.31 days"
    ]  # fmt: skip
    assert [forecast_words.usd(v) for v in (0, 0.00012, 0.5, 12.345, 1234.5)] == [
        "0.00", "0.0001", "0.5000", "12.35", "1,234.50"
    ]  # fmt: skip


def call(*arguments):
    return guarded(lambda: app(list(map(str, arguments)), prog_name="ziggurat", standalone_mode=False))


def test_estimate_of_a_run_directory_needs_no_trying(tmp_path, capsys):
    run = create(tmp_path, plain())
    run.close()
    assert call("estimate", run.folder, "--json") == Exit.OK
    data = json.loads(capsys.readouterr().out)
    assert [r["stage"] for r in data["stages"]] == ["search", "retrain", "measure"]
    assert data["places"][0]["machines"]
    assert call("estimate", run.folder) == Exit.OK
    assert "launcher: " in capsys.readouterr().out


BAD = {
    "no file": (("estimate", "missing.yaml"), "missing.yaml: cannot be read"),
    "no run": (("estimate", "."), "no run directory"),
    "region of a table": (("prices", "list", "--region", "us-wst-2"), "did you mean us-west-2"),
    "instance": (("prices", "list", "--instance", "g5.xlrge"), "did you mean g5.xlarge"),
    "market": (("prices", "list", "--market", "sport"), "--market sport: did you mean spot"),
    "table": (("prices", "list", "--prices", "none.yaml"), "prices: none.yaml cannot be read"),
    "kind": (("prices", "cheapest", "--gpus", 1, "--gpu", "A10"), "did you mean A10G"),
    "kind of none": (("prices", "cheapest", "--gpu", "A10G"), "give --gpus as well"),
    "no cpus": (("prices", "cheapest", "--cpus", 0), "--cpus"),
    "no number": (("prices", "cheapest", "--memory-gb", "much"), "--memory-gb"),
    "AWS region": (("prices", "refresh", "--region", "moon-1"), "--region moon-1: AWS has no such region"),
    "out": (("prices", "refresh", "--region", "us-east-1", "--out", "."), "--out .: is a directory"),
    "command": (("prices", "lst"), "No such command"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == Exit.BAD_INPUT
    text = capsys.readouterr().err
    assert said in text
    assert len(text.strip().splitlines()) == 1


def test_set_does_not_go_with_a_run(tmp_path):
    with pytest.raises(SpecError, match="--set changes a spec, and a run has its own"):
        forecasts.of(str(tmp_path), ["search.trials=3"], [])


def test_the_table_and_the_cheapest_are_printed(capsys):
    assert call("prices", "list", "--instance", "g5.xlarge", "--json") == Exit.OK
    rows = json.loads(capsys.readouterr().out)
    assert {r["region"] for r in rows} >= {"us-east-1", "us-west-2", "eu-central-1"}
    assert call("prices", "list", "--region", "us-east-1") == Exit.OK
    assert "p4d.24xlarge" in capsys.readouterr().out
    assert call("prices", "cheapest", "--gpus", 1, "--cpus", 4, "--count", 3) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[2].startswith("g4dn.xlarge")
    assert max(map(len, lines)) <= 80
    assert call("prices", "cheapest", "--gpus", 99) == Exit.OK
    assert "no machine of the price table" in capsys.readouterr().out
