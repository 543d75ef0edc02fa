"""The rules of alerts, each on a small history with made-up times."""

from typing import Any

import pytest

from tests.listeners.desk import Desk
from ziggurat.choices import Values
from ziggurat.domain import Candidate, FailureKind, Fidelity, Measurement, RunStatus
from ziggurat.events import (
    Amended,
    Decided,
    RunFinished,
    RunStarted,
    SegmentFinished,
    StageFinished,
    StageStarted,
    TrialProposed,
)

HOUR = 3600.0
ON: dict[str, Any] = {}


def good(run: Any, number: int, accuracy: float = 0.9, parameters: float = 500, **more: Any) -> None:
    run.propose(number, parameters=parameters)
    run.train(number, accuracy=accuracy, **more)


@pytest.fixture
def desk(run: Any) -> Desk:
    run.begin()
    return Desk(run)


def test_an_ordinary_run_raises_nothing(run: Any, desk: Desk) -> None:
    good(run, 0)
    assert desk.money(limit=1.0, plan=1.0).keys() == []


@pytest.mark.parametrize(("spent", "due"), [(0.79, []), (0.8, ["budget_warning"])])
def test_the_budget_warning_comes_at_its_share_of_the_limit(
    run: Any, desk: Desk, spent: float, due: list[str]
) -> None:
    good(run, 0, cost_usd=spent)
    assert desk.money(limit=1.0).keys() == due


def test_what_is_expected_beyond_the_limit_is_warned_of_and_over_only_well_below(
    run: Any, desk: Desk
) -> None:
    good(run, 0, cost_usd=0.5)
    assert desk.money(limit=1.0, forecast=0.51).tell() == ["budget_warning"]
    assert "1.01 USD are expected" in desk.run.history.alerts["budget_warning"].text
    assert desk.money(limit=1.0, forecast=0.49).keys() == []  # 0.99 is not far enough below
    assert desk.money(limit=1.0, forecast=0.4).keys() == ["-budget_warning"]


def test_an_added_budget_ends_the_warning_and_may_need_another(run: Any, desk: Desk) -> None:
    good(run, 0, cost_usd=0.9)
    assert desk.money(limit=1.0).tell() == ["budget_warning"]
    assert desk.money(limit=2.0).tell() == ["-budget_warning"]
    good(run, 1, cost_usd=0.8)
    assert desk.money(limit=2.0).tell() == ["budget_warning"]


@pytest.mark.parametrize(("spent", "due"), [(1.2, []), (1.21, ["over_budget"])])
def test_the_plan_may_be_passed_by_a_fifth(run: Any, desk: Desk, spent: float, due: list[str]) -> None:
    good(run, 0, cost_usd=spent)
    assert desk.money(plan=1.0).keys() == due


def test_a_passed_limit_is_critical(run: Any, desk: Desk) -> None:
    good(run, 0, cost_usd=1.1)
    alerts = {a.key: a.severity for a in desk.money(limit=1.0).due()}
    assert alerts == {"over_budget": "critical", "budget_warning": "warning"}


def test_a_stop_by_the_budget_is_over_when_there_is_more(run: Any, desk: Desk) -> None:
    run.add(Decided("budget", "stop", reason="limit", facts={"limit_usd": 1.0}))
    assert desk.tell() == ["budget_stop"]
    run.clock += 10
    run.add(Amended({"retrain.k": 2}))
    assert desk.keys() == []
    run.add(Amended({"budget.limit_usd": 2.0}))
    assert desk.tell() == ["-budget_stop"]
    run.clock += 10
    run.add(Decided("budget", "stop", reason="limit", facts={"limit_usd": 2.0}))
    assert desk.tell() == ["budget_stop"]


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (Decided("gate", "stop", reason="tau"), "gate_stopped"),
        (Decided("subset", "stop", reason="nothing learns"), "gate_stopped"),
        (StageFinished("search", "failed"), "stage_failed/search"),
        (StageFinished("search", "ok"), "stage_finished/search"),
        (StageFinished("search", "stopped_by_budget"), "stage_finished/search"),
        (RunFinished(RunStatus.COMPLETED), "run_finished/completed"),
        (RunFinished(RunStatus.INTERRUPTED), "run_finished/interrupted"),
        (RunFinished(RunStatus.FAILED, "why"), "run_failed"),
    ],
)
def test_what_happens_at_a_moment_is_told_once_and_again_if_it_happens_again(
    run: Any, body: Any, key: str
) -> None:
    run.begin()
    desk = Desk(run, stage_finished=ON, run_finished=ON)
    run.clock += 5
    run.add(body)
    assert desk.tell() == [key]
    run.clock += 100 * HOUR
    assert desk.keys() == []
    if isinstance(body, StageFinished):
        run.add(StageStarted(body.stage))
    run.add(body)
    assert desk.keys() == [key]


def test_a_skipped_stage_is_not_told(run: Any) -> None:
    run.begin()
    run.add(StageFinished("search", "skipped"))
    assert Desk(run, stage_finished=ON).keys() == []


def test_a_weak_proxy_is_told_if_the_run_goes_on(run: Any, desk: Desk) -> None:
    run.add(Decided("gate", "go", facts={"tau": 0.5, "gate_tau": 0.2}))
    assert desk.keys() == []
    run.add(Decided("gate", "overridden", facts={"tau": 0.1, "gate_tau": 0.2}))  # told by who overrides
    assert desk.keys() == []
    run.add(Decided("gate", "go", facts={"tau": 0.1, "gate_tau": 0.2}))
    assert desk.tell() == ["weak_proxy"]
    run.clock += 1
    run.add(Decided("gate", "go", facts={"tau": None, "gate_tau": 0.2}))
    assert desk.keys() == []


def test_a_crash_is_a_second_start_without_an_end_between(run: Any, desk: Desk) -> None:
    again = RunStarted("toy", "0", "", resumed=True)
    run.add(RunFinished(RunStatus.INTERRUPTED))
    run.add(again)
    assert desk.keys() == []
    run.clock += 120
    run.add(again)
    assert desk.tell() == ["controller_crashed/1"]
    assert "resumed after 2 min" in run.history.alerts["controller_crashed/1"].title
    run.clock += 60
    run.add(again)
    assert desk.tell() == ["controller_crashed/2"]
    assert desk.keys() == []


def test_a_crash_that_a_watcher_has_told_is_not_told_again(run: Any, desk: Desk) -> None:
    run.clock += 120
    run.add(RunStarted("toy", "0", "", resumed=True))
    assert desk.see(told_utc=(run.clock - 80,)).keys() == []
    assert desk.see(told_utc=(run.clock - 800,)).keys() == ["controller_crashed/1"]


def test_approval_is_wanted_until_somebody_has_answered(run: Any, desk: Desk) -> None:
    run.add(Decided("approval", "wanted", reason="3 candidates, 12 USD"))
    assert desk.tell() == ["approval_wanted"]
    assert "ziggurat approve RUN" in run.history.alerts["approval_wanted"].text
    assert desk.keys(25 * HOUR) == ["approval_wanted"]
    run.add(Decided("approval", "approved"))
    assert desk.tell() == ["-approval_wanted"]


def test_a_segment_is_slow_beyond_its_factor_and_never_when_young(run: Any) -> None:
    run.begin()
    desk = Desk(run, slow_trial={"at_least_s": 5})
    run.propose(7)
    run.plan(7, forecast_s=10)
    run.propose(8)
    key = run.plan(8, forecast_s=0.1)
    assert desk.keys(4.9) == []
    assert desk.keys(5.1) == ["slow_trial/8"]
    assert desk.keys(20.1) == ["slow_trial/7", "slow_trial/8"]
    run.clock += 6
    assert desk.tell() == ["slow_trial/8"]
    run.add(SegmentFinished(key, 8, 6.0, 0.0))
    assert desk.tell() == ["-slow_trial/8"]


def test_time_in_the_queue_is_not_held_against_a_trial(run: Any) -> None:
    run.begin()
    desk = Desk(run, slow_trial=ON)
    run.propose(1)
    key = run.plan(1, forecast_s=10)
    assert desk.see(elapsed={key: 0.0}).keys(29 * 60) == []
    assert desk.keys(31 * 60) == ["queued_job"]
    run.clock += 31 * 60
    assert desk.tell() == ["queued_job"]
    assert desk.see(elapsed={key: 1.0}).keys() == ["-queued_job"]


def test_failures_matter_from_the_fifth_ended_trial_on_and_are_over_when_others_come_through(
    run: Any, desk: Desk
) -> None:
    good(run, 0)
    for number in (1, 2, 3):
        run.propose(number)
        run.fail(number)
    assert desk.keys() == []
    good(run, 4)
    assert desk.tell() == ["many_failures"]  # 3 of 5
    assert "Trial 3: diverged" in run.history.alerts["many_failures"].text
    good(run, 5)
    good(run, 6)
    assert desk.keys() == []  # 3 of 7 is not far enough below a half
    good(run, 7)
    assert desk.tell() == ["-many_failures"]  # 3 of 8


def test_old_failures_are_forgotten(run: Any) -> None:
    run.begin()
    desk = Desk(run, many_failures={"window": 5})
    for number in range(3):
        run.propose(number)
        run.fail(number)
    for number in range(3, 8):
        good(run, number)
    assert desk.digest.failures() == (0, 0)
    assert desk.keys() == []
    assert desk.digest.failures() == (0, 5)


def test_lost_workers_are_not_held_against_the_trials(run: Any, desk: Desk) -> None:
    for number in range(6):
        run.propose(number)
        run.fail(number, FailureKind.LOST)
    assert desk.keys() == []


def test_silence_is_counted_from_the_last_growth_of_the_front(run: Any) -> None:
    run.begin()
    desk = Desk(run, no_improvement={"hours": 2})
    good(run, 0, seconds=HOUR)
    good(run, 1, accuracy=0.8, seconds=HOUR)  # no better in any objective
    run.propose(2, parameters=100)
    run.plan(2)
    assert desk.keys(HOUR - 1) == []
    assert desk.keys(HOUR + 1) == ["no_improvement"]


def test_growth_ends_the_silence(run: Any) -> None:
    run.begin()
    desk = Desk(run, no_improvement={"hours": 2})
    good(run, 0, seconds=HOUR)
    good(run, 1, accuracy=0.8, seconds=2 * HOUR)
    assert desk.tell() == ["no_improvement"]
    good(run, 2, accuracy=0.8, parameters=100, seconds=HOUR)  # smaller
    assert desk.tell() == ["-no_improvement"]


def test_silence_can_be_counted_in_money(run: Any) -> None:
    run.begin()
    desk = Desk(run, no_improvement={"hours": None, "usd": 3.0})
    good(run, 0, cost_usd=50.0)
    good(run, 1, accuracy=0.8, cost_usd=2.9)
    assert desk.keys() == []
    good(run, 2, accuracy=0.8, cost_usd=0.2)
    assert desk.keys() == ["no_improvement"]


def test_a_trial_outside_the_reference_box_is_no_improvement(run: Any) -> None:
    run.begin()
    desk = Desk(run, no_improvement={"hours": 2})
    good(run, 0, seconds=HOUR)
    good(run, 1, accuracy=0.05, parameters=1, seconds=2 * HOUR)  # accuracy below its reference of 0.1
    assert desk.keys() == ["no_improvement"]


def test_a_static_metric_that_is_missing_is_no_improvement(run: Any) -> None:
    run.begin()
    desk = Desk(run, no_improvement={"hours": 1})
    candidate, other = Candidate({"width": 8}), (Measurement("other", 1.0),)
    run.add(TrialProposed(0, 0, "search", candidate, 0, (Fidelity(3),), static=other))
    run.train(0, seconds=HOUR)
    assert desk.keys() == ["no_improvement"]


@pytest.mark.parametrize("resumed", [True, False])
def test_time_in_which_nobody_drove_the_run_is_not_silence(run: Any, resumed: bool) -> None:
    run.begin()
    desk = Desk(run, no_improvement={"hours": 2}, controller_crashed={"enabled": False})
    good(run, 0, seconds=HOUR)
    if resumed:  # while it was away, a segment seemed to run
        run.propose(1)
        run.plan(1)
    run.clock += 50 * HOUR
    if resumed:
        run.add(RunStarted("toy", "0", "", resumed=True))
    else:
        good(run, 1, accuracy=0.8, seconds=HOUR)
    assert desk.keys() == []


def test_each_round_has_a_front_of_its_own(run: Any) -> None:
    run.add(RunStarted("toy", "0", "", False), StageStarted("coarse"))
    desk = Desk(run, searching=("coarse", "search"), no_improvement={"hours": 2})
    run.propose(0, stage="coarse")
    run.train(0, seconds=3 * HOUR)
    assert desk.keys() == []
    run.add(StageFinished("coarse", "ok"), StageStarted("search"))
    run.propose(1)
    run.train(1, accuracy=0.5, seconds=1.9 * HOUR)  # worse than the first, in a later round
    run.propose(2)
    run.plan(2)
    assert desk.keys(1.9 * HOUR) == []
    assert desk.keys(2.1 * HOUR) == ["no_improvement"]


def test_workers_are_idle_only_after_a_whole_window(run: Any) -> None:
    run.begin()
    desk = Desk(run, idle_workers={"window_s": 100}).see(workers=2)
    good(run, 0, seconds=60)
    assert desk.keys(39) == []
    assert desk.keys(40) == ["idle_workers"]  # 60 of 2 x 100 worker seconds
    assert desk.see(workers=1).keys(40) == []


def test_idle_workers_are_over_when_they_are_well_above_the_floor(run: Any) -> None:
    run.begin()
    desk = Desk(run, idle_workers={"window_s": 100})
    run.clock += 100
    assert desk.tell() == ["idle_workers"]
    good(run, 0, seconds=55)
    assert desk.keys() == []  # 55 %: neither
    good(run, 1, seconds=10)
    assert desk.keys() == ["-idle_workers"]


def test_a_resumed_run_has_a_window_before_anything_is_said(run: Any) -> None:
    run.begin()
    desk = Desk(run, idle_workers={"window_s": 100})
    run.clock += 100
    assert desk.tell() == ["idle_workers"]
    run.clock += HOUR
    again = Desk(run, idle_workers={"window_s": 100}).see(since_utc=run.clock)
    assert again.keys(99) == []
    assert again.keys(100) == []
    good(run, 0, seconds=101)
    assert again.keys() == ["-idle_workers"]


def use(run: Any, number: int, seconds: float, **usage: float) -> None:
    run.propose(number)
    key = run.plan(number)
    run.clock += seconds
    run.add(SegmentFinished(key, number, seconds, 0.0, usage=usage))


def test_low_use_of_gpus_is_told_and_over(run: Any) -> None:
    run.begin()
    desk = Desk(run, low_utilisation={"window_s": 100})
    use(run, 0, 99, gpu_utilisation=0.4, cpu_utilisation=0.9)
    assert desk.keys() == []  # not yet a whole window
    use(run, 1, 2, gpu_utilisation=0.4, cpu_utilisation=0.9)
    assert desk.tell() == ["low_utilisation"]
    assert "40% of their GPUs" in run.history.alerts["low_utilisation"].title
    use(run, 2, 90, gpu_utilisation=0.55)
    assert desk.keys() == []
    use(run, 3, 90, gpu_utilisation=0.9)
    assert desk.keys() == ["-low_utilisation"]


def test_processors_count_where_there_is_no_gpu_and_only_there(run: Any) -> None:
    run.begin()
    desk = Desk(run, low_utilisation={"window_s": 100})
    use(run, 0, 101, cpu_utilisation=0.3)
    assert desk.keys() == ["low_utilisation"]
    assert desk.see(gpus=True).keys() == []


def test_a_running_training_that_stalls_is_noticed_while_it_runs(run: Any) -> None:
    run.begin()
    desk = Desk(run, low_utilisation={"window_s": 100})
    run.propose(0)
    key = run.plan(0)
    desk.keys()
    begun, busy_s = run.clock, 0.0
    found = []
    for second in range(10, 1010, 10):  # busy for 800 s, then hardly
        busy_s += 9.0 if second <= 800 else 1.0
        usage = {key: {"gpu_utilisation": busy_s / second}}
        desk.digest.sample(begun + second, usage, {key: second})
        found += [(second, k) for k in desk.keys(second)]
    first = next(second for second, _ in found)
    assert 840 <= first <= 870  # half of the window's 100 s


def test_what_cannot_be_read_is_said_once(run: Any) -> None:
    run.begin()
    desk = Desk(run, unknown_utilisation=ON)
    for number in range(3):
        assert desk.keys() == []
        use(run, number, 5)
    assert desk.tell() == ["unknown_utilisation"]
    assert run.history.alerts["unknown_utilisation"].severity == "info"
    use(run, 3, 5)
    assert desk.keys() == []


def test_gpus_that_cannot_be_read_are_missed_even_if_processors_can(run: Any) -> None:
    run.begin()
    desk = Desk(run, unknown_utilisation=ON).see(gpus=True)
    for number in range(3):
        use(run, number, 5, cpu_utilisation=0.1)
    assert desk.keys() == ["unknown_utilisation"]
    assert "GPUs" in desk.due()[0].title


CHOICES = {f"c{i}": Values(values=[0, 1, 2, 3]) for i in range(8)}


def alike(run: Any, first: int, count: int, spread: int) -> None:
    """Candidates that differ in their first choices."""
    for number in range(first, first + count):
        values = {name: (number % 4 if i < spread else 0) for i, name in enumerate(CHOICES)}
        run.add(TrialProposed(number, number, "search", Candidate(values), number, (Fidelity(3),)))


def test_candidates_that_are_alike_are_told_by_default(run: Any) -> None:
    run.begin()
    desk = Desk(run, CHOICES)
    alike(run, 0, 20, spread=8)
    assert desk.keys() == []
    alike(run, 20, 20, spread=1)  # 0.79 choices; random ones differ in 6
    assert desk.tell() == ["low_diversity"]
    assert "differ in 0.79 choices" in run.history.alerts["low_diversity"].title
    alike(run, 40, 20, spread=8)
    assert desk.tell() == ["-low_diversity"]


def test_the_distance_itself_may_be_the_threshold(run: Any) -> None:
    run.begin()
    alike(run, 0, 20, spread=2)  # 1.58 choices
    assert Desk(run, CHOICES, low_diversity={"distance": 1.5}).keys() == []
    assert Desk(run, CHOICES, low_diversity={"distance": 1.6}).keys() == ["low_diversity"]


def test_a_store_and_a_tracking_server_that_are_away(run: Any, desk: Desk) -> None:
    assert desk.see(store_down=True).tell() == ["store_down"]
    assert desk.see(store_down=False).tell() == ["-store_down"]
    assert desk.see(tracking_down_s=299.0).keys() == []
    assert desk.see(tracking_down_s=301.0).tell() == ["tracking_down"]
    assert desk.see(tracking_down_s=None).keys() == []  # after a resume nobody knows yet
    assert desk.see(tracking_down_s=0.0).keys() == ["-tracking_down"]


def test_a_digest_that_reads_the_journal_later_says_the_same(run: Any) -> None:
    run.begin()
    desk = Desk(run, CHOICES, no_improvement={"hours": 1}, slow_trial=ON)
    for number in range(6):
        run.propose(number, rungs=2, parameters=900 - number)
        run.train(number, rung=0, accuracy=0.5 + number / 20)
        if number % 2:
            run.train(number, rung=1, accuracy=0.6)
        desk.tell()
    later = Desk(run, CHOICES, no_improvement={"hours": 1}, slow_trial=ON)
    for event in run.events:  # with a history that is ahead of it
        later.digest(event, run.history)
    assert later.digest.quiet("search", run.clock) == pytest.approx(desk.digest.quiet("search", run.clock))
    assert later.digest.failures() == desk.digest.failures()
    assert later.digest.likeness("search") == desk.digest.likeness("search")
    assert later.digest.standing == desk.digest.standing
