"""`ziggurat approve` and `ziggurat retrain` as a user meets them: what they leave, and what they refuse."""

import json

import pytest

from flows import cli
from tests.searched import searched, settings
from ziggurat import runs
from ziggurat.events import Decided
from ziggurat.stages import answering, approval
from ziggurat.stores import open_url


@pytest.fixture
def waiting(tmp_path):
    """The directory of a run that waits for an approval."""
    run = searched(tmp_path, retrain=settings(), budget={"limit_usd": 2.0})
    run.record([Decided("approval", "wanted", reason="Retrain 2 of 4 candidates?")])
    run.close()
    return run.folder


def said(capsys, *words):
    code = cli.guarded(lambda: cli.app(list(words), standalone_mode=False))
    out = capsys.readouterr()
    return code, out.out, out.err


def left(folder):
    return answering.read((folder / answering.FILE).read_bytes())


def test_the_question_is_shown_and_nothing_is_left(waiting, capsys):
    code, out, _ = said(capsys, "approve", str(waiting), "--show")
    assert code == 0
    assert "Retrain 2 of 4 candidates with 2 seeds each" in out
    assert "| trial | retrain | val_accuracy | parameters |" in out
    assert not (waiting / answering.FILE).exists()


def test_an_answer_is_left_whole(waiting, capsys):
    words = ["--k", "1", "--drop", "3,1", "--add-usd", "0.5", "--comment", "small ones"]
    code, out, _ = said(capsys, "approve", str(waiting), *words)
    assert code == 0
    assert out.startswith("approved")
    found = left(waiting)
    assert (found.approve, found.k, found.drop, found.add_usd) == (True, 1, (3, 1), 0.5)
    assert found.how == "ziggurat approve"
    assert "@" in found.who


def test_a_rejection_is_left_and_printed_as_json(waiting, capsys):
    code, out, _ = said(capsys, "approve", str(waiting), "--reject", "--json")
    assert code == 0
    assert json.loads(out)["approve"] is left(waiting).approve is False


def test_an_answer_reaches_a_run_in_its_store(tmp_path, capsys):
    place = tmp_path / "store"
    run = searched(tmp_path, retrain=settings(), store=str(place))
    run.record([Decided("approval", "wanted", reason="?")])
    url = run.store.url
    run.mirror.flush()
    assert said(capsys, "approve", url, "--k", "1")[0] == 0
    assert open_url(url).get(answering.FILE) is not None
    assert [a.k for a in answering.Drawer(run.folder, run.store).answers()] == [1]
    run.close()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--drop", "99"], "--drop: trial 99 is no candidate; the candidates are 0, 1, 2, 3"),
        (["--drop", "x"], "--drop x: is no trial number; write such as --drop 3,7"),
        (["--drop", "0,1,2,3"], "--drop: no candidate is left"),
        (["--k", "9"], "--k: 9 is more than the 4 that are left"),
        (["--k", "0"], "Invalid value for '--k'"),
        (["--add-usd", "-1"], "Invalid value for '--add-usd'"),
        (["--reject", "--k", "2"], "--reject: nothing is retrained then"),
        (["--yes"], "No such option"),
    ],
)
def test_an_answer_that_does_not_fit_is_one_line_and_leaves_nothing(waiting, capsys, words, error):
    code, _, err = said(capsys, "approve", str(waiting), *words)
    assert code == cli.Exit.BAD_INPUT
    assert error in err
    assert len(err.splitlines()) == 1
    assert not (waiting / answering.FILE).exists()


def test_a_run_that_waits_for_nothing_takes_no_answer(tmp_path, capsys):
    for name, changes, words in [
        ("none", {}, "needs no approval"),
        ("soon", {"retrain": settings()}, "does not wait for an approval yet"),
    ]:
        run = searched(tmp_path / name, **changes)
        run.close()
        code, _, err = said(capsys, "approve", str(run.folder))
        assert (code, words in err) == (cli.Exit.BAD_INPUT, True), err
    assert said(capsys, "approve", str(tmp_path / "nothing"))[0] == cli.Exit.BAD_INPUT


def test_an_answered_run_says_who_has_answered(waiting, capsys):
    run = runs.open_run(waiting)
    run.record([approval._decided(run.history, "rejected", "rejected by Ada (Prefect)", {})])
    run.close()
    code, _, err = said(capsys, "approve", str(waiting))
    assert (code, "rejected by Ada (Prefect)" in err) == (cli.Exit.BAD_INPUT, True)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--trials", "9"], "--trials 9: is no trial that can be retrained"),
        (["--trials", "a,b"], "--trials a: is no trial number"),
        (["--k", "5"], "--k 5: only 4 trials can be retrained"),
        (["--k", "1001"], "Invalid value for '--k'"),
    ],
)
def test_a_retraining_that_cannot_be_is_refused_before_the_run_is_taken(waiting, capsys, words, error):
    before = (waiting / "journal.jsonl").read_bytes()
    code, _, err = said(capsys, "retrain", str(waiting), *words)
    assert (code, error in err) == (cli.Exit.BAD_INPUT, True), err
    assert (waiting / "journal.jsonl").read_bytes() == before


def test_measuring_needs_a_retrained_model(waiting, capsys):
    code, _, err = said(capsys, "measure", str(waiting))
    assert (code, "no model is retrained yet" in err) == (cli.Exit.BAD_INPUT, True)
