"""The rules of alerts, each on a small history with made-up times."""

from dataclasses import replace
from typing import Any

import pytest

from ziggurat.choices import Values
from ziggurat.domain import FailureKind, Measurement, RunStatus
from ziggurat.errors import SpecError
from ziggurat.events import Amended, Decided, RunFinished, RunStarted, StageFinished, TrialProposed
from ziggurat.listeners.alerts import Alerts, Watch, crashes, rules

HOUR = 3600.0


@pytest.fixture
def watch(run: Any) -> Watch:
    run.begin()
    return Watch(run.objectives, since_utc=run.clock)


def keys(run: Any, watch: Watch, settings: Alerts | None = None, later_s: float = 0.0) -> list[str]:
    settings = settings or Alerts(utilisation_floor=0)
    return [a.key for a in rules(run.history, run.clock + later_s, settings, watch)]


def good(run: Any, number: int, accuracy: float = 0.9, parameters: float = 500, **more: Any) -> None:
    run.propose(number, parameters=parameters)
    run.train(number, accuracy=accuracy, **more)


def test_an_ordinary_run_raises_nothing(run: Any, watch: Watch) -> None:
    good(run, 0)
    assert keys(run, replace(watch, limit_usd=1.0, plan_usd=1.0)) == []


def test_every_alert_is_raised_once(run: Any, watch: Watch) -> None:
    watch = replace(watch, limit_usd=1.0)
    good(run, 0, cost_usd=0.9)
    due = rules(run.history, run.clock, Alerts(), watch)
    assert [a.key for a in due] == ["budget_warning"]
    run.add(*due)
    assert keys(run, watch) == []


@pytest.mark.parametrize(("spent", "due"), [(0.79, []), (0.8, ["budget_warning"])])
def test_the_budget_warning_comes_at_its_share_of_the_limit(
    run: Any, watch: Watch, spent: float, due: list[str]
) -> None:
    good(run, 0, cost_usd=spent)
    assert keys(run, replace(watch, limit_usd=1.0)) == due


def test_an_added_budget_gets_a_warning_of_its_own(run: Any, watch: Watch) -> None:
    good(run, 0, cost_usd=0.9)
    run.add(*rules(run.history, run.clock, Alerts(), replace(watch, limit_usd=1.0)))
    run.add(Amended({"budget.limit_usd": 1.1}))
    assert keys(run, replace(watch, limit_usd=1.1)) == ["budget_warning/1.1"]


@pytest.mark.parametrize(("spent", "due"), [(1.2, []), (1.21, ["plan_exceeded"])])
def test_the_plan_may_be_passed_by_a_fifth(run: Any, watch: Watch, spent: float, due: list[str]) -> None:
    good(run, 0, cost_usd=spent)
    assert keys(run, replace(watch, plan_usd=1.0)) == due


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (Decided("budget", "stop", reason="limit"), "budget_stop"),
        (Decided("gate", "stop", reason="tau"), "gate_failed"),
        (StageFinished("search", "failed"), "stage_failed/search"),
        (RunFinished(RunStatus.COMPLETED), "run_finished/completed"),
    ],
)
def test_outcomes_are_told(run: Any, watch: Watch, body: Any, key: str) -> None:
    run.add(body)
    assert keys(run, watch) == [key]


def test_a_passed_gate_is_no_alert(run: Any, watch: Watch) -> None:
    run.add(Decided("gate", "pass"))
    assert keys(run, watch) == []


def test_a_crash_is_a_second_start_without_an_end_between(run: Any) -> None:
    again = RunStarted("toy", "0", "", resumed=True)
    run.begin()
    assert crashes(run.events) == 0
    run.add(RunFinished(RunStatus.INTERRUPTED), again)
    assert crashes(run.events) == 0
    run.add(again)
    assert crashes(run.events) == 1


def test_each_crash_is_told_once(run: Any, watch: Watch) -> None:
    run.add(*rules(run.history, run.clock, Alerts(), replace(watch, crashes=1)))
    assert keys(run, replace(watch, crashes=2)) == ["controller_crashed/2"]


def test_a_segment_is_slow_beyond_its_factor_and_never_when_young(run: Any, watch: Watch) -> None:
    run.propose(7)
    run.plan(7, forecast_s=10)
    run.propose(8)
    run.plan(8, forecast_s=0.1)
    assert keys(run, watch, later_s=4.9) == []
    assert keys(run, watch, later_s=5.1) == ["slow_trial/8"]
    assert keys(run, watch, later_s=20.1) == ["slow_trial/7", "slow_trial/8"]


def test_failures_matter_from_the_fifth_ended_trial_on(run: Any, watch: Watch) -> None:
    good(run, 0)
    for number in (1, 2, 3):
        run.propose(number)
        run.fail(number)
    assert keys(run, watch) == []
    good(run, 4)
    assert keys(run, watch) == ["failure_share"]


def test_lost_workers_are_not_held_against_the_trials(run: Any, watch: Watch) -> None:
    for number in range(6):
        run.propose(number)
        run.fail(number, FailureKind.LOST)
    assert keys(run, watch) == []


def test_silence_is_counted_from_the_last_growth_of_the_front(run: Any, watch: Watch) -> None:
    settings = Alerts(no_improvement_hours=2, utilisation_floor=0, slow_factor=1e9)
    good(run, 0, seconds=HOUR)
    good(run, 1, accuracy=0.8, seconds=HOUR)  # no better in any objective
    run.propose(2)
    run.plan(2)
    assert keys(run, watch, settings, later_s=HOUR - 1) == []
    assert keys(run, watch, settings, later_s=HOUR + 1) == ["no_improvement"]


def test_a_better_trial_ends_the_silence(run: Any, watch: Watch) -> None:
    settings = Alerts(no_improvement_hours=2, utilisation_floor=0, slow_factor=1e9)
    good(run, 0, seconds=HOUR)
    good(run, 1, accuracy=0.8, parameters=100, seconds=1.5 * HOUR)  # smaller
    run.propose(2)
    run.plan(2)
    assert keys(run, watch, settings, later_s=HOUR) == []


def test_a_trial_outside_the_reference_box_is_no_improvement(run: Any, watch: Watch) -> None:
    settings = Alerts(no_improvement_hours=2, utilisation_floor=0)
    good(run, 0, seconds=HOUR)
    good(run, 1, accuracy=0.05, parameters=1, seconds=2 * HOUR)  # accuracy below its reference of 0.1
    assert keys(run, watch, settings) == ["no_improvement"]


def test_time_in_which_nobody_drove_the_run_is_not_silence(run: Any, watch: Watch) -> None:
    settings = Alerts(no_improvement_hours=2, utilisation_floor=0)
    good(run, 0, seconds=HOUR)
    run.clock += 50 * HOUR
    good(run, 1, accuracy=0.8, seconds=HOUR)
    assert keys(run, watch, settings) == []


def test_workers_are_idle_only_after_a_whole_window(run: Any, watch: Watch) -> None:
    settings = Alerts(utilisation_window_s=100)
    watch = replace(watch, workers=2)
    good(run, 0, seconds=60)
    assert keys(run, watch, settings, later_s=39) == []
    # 60 of 2 x 100 worker seconds
    assert keys(run, watch, settings, later_s=40) == ["low_utilisation"]


def test_busy_workers_are_not_idle(run: Any, watch: Watch) -> None:
    good(run, 0, seconds=60)
    assert keys(run, watch, Alerts(utilisation_window_s=100), later_s=40) == []


def test_a_resumed_run_has_a_window_before_it_is_called_idle(run: Any, watch: Watch) -> None:
    run.clock += HOUR
    watch = replace(watch, since_utc=run.clock)
    assert keys(run, watch, Alerts(utilisation_window_s=100), later_s=99) == []


def test_similar_candidates_are_told_if_a_floor_is_set(run: Any, watch: Watch) -> None:
    choices = {"width": Values(values=[8, 16]), "activation": Values(values=["relu", "gelu"])}
    watch = replace(watch, choices=choices)
    for number in range(20):
        run.propose(number, width=8 if number < 19 else 16)
    # 19 of 190 pairs differ in one choice: 0.1
    assert keys(run, watch) == []
    assert keys(run, watch, Alerts(diversity_floor=0.09, utilisation_floor=0)) == []
    assert keys(run, watch, Alerts(diversity_floor=0.11, utilisation_floor=0)) == ["low_diversity"]


def test_an_unusable_address_is_named_by_position_and_scheme_only() -> None:
    settings = Alerts(urls=["json://127.0.0.1:9/", "slack://hunter2"])
    with pytest.raises(SpecError) as caught:
        settings.check()
    message = str(caught.value)
    assert "alerts.urls[1]" in message
    assert "'slack'" in message
    assert "hunter2" not in message
    assert "\n" not in message
    assert "hunter2" not in repr(settings)


def test_usable_addresses_pass() -> None:
    Alerts(urls=["json://127.0.0.1:9/", "mailto://user:password@example.org"]).check()


def test_a_static_metric_that_is_missing_is_no_improvement(run: Any, watch: Watch) -> None:
    settings = Alerts(no_improvement_hours=1, utilisation_floor=0)
    run.propose(0)
    event = run.events[-1]
    assert isinstance(event.body, TrialProposed)
    run.history.trials[0] = replace(run.history.trials[0], static={"other": Measurement("other", 1.0)})
    run.train(0, seconds=HOUR)
    assert keys(run, watch, settings) == ["no_improvement"]
