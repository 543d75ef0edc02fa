"""A user's script that fails for some candidates, or for all: what a run makes of it, and what it spends."""

import pytest

from tests import scripts
from tests.real import ROOT, create, session
from ziggurat import stages
from ziggurat.domain import Candidate, FailureKind, TrialStatus
from ziggurat.errors import CallFailed, StageFailed
from ziggurat.events import to_plain
from ziggurat.inspection import Check
from ziggurat.stages.script_trial import try_script

FAULTY = """
import os, sys

given = dict(a.split("=", 1) for a in sys.argv[2:])
if sys.argv[1] == "always" or (sys.argv[1] == "resumed" and "resume" in given):
    sys.exit("no such file: data.npz")
open(os.path.join(given["dir"], "state"), "w").close()
for epoch in range(int(given["epochs"])):
    print("epoch %d reward=%s" % (epoch + 1, given["x"]))
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = tmp_path / "faulty.py"
    found.write_text(FAULTY, encoding="utf-8")
    return found


def settings(path, mode, **changes):
    words = ["${args_no_hyphens}", "epochs=${epochs}", "dir=${checkpoint_dir}"]
    trainer = scripts.trainer(path, command=["${python}", "-I", "-S", str(path), mode, *words])
    search = {
        **scripts.plain(path)["search"],
        "stopper": {"kind": "never"},
        "trainer": trainer,
        "trials": 3,
        "workers": 1,
    }
    launcher = {"kind": "local", "usd_per_hour": 1.0}
    return {**scripts.plain(path, search=search, launcher=launcher), "retrain": {"enabled": False}, **changes}


class Trying:
    """An engine whose service trains some candidates, and says how it fails for the others."""

    def __init__(self, spec, **failures):
        self.failures, self.asked = failures, []
        self.run = type(
            "Run", (), {"spec": spec, "mark": "mark-mark", "history": type("H", (), {"length": 7})}
        )

    def call(self, job, timeout_s):
        name = str(job.candidate.choices["y"])
        self.asked.append((job.key, name))
        if name in self.failures:
            raise CallFailed(*self.failures[name])
        return {"train_s": 2.0}


def tried(path, **failures):
    from ziggurat.spec import parse

    engine = Trying(parse(scripts.plain(path), "test"), **failures)
    found = {
        "facts": {},
        "probes": [
            {"candidate": to_plain(Candidate({"x": 1.0, "y": name}))} for name in ("a", "b", "c", "d")
        ],
    }
    return try_script(engine, found), found["facts"], engine.asked


def test_one_candidate_that_is_trained_shows_that_the_script_works(path):
    why = "trainer.metrics.reward: too large (log: trials/service/logs/x.log)"
    checks, facts, asked = tried(path, a=(FailureKind.USER_ERROR.value, why))
    assert [c.ok for c in checks] == [None, True]
    assert checks[0] == Check(
        "search.trainer", None, "a dry trial with x=1.0, y=a failed: search.trainer.metrics.reward: too large"
    )
    assert facts["epoch_s"] == 2.0
    assert [name for _, name in asked] == ["a", "b"]
    assert len({key for key, _ in asked}) == 2


def test_a_script_that_trains_none_of_three_is_refused_with_the_first_reason(path):
    every = {name: (FailureKind.NO_METRIC.value, f"nothing from {name}") for name in "abcd"}
    checks, facts, asked = tried(path, **every)
    (check,) = checks
    assert check.ok is False
    assert check.text.endswith("y=a failed: nothing from a")
    assert len(asked) == 3
    assert facts == {}


def test_machines_that_take_no_job_are_asked_once(path):
    checks, _, asked = tried(path, a=(FailureKind.LOST.value, "not taken by the scheduler: no queue"))
    assert [c.ok for c in checks] == [False]
    assert len(asked) == 1


def test_probes_end_once_it_is_certain_that_too_many_fail(path, tmp_path):
    validate = {"candidates": 4, "seeds": 2, "max_failures": 0.5}
    run = create(tmp_path / "runs", settings(path, "always", validate=validate))
    with session(run) as here:
        stages.preflight(here.engine)
        with pytest.raises(
            StageFailed, match=r"of the probes fail, the last with: .*no such file: data\.npz"
        ):
            stages.validate(here.engine)
        failed = run.history.with_status("validate", TrialStatus.FAILED)
        segments = len(run.history.segments)
    assert len(failed) == 5, "one more than half of 4 candidates with 2 seeds each"
    assert segments == 5
    logs = "".join(p.read_text() for p in (run.folder / "logs").glob("*.log"))
    assert "Traceback" not in logs, "what a script has said is in its own log"


def test_a_script_that_cannot_resume_what_it_has_saved_is_found_out_before_the_search(path, tmp_path):
    validate = {"candidates": 3, "seeds": 1, "max_failures": 0.5, "max_share": 1.0}
    run = create(tmp_path / "runs", settings(path, "resumed", validate=validate))
    with session(run) as here:
        stages.preflight(here.engine)
        with pytest.raises(StageFailed, match="2 of 3 probes fail on the way to the top rung"):
            stages.validate(here.engine)
        assert run.history.decision("gate").verdict == "stop"
        assert run.history.decision("subset").verdict == "go"


def test_a_search_in_which_all_fail_says_with_what(path, tmp_path):
    run = create(tmp_path / "runs", settings(path, "resumed"))
    with session(run) as here:
        stages.preflight(here.engine)
        stages.validate(here.engine)
        with pytest.raises(
            StageFailed, match=r"3 of 3 failed, the last was trial 2 with: the script ended with exit code 1"
        ):
            stages.search(here.engine)
