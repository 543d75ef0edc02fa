"""Which cheap setting a search begins with: the cheapest that proves itself; and overridden verdicts."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.real import create, events, plain, session, use_models
from tests.support import CHOICES, Story
from ziggurat import choices, proxies, spec, stages
from ziggurat.domain import Fidelity, Measurement
from ziggurat.events import Decided, Measured
from ziggurat.history import fold
from ziggurat.plan import Step
from ziggurat.stages import proxy, verdicts
from ziggurat.stages.proxy_words import Agreement

LADDER = [{"epochs": 4}, {"epochs": 12}]
N = 10
TOP = np.linspace(0.5, 0.9, N)
NOISE = np.array([7, 2, 9, 4, 0, 5, 1, 8, 3, 6]) / 10


def parsed(**validate):
    return spec.parse(
        plain(fidelities=LADDER, validate={"enabled": True, "candidates": N, **validate}), "test"
    )


class Climbed:
    """Candidates that have climbed to the top, with what they reached; nothing can be trained."""

    def __init__(self, settings, curve, blocked=""):
        self.story = Story(ladder=settings.ladder(), stage=proxy.PROXY)
        self.story.add(Decided("climbers", str(N)))
        self.trained, self.blocked = [], blocked
        for index in range(N):
            number = self.story.propose(choices.sample(CHOICES, np.random.default_rng(index)))
            for epoch in sorted(curve):
                row = (Measurement("val_accuracy", float(curve[epoch][index]), step=epoch),)
                self.story.add(Measured("job", number, 0, epoch, row))
            self.story.finish(number, val_accuracy=float(curve[4][index]))
            self.story.verdict(number, "continue")
            self.story.finish(number, val_accuracy=float(TOP[index]))
        self.run = SimpleNamespace(spec=settings, history=self.story.history, record=self.record)

    def record(self, bodies):
        for body in list(bodies):
            self.story.add(body)

    def drive(self, planner, stage, *, reserve):
        del planner, stage, reserve
        waiting = [t for t in self.story.history.of_stage(proxy.PROXY) if t.rung < 0]
        self.trained += [t.ladder[0] for t in waiting if t.number not in self.trained]
        return Step(done=True, blocked=self.blocked)

    def judge(self, step=None):
        return proxy._Comparison(self, N, step or Step(done=True)).judged()

    def decided(self, kind):
        return self.story.history.decision(kind)


def test_the_cheapest_setting_that_proves_itself_is_chosen_and_none_after_it_is_tried():
    settings = parsed(proxies=[{"epochs": 3}, {"epochs": 2}, {"epochs": 1}])
    here = Climbed(settings, {1: NOISE, 2: TOP + 0.01 * NOISE, 3: TOP, 4: TOP})
    here.judge()
    choice, gate = here.decided(proxies.DECISION), here.decided("gate")
    assert (choice.verdict, choice.facts["epochs"], choice.facts["data_fraction"]) == ("chosen", 2, 1.0)
    assert [text.partition(":")[0] for text in choice.facts["tried"]] == ["1 epoch", "2 epochs"]
    assert (gate.verdict, gate.facts["tau"]) == ("go", 1.0)
    assert "at 50% of the cost" in choice.reason
    assert "so, let fidelities begin with {epochs: 2}" in choice.reason
    assert proxies.ladder(settings, here.story.history) == (Fidelity(2), Fidelity(12))


def test_where_none_proves_itself_the_specs_own_is_kept():
    here = Climbed(parsed(proxies=[{"epochs": 1}]), {1: NOISE, 4: TOP + 0.6 * NOISE})
    here.judge()
    assert here.decided(proxies.DECISION).verdict == "kept"
    assert here.decided("gate").verdict == "go"
    assert proxies.ladder(here.run.spec, here.story.history) == here.run.spec.ladder()


def test_a_dearer_setting_takes_over_from_a_lowest_rung_that_is_refuted():
    here = Climbed(parsed(proxies=[{"epochs": 8}, {"epochs": 1}]), {1: NOISE, 4: -TOP, 8: TOP})
    here.judge()
    assert (here.decided(proxies.DECISION).verdict, here.decided(proxies.DECISION).facts["epochs"]) == (
        "chosen",
        8,
    )
    assert here.decided("gate").verdict == "go"


def test_a_lowest_rung_that_is_refuted_and_nothing_else_stops():
    here = Climbed(parsed(proxies=[{"epochs": 1}]), {1: NOISE, 4: -TOP})
    here.judge()
    assert here.decided(proxies.DECISION) is None
    gate = here.decided("gate")
    assert (gate.verdict, gate.facts["tau"]) == ("stop", -1.0)
    assert "raise the lowest rung in fidelities" in gate.reason


def test_an_override_lets_it_go_on_is_kept_and_raises_an_alert():
    words = "the top rung is known to be noise"
    here = Climbed(parsed(override=words), {4: -TOP})
    here.judge()
    gate = here.decided("gate")
    assert (gate.verdict, gate.facts["override"]) == ("overridden", words)
    assert gate.reason.endswith(f"overridden by validate.override: {words}")
    assert verdicts.objection(here) is None
    (alert,) = here.story.history.alerts.values()
    assert (alert.key, alert.severity, alert.rule) == ("overridden/gate", "warning", "overridden")
    assert words in alert.text


def test_an_override_of_nothing_is_not_mentioned():
    here = Climbed(parsed(override="we know what we do"), {4: TOP})
    here.judge()
    assert here.decided("gate").verdict == "go"
    assert not here.story.history.alerts


def test_settings_that_are_no_beginning_of_the_climb_are_trained_with_the_same_seeds():
    here = Climbed(parsed(proxies=[{"epochs": 4, "data_fraction": 0.5}]), {4: TOP})
    here.judge()
    cheap = [t for t in here.story.history.of_stage(proxy.PROXY) if t.ladder[0] == Fidelity(4, 0.5)]
    climbed = here.story.history.of_stage(proxy.PROXY)[:N]
    assert len(cheap) == N
    assert [t.seed for t in cheap] == [t.seed for t in climbed]
    assert {t.ladder[-1] for t in cheap} == {Fidelity(12)}  # so that the learning rate falls as in the search
    again = here.story.history.of_stage(proxy.PROXY)[2 * N :]
    assert not {t.seed for t in again} & {t.seed for t in climbed}


def test_a_setting_that_fails_for_some_proves_nothing():
    curve = {2: TOP.copy(), 4: TOP}
    curve[2][0] = np.nan
    here = Climbed(parsed(proxies=[{"epochs": 2}]), curve)
    here.judge()
    assert here.decided(proxies.DECISION).verdict == "kept"
    assert "2 epochs: fails for 1 of 10 candidates" in here.decided(proxies.DECISION).reason


def test_without_money_settings_are_left_out_and_that_is_told():
    here = Climbed(parsed(proxies=[{"epochs": 4, "data_fraction": 0.5}]), {4: TOP})
    step, _ = here.judge(Step(done=True, blocked="the budget is used up"))
    assert step.blocked
    assert "not tried (the budget is used up)" in here.decided(proxies.DECISION).reason
    assert not here.trained


def test_a_setting_needs_more_than_an_estimate_and_the_specs_own_only_no_disproof():
    unsure = Agreement(0.6, 0.1, 0.9, 6)
    assert not unsure.proves(0.2)
    assert not unsure.refutes(0.2)
    assert Agreement(0.6, 0.2, 0.9, 6).proves(0.2)
    assert Agreement(-0.6, -0.9, 0.1, 6).refutes(0.2)
    assert not Agreement(float("nan"), 0.5, 1.0, 6).proves(0.2)


def test_what_is_tried_counts_into_what_can_be_afforded():
    assert proxies.compared(parsed()) == 0
    # 1 and 2 epochs lie on the way; the same on half of the data do not; seeds repeat the dearest
    assert proxies.compared(parsed(proxies=[{"epochs": 1}, {"epochs": 2}])) == 4
    assert proxies.compared(parsed(proxies=[{"epochs": 4, "data_fraction": 0.5}, {"epochs": 2}])) == 2 + 4


@pytest.mark.slow
def test_a_search_begins_with_the_setting_that_was_chosen(tmp_path, monkeypatch):
    use_models(tmp_path, monkeypatch)
    validate = {
        "candidates": 3, "seeds": 1, "max_share": 1.0, "gate_tau": -1.0,  # every setting proves itself
        "proxies": [{"epochs": 1, "data_fraction": 0.25}, {"epochs": 1}],
    }  # fmt: skip
    ladder = [{"epochs": 2}, {"epochs": 3}]
    search = {"searcher": {"kind": "sobol"}, "trials": 3, "workers": 2}
    settings = plain(validate=validate, fidelities=ladder, search=search, retrain={"enabled": False})
    with session(create(tmp_path / "runs", settings)) as here:
        for stage in (stages.preflight, stages.validate, stages.search):
            stage(here.engine)
        history, folder = here.run.history, here.run.folder
    begun = (Fidelity(1, 0.25), Fidelity(3))
    assert {t.ladder for t in history.of_stage("search")} == {begun}
    assert {t.rung for t in history.of_stage("search")} == {1}
    probes = history.of_stage(proxy.PROXY)
    assert [t.rung for t in probes] == [1] * 3 + [0] * 6  # climbers; the first setting, and with other seeds
    assert {t.ladder for t in probes[3:]} == {begun}
    assert proxies.ladder(here.run.spec, fold(events(folder))) == begun


@pytest.mark.slow
def test_data_that_nothing_can_learn_from_is_searched_if_the_spec_says_why(tmp_path, monkeypatch):
    use_models(tmp_path, monkeypatch)
    settings = plain(
        data={"kind": "python", "function": "user_models:shuffled"},
        validate={
            "candidates": 3, "seeds": 1, "subset": 0.3, "proxy": False, "override": "only machines tested",
        },
        search={"trials": 3, "workers": 2},
    )  # fmt: skip
    with session(create(tmp_path / "runs", settings)) as here:
        stages.preflight(here.engine)
        stages.validate(here.engine)
        history = here.run.history
    decided = history.decision("subset")
    assert decided.verdict == "overridden"
    assert decided.reason.startswith("nothing learns on the subset")
    assert history.stages["validate"].verdict == "ok"
    assert "overridden" in [a.rule for a in history.alerts.values()]
