"""Findings of the preflight as data: verdicts, times, and errors that become findings."""

import json

import pytest

from ziggurat.checks import Check, Findings, counts, line
from ziggurat.errors import SpecError

THREE = [
    Check("disk", True, "much room"),
    Check("clock", None, "late", "set it"),
    Check("data", False, "gone"),
]


def test_a_check_as_json_says_how_bad_it_is_and_which_stage_suffers():
    told = json.loads(json.dumps([c.plain() for c in THREE]))
    assert [(t["name"], t["ok"], t["severity"], t["stage"]) for t in told] == [
        ("disk", True, "passed", ""),
        ("clock", None, "warning", ""),
        ("data", False, "failed", "validate"),
    ]
    assert told[1] == {
        "name": "clock", "ok": None, "severity": "warning", "text": "late", "cure": "set it", "seconds": 0.0,
        "stage": "",
    }  # fmt: skip


def test_checks_are_counted_by_severity():
    assert counts(THREE) == {"passed": 1, "warning": 1, "failed": 1}


def test_a_line_has_the_cure_once():
    assert line(THREE[1]) == "late; set it"
    assert line(Check("clock", None, "late; set it", "set it")) == "late; set it"


def test_our_errors_are_findings_as_they_are_and_others_get_the_cure(capsys):
    found = Findings()
    with found.step("data"):
        raise SpecError("data.path: no file; name another")
    with found.step("data", "see data"):
        raise ValueError("two\nlines")
    assert [(c.ok, c.text, c.cure) for c in found.checks] == [
        (False, "data.path: no file; name another", ""),
        (False, "ValueError: two lines", "see data"),
    ]
    assert found.failed
    assert "ValueError" in capsys.readouterr().err


def test_what_is_no_finding_goes_on():
    with pytest.raises(ValueError, match="stop"), Findings().step("devices", ours=True):
        raise ValueError("stop")


def test_the_time_of_a_step_is_shared_among_what_it_found():
    found = Findings()
    with found.step("space"):
        found.checks.append(Check("space", True, "known", seconds=5.0))
        found.good("space", "one")
        found.good("space", "two")
        sum(range(200_000))
    known, one, two = (c.seconds for c in found.checks)
    assert known == 5.0
    assert one == two == 0.0  # what was timed already took longer than all of it
    with found.step("space"):
        found.good("space", "three")
        sum(range(200_000))
    assert found.checks[-1].seconds > 0
