"""A latency table in a spec: what the bench, a worker and the preflight make of it."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from ziggurat import choices
from ziggurat.bench import Bench
from ziggurat.domain import Fidelity, Job, JobKind, Measurement
from ziggurat.errors import SpecError
from ziggurat.history import History
from ziggurat.inspection import inspect
from ziggurat.jobs import Desk
from ziggurat.latency import LatencyTable
from ziggurat.latency.fit import Overhead, Quality
from ziggurat.latency.table import Entry, identity_of, settings_of
from ziggurat.protocols import Signature
from ziggurat.searchers import fresh
from ziggurat.spec import parse

SIGNATURE = Signature((1, 8, 8), 10)
SPACE = {
    "kind": "cnn",
    "depth": {"min": 1, "max": 3},
    "channels": [2, 4],
    "kernel": [3],
    "skip": [False],
    "pooling": ["none"],
    "activation": ["relu"],
    "dropout": [0.0],
}


def spec(path, limit=None, device=None, **more):
    latency = {"metric": "latency_p50_ms", "reference": 10.0, **({"limit": limit} if limit else {})}
    plain = {
        "name": "small",
        "data": {"kind": "digits", "image": True},
        "space": SPACE,
        "objectives": [{"metric": "val_accuracy", "reference": 0.1}, latency],
        "fidelities": [{"epochs": 1}],
        "retrain": {"enabled": False},
        "validate": {"enabled": False},
        "devices": [{"kind": "torch", "table": str(path), **(device or {})}],
        **more,
    }
    return parse(plain, "test")


@pytest.fixture
def path(tmp_path):
    """A table in which a block takes 1 ms and a head 0.5 ms, with an error of 4 %."""
    path = tmp_path / "table.json"
    made = spec(path)
    settings = settings_of(made.space, SIGNATURE)
    operations = made.space.all_operations(SIGNATURE)
    LatencyTable(
        created_utc=time.time() - 3600,
        device="local",
        fingerprint=dict(made.devices[0].fingerprint()),
        space=settings,
        identity=identity_of(settings),
        fixed_ms=0.25,
        entries={o.key: Entry(1.25 if o.kind == "block" else 0.75) for o in operations},
        overhead=Overhead(0.1, 0.0, {}),
        quality=Quality(24, 0.04, 0.03, 0.08, 6.0),
        models=[],
    ).write(path)
    return path


def candidates(made, count=20):
    rng = np.random.default_rng(0)
    return [choices.sample(made.space.choices(), rng) for _ in range(count)]


def of(measurements, metric):
    return next((m for m in measurements if m.metric == metric), None)


def test_a_table_makes_the_latency_of_every_candidate_known(path):
    made = spec(path)
    bench = Bench(made, SIGNATURE)
    for candidate in candidates(made):
        known = bench.static(candidate)
        wanted = 0.1 + int(candidate.choices["depth"]) + 0.5
        assert of(known, "latency_p50_ms") == Measurement(
            "latency_p50_ms", pytest.approx(wanted), "ms", device="local", spread=pytest.approx(0.04 * wanted)
        )
        assert of(known, "parameters") is not None


def test_tables_of_further_devices_carry_their_names(path):
    both = [{"kind": "torch"}, {"kind": "torch", "name": "phone", "table": str(path)}]
    made = spec(path, devices=both)
    found = Bench(made, SIGNATURE).predicted(candidates(made, 1)[0])
    assert [(m.metric, m.device) for m in found] == [("latency_p50_ms@phone", "phone")]


def test_without_a_table_nothing_is_predicted():
    made = spec("unused", devices=[{"kind": "torch"}])
    bench = Bench(made, SIGNATURE)
    assert bench.predicted(candidates(made, 1)[0]) == ()
    assert of(bench.static(candidates(made, 1)[0]), "latency_p50_ms") is None


def test_a_table_that_does_not_fit_stops_the_search_before_it_begins(path):
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "fingerprint": {**plain["fingerprint"], "threads": "8"}}))
    made = spec(path)
    with pytest.raises(
        SpecError, match=r"threads was '8', here it is '1'; build it anew with `ziggurat profile"
    ):
        Bench(made, SIGNATURE).static(candidates(made, 1)[0])


@pytest.fixture
def desk(path, tmp_path):
    """A worker at a spec with some limit."""

    def sit(limit=None, **more):
        made = Desk(tmp_path, "service", History())
        made.__dict__["spec"] = spec(path, limit, **more)
        return made

    return sit


def proposals(desk, count):
    return desk.propose(Job("p", JobKind.PROPOSE, "search", count=count))


def test_proposals_keep_a_predicted_limit_and_carry_the_prediction(desk):
    found = proposals(desk(2.0), 6)
    assert [p["candidate"]["choices"]["depth"] for p in found] == [1] * len(found)
    static = {m["metric"]: m for m in found[0]["static"]}["latency_p50_ms"]
    assert (static["value"], static["device"]) == (pytest.approx(1.6), "local")
    assert static.get("samples") is None


def test_a_training_repeats_no_prediction_so_that_a_measurement_stays(desk):
    here = desk()
    candidate = candidates(here.spec, 1)[0]
    found = here._with_static(candidate, (Measurement("val_accuracy", 0.9, step=1),))
    assert {m.metric for m in found} >= {"val_accuracy", "parameters", "flops"}
    assert of(found, "latency_p50_ms") is None
    assert of(here.static(candidate), "latency_p50_ms") is not None


def test_searchers_see_predictions_of_the_whole_pool(desk):
    from ziggurat.contexts import make_context

    here = desk(2.0)
    context = make_context(
        here.spec,
        History(),
        "search",
        static=lambda cs: [{m.metric: m.value for m in here.static(c)} for c in cs],
    )
    drawn = candidates(here.spec)
    assert [fresh.within_limits(context, c) for c in drawn] == [c.choices["depth"] == 1 for c in drawn]


def checks(desk):
    return {c["name"]: c for c in inspect(desk, 3)["checks"]}


def test_the_preflight_tells_age_and_error_and_uses_predictions_for_limits(desk, monkeypatch):
    here = desk(2.0)
    found = checks(here)
    text = found["latency table"]["text"]
    assert found["latency table"]["ok"]
    assert "1.0 hours old" in text
    assert "median error of 3.0%, 68 % within 4.0%" in text
    assert found["limits"]["ok"]


def test_a_limit_that_no_prediction_keeps_is_found_before_the_search(desk):
    found = checks(desk(1.5))["limits"]
    assert found["ok"] is False
    assert "none of 1000 sampled candidates keeps the limit latency_p50_ms 1.5" in found["text"]
    assert "from 1.6 to 3.6" in found["text"]


def test_the_preflight_refuses_a_table_of_another_space(desk, path):
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "identity": "0" * 16, "space": {**plain["space"], "channels": 3}}))
    found = checks(desk(2.0))
    assert found["latency table"]["ok"] is False
    assert "of another space: space.channels was '3'" in found["latency table"]["text"]
    assert "limits" not in found


def test_a_job_measures_even_what_is_predicted(desk):
    here = desk()
    candidate = candidates(here.spec, 1)[0]
    job = Job("j", JobKind.PROFILE, "search", candidate=candidate, ladder=(Fidelity(1),), device="local")
    found = of(here.profile(job).measurements, "latency_p50_ms")
    assert found is not None
    assert not found.predicted


def test_the_report_says_what_is_predicted():
    from ziggurat.report.results import FrontRow, Summary
    from ziggurat.report.tables import predictions

    rows = [
        FrontRow(i, candidates(spec("unused", devices=[{"kind": "torch"}]), 1)[0], {}, 0, 0.0, predicted=p)
        for i, p in enumerate([{"latency_p50_ms": 0.04}, {"latency_p50_ms": 0.02}, {}])
    ]

    class Some:
        front = tuple(rows)
        retrained = ()

    text = predictions(Some)
    assert text == "Latency p50 is predicted by a table for 2 of 3 points (± 4.0 %)."
    assert Summary is not None
    Some.front = (replace(rows[0], predicted={}),)
    assert predictions(Some) == ""
