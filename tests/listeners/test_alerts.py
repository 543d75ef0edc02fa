"""The life of an alert, its settings, and whom it reaches."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.listeners.desk import Desk
from ziggurat.errors import SpecError
from ziggurat.events import Alert, RunStarted, SegmentFinished
from ziggurat.listeners.alert_rules import OVER
from ziggurat.listeners.alerts import Alerts

HOUR = 3600.0


def slow(run: Any, **settings: Any) -> Desk:
    """A run with a trial that is slow from now on."""
    run.begin()
    desk = Desk(run, slow_trial=settings)
    run.propose(1)
    run.plan(1, forecast_s=10)
    run.clock += 61
    return desk


def test_what_lasts_is_raised_once_and_again_after_its_period(run: Any) -> None:
    desk = slow(run, repeat_hours=2)
    assert desk.tell() == ["slow_trial/1"]
    run.clock += 2 * HOUR - 1
    assert desk.tell() == []
    run.clock += 1
    assert desk.tell() == ["slow_trial/1"]
    assert "This has lasted for 2 h." in run.history.alerts["slow_trial/1"].text
    run.clock += HOUR
    assert desk.tell() == []


def test_what_has_no_period_is_never_raised_again(run: Any) -> None:
    desk = slow(run, repeat_hours=None)
    assert desk.tell() == ["slow_trial/1"]
    assert "slow_trial/1" not in desk.keys(1e6)


def test_a_resumed_run_repeats_nothing_and_ends_what_is_over(run: Any) -> None:
    desk = slow(run)
    assert desk.tell() == ["slow_trial/1"]
    run.add(RunStarted("toy", "0", "", resumed=True))
    again = Desk(run, slow_trial={}, controller_crashed={"enabled": False})
    assert again.keys() == []
    key = next(iter(run.history.open_segments))
    run.add(SegmentFinished(key, 1, 60.0, 0.0))
    assert again.tell() == ["-slow_trial/1"]
    assert again.keys() == []


def test_an_end_has_the_title_and_severity_of_what_is_over_and_says_why(run: Any) -> None:
    desk = slow(run, severity="critical")
    desk.tell()
    key = next(iter(run.history.open_segments))
    run.add(SegmentFinished(key, 1, 60.0, 0.0))
    over = desk.due()[0]
    assert (over.state, over.severity, over.title) == ("resolved", "critical", "Trial 1 is slow")
    assert over.text == "Its segment has ended."


def test_a_rule_that_is_switched_off_says_nothing(run: Any) -> None:
    assert slow(run, enabled=False).keys() == []


SPEC: dict[str, Any] = {
    "urls": ["json://all"],
    "channels": {
        "ops": {"url": "json://ops"},
        "mail": {"url": "json://mail", "severities": ["critical"]},
        "night": {"url": "json://night", "severities": ["critical"]},
    },
    "rules": {"slow_trial": {"channels": ["mail"]}, "queued_job": {"channels": []}},
}


@pytest.mark.parametrize(
    ("alert", "reached"),
    [
        (Alert("a", "warning", "t", rule="idle_workers"), ["urls[0]", "ops"]),
        (Alert("a", "critical", "t", rule="over_budget"), ["urls[0]", "ops", "mail", "night"]),
        (Alert("a", "warning", "t", rule="slow_trial"), ["urls[0]", "mail"]),
        (Alert("a", "warning", "t", rule="queued_job"), ["urls[0]"]),
        (Alert("a", "critical", "of no rule"), ["urls[0]", "ops", "mail", "night"]),
        (Alert("a", "info", "of a rule that is gone", rule="gone"), ["urls[0]", "ops"]),
    ],
)
def test_an_alert_reaches_every_url_and_the_channels_of_its_rule_or_severity(
    alert: Alert, reached: list[str]
) -> None:
    assert Alerts.model_validate(SPEC).reached(alert) == reached


def test_an_address_alone_stands_for_a_channel() -> None:
    settings = Alerts.model_validate({"channels": {"ops": "json://ops"}})
    assert settings == Alerts.model_validate({"channels": {"ops": {"url": "json://ops"}}})
    assert settings.addresses() == {"ops": "json://ops"}


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"channels": {"ops": "x"}, "rules": {"slow_trial": {"channels": ["opps"]}}}, "did you mean ops?"),
        ({"rules": {"slow_trial": {"channels": ["ops"]}}}, "known: none"),
        ({"rules": {"slow_trials": {}}}, "Extra inputs"),
        ({"rules": {"idle_workers": {"window_s": -1}}}, "greater than"),
        ({"rules": {"no_improvement": {"hours": 0}}}, "greater than 0"),
        ({"rules": {"slow_trial": {"repeat_hours": 0}}}, "greater than 0"),
        ({"rules": {"slow_trial": {"severity": "urgent"}}}, "'info', 'warning' or 'critical'"),
        ({"rules": {"stage_finished": {"repeat_hours": 1}}}, "Extra inputs"),
        ({"rules": {"controller_crashed": {"silence_s": 1}}}, "greater than or equal to 10"),
        ({"channels": {"two words": "x"}}, "'two words' is no name of a channel"),
        ({"channels": {"ops": {"url": "x", "severities": []}}}, "at least 1 item"),
        ({"channels": {"ops": {"url": ""}}}, "at least 1 character"),
    ],
)
def test_what_makes_no_sense_is_refused(plain: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Alerts.model_validate(plain)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("plain", "key"),
    [
        ({"urls": ["json://127.0.0.1:9/", "slack://hunter2"]}, "alerts.urls[1]"),
        ({"channels": {"ops": "slack://hunter2"}}, "alerts.channels.ops.url"),
    ],
)
def test_an_unusable_address_is_named_by_its_key_and_scheme_only(plain: dict[str, Any], key: str) -> None:
    settings = Alerts.model_validate(plain)
    with pytest.raises(SpecError) as caught:
        settings.check()
    message = str(caught.value)
    assert message.startswith(f"{key}: ")
    assert "'slack'" in message
    assert "hunter2" not in message
    assert "\n" not in message
    assert "hunter2" not in repr(settings)


def test_usable_addresses_pass() -> None:
    Alerts(urls=["json://127.0.0.1:9/", "mailto://user:password@example.org"]).check()


PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()


def test_the_example_of_the_page_is_valid() -> None:
    (block,) = (b for b in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if b.startswith("alerts:"))
    settings = Alerts.model_validate(yaml.safe_load(block)["alerts"])
    assert settings.rules.no_improvement.channels == ["ops", "phone"]


def test_the_page_has_every_rule_with_its_severity_and_whether_it_ends() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| .*? \|(.*)\|$", PAGE, re.MULTILINE)
    rules = dict(Alerts().rules.each())
    assert {name: severity for name, severity, _ in rows} == {n: r.severity for n, r in rules.items()}
    ends = {name for name, _, over in rows if over.strip()}
    assert ends == {*OVER, "controller_crashed"}
