"""Events round-trip through their JSON lines."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ziggurat.domain import Candidate, Failure, FailureKind, Fidelity, Job, JobKind, Measurement, TrialStatus
from ziggurat.events import (
    Alert,
    Charged,
    Decided,
    Event,
    Measured,
    SegmentFinished,
    SegmentPlanned,
    StageFinished,
    TrialEnded,
    TrialProposed,
    from_line,
    job_from_plain,
    job_to_json,
    to_line,
)

CANDIDATE = Candidate({"b": 2, "a": 1.0, "c": True, "d": "relu"})
JOB = Job("00001-train-1-0", JobKind.TRAIN, "search", 1, CANDIDATE, (Fidelity(3, 0.5), Fidelity(9)), 0, 1, 7)
BODIES = [
    TrialProposed(1, 0, "search", CANDIDATE, 7, (Fidelity(3),), static=(Measurement("parameters", 12.0),)),
    SegmentPlanned(JOB, 1.5, 0.25),
    Measured(JOB.key, 1, 0, 3, (Measurement("val_accuracy", 0.5, step=3),)),
    Measured(JOB.key, 1, 0, None, (Measurement("latency_p50_ms", 0.5, "ms", None, "phone", 0.1, 9),)),
    SegmentFinished(
        JOB.key, 1, 1.5, 0.1, Failure(FailureKind.DIVERGED, "NaN"), checkpoint="x.ckpt", retry=True
    ),
    TrialEnded(1, TrialStatus.FAILED, Failure(FailureKind.TIMEOUT, "late"), "late"),
    Decided("gate", "go", facts={"tau": 0.5, "low": None, "names": ["a", 1]}),
    StageFinished("search", "ok", {"hypervolume": 3}),
    Alert("slow:3", "warning", "slow"),
    Alert("slow:3", "warning", "as usual again", rule="slow_trial", state="resolved"),
    SegmentFinished(JOB.key, 1, 1.5, 0.1, usage={"cpu_utilisation": 0.5}),
    Charged("idle", 12.5, 0.01, "search", JOB.key),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda b: type(b).__name__)
def test_an_event_is_the_same_after_a_round_trip(body):
    event = Event(4, 12.5, "run", body)
    again = from_line(to_line(event))
    assert again.body == body
    assert (again.seq, again.utc, again.run_id) == (4, 12.5, "run")


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.one_of(st.booleans(), st.integers(), st.text())))
def test_choices_keep_value_and_type(choices):
    body = TrialProposed(0, 0, "search", Candidate(choices), 0, (Fidelity(1),))
    again = from_line(to_line(Event(0, 0.0, "r", body))).body.candidate.choices
    assert again == dict(sorted(choices.items()))
    assert [type(v) for v in again.values()] == [type(v) for _, v in sorted(choices.items())]


def test_a_line_has_the_fixed_head():
    plain = json.loads(to_line(Event(0, 1.0, "r", Alert("k", "info", "t"))))
    assert {k: plain[k] for k in ("v", "seq", "utc", "run_id", "type")} == {
        "v": 1, "seq": 0, "utc": 1.0, "run_id": "r", "type": "alert",
    }  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "",
        "3",
        "{}",
        '{"v":2,"seq":0,"utc":0,"run_id":"r","type":"alert"}',
        '{"v":1,"seq":0,"utc":0,"run_id":"r","type":"x"}',
    ],
)
def test_what_is_no_event_raises(line):
    with pytest.raises((ValueError, KeyError)):
        from_line(line)


def test_not_a_number_survives_the_journal():
    body = Measured("k", 0, 0, 1, (Measurement("val_loss", math.nan, step=1),))
    again = from_line(to_line(Event(0, 0.0, "r", body))).body
    assert math.isnan(again.measurements[0].value)


def test_a_job_travels_as_json():
    assert job_from_plain(json.loads(job_to_json(JOB))) == JOB
