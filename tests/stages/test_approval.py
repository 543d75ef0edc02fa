"""The question for an approval and its answers, without Prefect and without machines."""

import json

import pytest

from tests.searched import searched, settings
from ziggurat import amended, runs
from ziggurat.domain import RunStatus
from ziggurat.errors import SpecError
from ziggurat.runs import Interrupted
from ziggurat.stages import answering, approval
from ziggurat.stages.answering import Answer


class Sitting:
    """Stands for the engine while nothing runs: time passes only when the wait lets it."""

    def __init__(self, run, *steps):
        self.run, self.steps, self.rested = run, list(steps), 0
        self.now = run.clock()
        run.clock = lambda: self.now

    def rest(self):
        self.rested += 1

    def attend(self, seconds):
        assert self.steps, "waits for ever"
        self.steps.pop(0)()
        self.run.check_stop()


class Tray:
    """A desk where answers are laid out, and what it was told."""

    def __init__(self, *answers):
        self.laid, self.told = list(answers), []

    def ask(self, question):
        self.told.append(question.title)

    def answers(self):
        return self.laid

    def refuse(self, answer, problem):
        self.told.append(problem)

    def close(self, answer):
        self.told.append(answer)


@pytest.fixture
def run(tmp_path):
    taken = searched(tmp_path, retrain=settings(), budget={"limit_usd": 2.0})
    yield taken
    taken.close()


def verdicts(run):
    return [d.verdict for d in run.history.decisions if d.kind == "approval"]


def test_nobody_is_asked_unless_that_is_wanted(tmp_path):
    taken = searched(tmp_path)
    approval.approve(Sitting(taken), [Tray()])
    assert verdicts(taken) == []
    taken.close()


def test_the_question_names_those_that_would_be_retrained_first(run):
    asked = approval.question(run.spec, run.history, "here")
    assert [row.trial for row in asked.rows if row.picked] == [row.trial for row in asked.rows][:2]
    assert {row.trial for row in asked.rows} == {0, 1, 2}, "the front, without what another dominates"
    assert asked.numbers == (0, 1, 2, 3)
    assert asked.title.startswith("Retrain 2 of 4 candidates with 2 seeds each")
    assert "| 1 | " in asked.table()


def test_an_answer_amends_the_run_and_nothing_is_held_meanwhile(run):
    tray = Tray(Answer(True, k=1, drop=(1,), add_usd=0.5, comment="small ones", who="Ada", how="desk"))
    here = Sitting(run)
    approval.approve(here, [tray])
    assert here.rested == 1
    assert verdicts(run) == ["wanted", "approved"]
    assert run.history.decisions[-1].reason == "approved by Ada (desk): small ones"
    assert (run.spec.retrain.k, amended.dropped(run.history), run.limit_usd) == (1, {1}, 2.5)
    assert tray.told[-1].who == "Ada"
    assert runs.look(run.folder)[0].retrain.k == 1, "whoever reads the run sees the same"


def test_the_amendment_is_journalled_before_the_decision_that_acts_on_it(run):
    approval.approve(Sitting(run), [Tray(Answer(True, k=1))])
    lines = [json.loads(line) for line in (run.folder / "journal.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines[-2:]] == ["amended", "decision"]


def test_an_answer_left_by_the_command_is_found(run):
    left = Answer(True, who="Ada", how="ziggurat approve")
    approval.approve(Sitting(run, lambda: answering.leave(left, run.folder, None)))
    assert run.history.decisions[-1].facts["key"] == left.key


def test_an_answer_counts_once(run):
    """The file stays where it is; a second question needs a second answer."""
    left = Answer(True)
    answering.leave(left, run.folder, None)
    approval.approve(Sitting(run))
    run.history.decisions.append(approval._decided(run.history, approval.EXPIRED, "", {"go": False}))
    new = Answer(False, comment="not again")
    approval.approve(Sitting(run, lambda: answering.leave(new, run.folder, None)))
    assert verdicts(run) == ["wanted", "approved", "expired", "wanted", "rejected"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(True, drop=(99,)), "drop: trial 99 is no candidate; the candidates are 0, 1, 2, 3"),
        (Answer(True, drop=(0, 1, 2, 3)), "drop: no candidate is left; drop fewer, or reject"),
        (Answer(True, k=4, drop=(0,)), "k: 4 is more than the 3 that are left; lower it to at most 3"),
    ],
)
def test_an_answer_that_cannot_be_used_is_asked_for_again(run, answer, problem):
    tray = Tray(answer)
    approval.approve(Sitting(run, lambda: tray.laid.append(Answer(True, who="Ada"))), [tray])
    assert tray.told[1] == problem
    assert verdicts(run) == ["wanted", "approved"]


def test_money_cannot_be_added_to_a_run_without_a_limit(tmp_path):
    taken = searched(tmp_path, retrain=settings())
    asked = approval.question(taken.spec, taken.history, "here")
    assert asked.problem(Answer(True, add_usd=1.0)).startswith("add_usd: the run has no limit")
    assert asked.problem(Answer(False, add_usd=1.0)) == ""
    taken.close()


def test_a_rejection_is_final_and_says_who(run):
    approval.approve(Sitting(run), [Tray(Answer(False, who="Ada", how="desk", comment="too dear"))])
    assert approval.refusal(run.history) == "rejected by Ada (desk): too dear"
    assert not approval.due(run)
    assert run.spec.retrain.k == 2, "a rejection changes nothing"


def late(here):
    def step():
        here.now += 3600 * 80

    return step


def test_without_an_answer_in_time_the_run_stops_and_asks_again(run):
    here = Sitting(run)
    here.steps = [late(here)]
    with pytest.raises(Interrupted, match="nobody approved within 72 h"):
        approval.approve(here, [tray := Tray()])
    assert tray.told[-1] is None
    assert verdicts(run) == ["wanted", "expired"]
    assert approval.due(run)
    approval.approve(Sitting(run), [Tray(Answer(True))])
    assert verdicts(run)[-1] == "approved"


def test_without_an_answer_in_time_the_run_goes_on_if_that_was_said(tmp_path):
    taken = searched(tmp_path, retrain=settings({"on_timeout": "go", "timeout_hours": 1}))
    here = Sitting(taken)
    here.steps = [late(here)]
    approval.approve(here)
    assert verdicts(taken) == ["wanted", "expired"]
    assert not approval.due(taken)
    assert approval.refusal(taken.history) == ""
    taken.close()


def test_an_interrupted_wait_is_resumed_and_asks_again(run):
    with pytest.raises(Interrupted):
        approval.approve(Sitting(run, run.stop.set))
    run.finish(RunStatus.INTERRUPTED, "stopped on request")
    run.close()
    again = runs.open_run(run.folder)
    approval.approve(Sitting(again), [Tray(Answer(True))])
    assert verdicts(again) == ["wanted", "wanted", "approved"]
    again.close()


def test_a_dropped_candidate_is_not_picked_later(run):
    approval.approve(Sitting(run), [Tray(Answer(True, drop=(0,)))])
    asked = approval.question(run.spec, run.history, "here")
    assert 0 not in asked.numbers
    assert all(row.trial != 0 for row in asked.rows)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "is no JSON"),
        ("[]", "should be a valid dictionary"),
        ('{"approve": true, "kk": 1}', "kk: Extra inputs"),
        ('{"approve": true, "k": 0}', "k: Input should be greater than or equal to 1"),
        ('{"k": 1}', "approve: Field required"),
    ],
)
def test_a_file_that_holds_no_answer_is_one_line_and_no_answer(run, text, what, caplog):
    (run.folder / answering.FILE).write_text(text)
    drawer = answering.Drawer(run.folder, None)
    assert drawer.answers() == drawer.answers() == []
    assert len(caplog.records) == 1, "said once"
    assert what in caplog.text
    with pytest.raises(SpecError, match=r"^[^\n]*$"):
        answering.read(text.encode())


def test_a_file_written_by_hand_needs_no_key():
    one, two = answering.read(b'{"approve": true}'), answering.read(b'{"approve": true, "k": 2}')
    assert one.key != two.key
    assert one.key == answering.read(b'{"approve": true}').key
