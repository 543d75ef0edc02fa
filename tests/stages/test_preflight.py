"""The preflight as a command shows it, and a worker that comes to its end while it looks."""

import json

import pytest

from flows import words
from tests.real import create, plain, session
from ziggurat import spec
from ziggurat.checks import Check, Findings
from ziggurat.domain import FailureKind
from ziggurat.errors import CallFailed
from ziggurat.inspection import check_limits
from ziggurat.jobs import Desk
from ziggurat.stages.preflight import _ended, gather


def test_what_has_not_passed_has_its_cure_below_it():
    found = [Check("data", True, "1,000 examples", seconds=0.25), Check("clock", None, "late", "set it")]
    assert words.checks([*found, found[1]], 1.5).splitlines() == [
        "ok    data   1,000 examples  [0.2 s]",
        "warn  clock  late",
        "             cure: set it",
        "warn  clock  late",
        "             cure: set it",
        "3 checks in 1.5 s: 1 passed, 2 warnings",
    ]


@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        (FailureKind.OUT_OF_MEMORY, "raise launcher.memory_limit_mb, or make data or models smaller"),
        (FailureKind.LOST, "see the log of the service in the run directory"),
    ],
)
def test_a_worker_that_ends_is_a_failed_check(kind, cure):
    check = _ended(CallFailed(kind.value, "303 MB of memory, the limit is 300 MB"))
    assert (check.name, check.ok, check.cure) == ("worker", False, cure)


@pytest.mark.slow
def test_all_checks_are_made_told_as_json_and_their_warnings_kept(tmp_path):
    settings = plain(
        budget={"limit_usd": 1e-6},
        search={"trials": 40, "workers": 2},
        retrain={"enabled": False},
        store={"kind": "directory", "path": str(tmp_path / "store")},
        fidelities=[{"epochs": 1}],
    )
    with session(create(tmp_path / "runs", settings)) as here:
        found = gather(here.engine, store=here.run.store)
        told = json.loads(json.dumps([c.plain() for c in found.checks]))
    keys = {"name", "ok", "severity", "text", "cure", "seconds", "stage"}
    assert {frozenset(check) for check in told} == {frozenset(keys)}
    assert {c["name"] for c in told} >= {
        "success criteria", "budget", "reproducibility", "launcher", "store", "clock", "tracking", "alerts",
        "data", "splits", "space", "memory", "search.trainer", "devices", "disk", "forecast", "strategy",
    }  # fmt: skip
    few = {c["name"]: c for c in told if c["severity"] == "warning"}
    assert {"forecast", "strategy", "splits"} <= set(few)
    assert "more than the limit of 1e-06 USD" in few["forecast"]["text"]
    assert "trials reach the top rung, where the limits buy" in few["strategy"]["text"]
    assert all(c["cure"] for name, c in few.items() if name != "devices")
    assert not found.failed
    assert found.seconds > 0
    assert found.facts["version.torch"]
    assert found.probes


def test_a_limit_that_nothing_keeps_fails_and_one_that_little_keeps_warns(tmp_path, monkeypatch):
    monkeypatch.setattr("ziggurat.inspection.SAMPLES", 100)

    def judged(limit, reference=1e9):
        desk, found = Desk(tmp_path, "service"), Findings()
        goals = [*plain()["objectives"][:1], {"metric": "parameters", "reference": reference, "limit": limit}]
        desk.__dict__["spec"] = spec.parse(plain(objectives=goals), "test")
        with found.step("limits"):
            check_limits(desk, found, 3)
        return found

    none = judged(9, 9).checks[-1]
    assert (none.name, none.ok) == ("limits", False)
    assert "keeps the limit parameters 9 (they range from 310 to " in none.text
    assert "raise the limit or widen the space" in none.text
    assert [c.ok for c in judged(400).checks] == [True, True]
    assert len(judged(400).probes) == 3
    (kept, _) = judged(310).checks
    assert kept.text.endswith("sampled candidates keep parameters within 310")


def test_a_reference_that_nothing_beats_is_told(tmp_path):
    desk, found = Desk(tmp_path, "service"), Findings()
    goals = [*plain()["objectives"][:1], {"metric": "parameters", "reference": 10}]
    desk.__dict__["spec"] = spec.parse(plain(objectives=goals), "test")
    check_limits(desk, found, 3)
    (check,) = found.checks
    assert (check.name, check.ok) == ("success criteria", None)
    assert "is better than the reference 10 of parameters" in check.text
    assert check.cure == "set the reference of parameters to what is just not good enough"
