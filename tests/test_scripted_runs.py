"""A user's script through the whole pipeline, with real workers; the script knows nothing of any of it."""

import json
import sys

import psutil
import pytest

from tests import scripts
from tests.real import ROOT, create, session, until, whole
from ziggurat import report, reporting
from ziggurat.domain import Job, JobKind, RunStatus, TrialStatus
from ziggurat.errors import SpecError
from ziggurat.events import candidate_from_plain
from ziggurat.inspection import inspect
from ziggurat.jobs import Desk
from ziggurat.launchers import Local
from ziggurat.launchers.pool import Pool
from ziggurat.runs import write_spec
from ziggurat.spec import parse
from ziggurat.stages.measure import LOOKS


class Elsewhere:
    """A launcher whose machines see other files."""

    kind = "elsewhere"


LOCAL = {"kind": "local", "usd_per_hour": 1.0}


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return scripts.write(tmp_path)


@pytest.fixture
def desk(path, tmp_path):
    """A worker's desk at a run directory of a spec; changes replace whole keys."""

    def sit(**changes):
        raw = scripts.plain(path, **changes)
        folder = tmp_path / "run"
        folder.mkdir()
        write_spec(folder / "spec.yaml", parse(raw, "test"), raw)
        return Desk(folder, "worker")

    return sit


def search(path, **changes):
    return {**scripts.plain(path)["search"], "trainer": scripts.trainer(path, **changes)}


def test_script_goes_through_the_whole_pipeline(path, tmp_path):
    given = search(path, test=scripts.testing(path), profile=scripts.profiling(path))
    objectives = [
        {"metric": "reward", "goal": "maximize", "reference": -50},
        {"metric": "parameters", "reference": 100},
    ]
    validate = {"candidates": 3, "seeds": 2, "proxy": False}
    settings = scripts.plain(path, search=given, objectives=objectives, validate=validate, launcher=LOCAL)
    run = create(tmp_path / "runs", {**settings, "retrain": {"k": 1, "seeds": 1, "epochs": 4}})
    with session(run) as here:
        whole(here)
        here.publish()
        here.write_report(RunStatus.COMPLETED)
        history = run.history
    assert here.status() is RunStatus.COMPLETED
    trials = history.of_stage("search")
    assert {t.status for t in trials} == {TrialStatus.COMPLETED, TrialStatus.STOPPED}
    for trial in trials:
        x = trial.candidate.choices["x"]
        # measured before training, as an objective needs it
        assert trial.value("parameters") == int(10 * x + 1)
        # what no objective needs is known all the same
        assert trial.value("latency_p50_ms") == pytest.approx(1 + x, rel=1e-4)
        assert trial.value("reward", 0) == pytest.approx(-((x - 3) ** 2) - 10, abs=0.01)
    top = [t for t in trials if t.rung == 1]
    assert top
    assert all(
        t.value("reward") == pytest.approx(-((t.candidate.choices["x"] - 3) ** 2) - 10 / 3, abs=0.01)
        for t in top
    )
    (model,) = history.of_stage("retrain")
    assert model.value("test_reward") == pytest.approx(model.value("reward") - 1, abs=1e-3)
    assert run.history.decision("unsealed").facts["looks"] == 1
    assert len((tmp_path / "runs" / LOOKS).read_text().splitlines()) == 1
    assert {s.job.kind for s in history.segments.values()} == {
        JobKind.TRAIN,
        JobKind.PROFILE,
        JobKind.EVALUATE,
    }
    note = history.stages["validate"].summary["note"]
    assert "${data_fraction}" in note
    told = history.decision("forecast")
    assert told.seen > 10, "the forecast waits for the times of validation"
    assert told.facts["search_s"] > 0
    page = (run.folder / "report" / "index.html").read_text()
    assert "Not checked: files for other runtimes" in page
    assert "None training" not in page
    card = json.loads((run.folder / "trials" / f"{model.number:05d}" / "model_card.json").read_text())
    assert card["files"] == []
    assert card["recipe"] == {"kind": "script", "epochs": 4}
    assert card["devices"]["local"]["description"].startswith("the profile command of the script")
    logs = "".join(p.read_text() for p in (run.folder / "logs").glob("*.log"))
    assert "Traceback" not in logs


def test_without_commands_nothing_is_measured_and_nothing_is_pretended(path, tmp_path):
    settings = scripts.plain(path, search={**search(path), "trials": 3}, launcher=LOCAL)
    run = create(tmp_path / "runs", {**settings, "retrain": {"k": 1, "seeds": 1, "epochs": 2}})
    with session(run) as here:
        whole(here)
        facts = reporting.facts(run.folder, run.spec, run.history)
    assert here.status() is RunStatus.COMPLETED
    assert {s.job.kind for s in run.history.segments.values()} == {JobKind.TRAIN}
    assert not (tmp_path / "runs" / LOOKS).exists()
    assert run.history.decision("unsealed") is None
    summary = run.history.stages["measure"].summary
    assert summary["not checked"].startswith("the sealed test part (search.trainer has no test command)")
    preflight = run.history.stages["preflight"].summary
    assert preflight["epoch_s"] > 0, "a dry trial has shown what an epoch takes"
    assert any("not checked" in w for w in preflight["warnings"])
    cards = report.cards(run.spec, run.history, facts)
    (card,) = cards.values()
    assert card["devices"]["local"]["not_measured"]
    text = report.markdown(card) if hasattr(report, "markdown") else json.dumps(card)
    assert "latency, memory and energy" in text


def job(kind=JobKind.TRAIN, x=2.0, to_rung=0, **changes):
    return Job(
        **{
            "key": f"00000-{kind.value}-{to_rung}-0",
            "kind": kind,
            "stage": "search",
            "trial": 0,
            "candidate": candidate_from_plain({"choices": {"x": x, "y": "a"}}),
            "ladder": parse(scripts.plain("a"), "test").ladder(),
            "from_rung": to_rung - 1,
            "to_rung": to_rung,
            "seed": 7,
            **changes,
        }
    )


def test_training_goes_on_from_the_archive_of_the_rung_below(desk, tmp_path):
    here = desk()
    rows = []
    first = here.do(job(), lambda step, found: rows.append(step), lambda _: False)
    second = here.do(
        job(to_rung=1, checkpoint=first.checkpoint), lambda step, found: rows.append(step), lambda _: False
    )
    assert rows == [1, 2, 3], "the script trained three epochs in all, and the first of them once"
    assert (first.checkpoint, second.checkpoint) == ("trials/00000/rung-0.tar", "trials/00000/rung-1.tar")
    assert {m.metric: m.value for m in second.measurements}["reward"] == pytest.approx(-1 - 10 / 3, abs=1e-3)


def test_a_script_that_cannot_resume_trains_every_rung_from_the_beginning(desk, path):
    here = desk(search=search(path, resumes=False))
    rows = []
    first = here.do(job(), lambda step, found: rows.append(step), lambda _: False)
    here.do(job(to_rung=1, checkpoint=first.checkpoint), lambda s, f: rows.append(s), lambda _: False)
    assert rows == [1, 1, 2, 3]


def test_a_worker_of_a_script_does_not_import_torch(desk, monkeypatch):
    here = desk()
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it would fail now
    here.warm()
    assert here.do(job(), lambda *_: None, lambda _: False).measurements


def test_measurements_on_further_devices_carry_their_names(desk, path):
    here = desk(
        search=search(path, profile=scripts.profiling(path)),
        devices=[{"name": "desk"}, {"name": "phone"}],
    )
    found = {}
    for device in ("desk", "phone"):
        key = f"00000-profile-{device}-0"
        outcome = here.do(
            job(JobKind.PROFILE, key=key, device=device, ladder=()), lambda *_: None, lambda _: False
        )
        found |= {m.metric: m for m in outcome.measurements}
    assert {n for n in found if n.startswith("latency")} == {"latency_p50_ms", "latency_p50_ms@phone"}
    assert found["latency_p50_ms@phone"].device == "phone"
    assert found["parameters"].device is None


def test_a_profile_command_that_lacks_what_objectives_need_is_told_so(desk, path):
    command = {**scripts.profiling(path), "metrics": {"energy_mj": "stdout", "parameters": "stdout"}}
    here = desk(
        search=search(path, profile=command),
        objectives=[
            {"metric": "reward", "goal": "maximize", "reference": -50},
            {"metric": "energy_mj", "reference": 100},
        ],
    )
    with pytest.raises(SpecError, match="'local' gives no energy_mj, which the objectives need"):
        here.do(
            job(JobKind.PROFILE, key="00000-profile-local-0", device="local", ladder=()),
            lambda *_: None,
            lambda _: False,
        )


def test_models_of_a_space_are_counted_here_though_a_script_trains_them(desk, path):
    program = ["${python}", "-I", "-S", str(path), "x=2", "epochs=${epochs}", "seed=${seed}"]
    command = [*program, "dir=${checkpoint_dir}", "arch=${arch_file}"]
    here = desk(
        space={"kind": "mlp", "depth": [1], "width": [8, 16], "hyperparameters": {"rate": [0.1, 0.2]}},
        data={"kind": "external", "shape": [4], "classes": 2},
        search={**search(path, command=command), "trials": 2},
        objectives=[
            {"metric": "reward", "goal": "maximize", "reference": -50},
            {"metric": "parameters", "reference": 1000, "limit": 60},
        ],
    )
    found = inspect(here, 2)
    assert [c for c in found["checks"] if c["ok"] is False] == []
    # 4 inputs, 8 units, 2 classes: 4 * 8 + 8 + 8 * 2 + 2 = 58; 16 units would have 114, above the limit
    for probe in found["probes"]:
        assert {m["metric"]: m["value"] for m in probe["static"]}["parameters"] == 58
    candidate = candidate_from_plain(found["probes"][0]["candidate"])
    outcome = here.do(job(candidate=candidate), lambda *_: None, lambda _: False)
    values = {m.metric: m.value for m in outcome.measurements}
    assert {"reward", "parameters", "flops"} <= values.keys()
    given = json.loads(next((here.folder / "trials" / "00000").rglob("arch.json")).read_text())
    assert given["choices"] == dict(candidate.choices)


def test_a_missing_script_fails_the_preflight_here_and_warns_for_other_machines(desk, path):
    here = desk(search=search(path, command=["${python}", "nowhere.py", "${args}"]))
    (bad,) = [c for c in inspect(here, 1)["checks"] if c["ok"] is False]
    assert "search.trainer.command" in bad["text"]
    assert "no script 'nowhere.py'" in bad["text"]
    here.spec = here.spec.model_copy(update={"launcher": Elsewhere()})
    (warning,) = [c for c in inspect(here, 1)["checks"] if c["ok"] is None and "nowhere.py" in c["text"]]
    assert "this machine was looked at" in warning["text"]


def test_chance_and_fingerprint_come_from_the_data_setting(desk, path, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("1")
    here = desk(data={"kind": "external", "path": "data", "chance": {"reward": -40}})
    facts = inspect(here, 1)["facts"]
    assert facts["chance.reward"] == -40
    assert len(facts["fingerprint"]) == 16
    assert "epoch_s" not in facts


def test_a_script_stands_still_with_its_worker_while_something_is_measured(path, tmp_path):
    """What is timed alone must not share the machine with a script that goes on in a group of its own."""
    slow = tmp_path / "slow.py"
    slow.write_text("import time\nprint('reward=1', flush=True)\ntime.sleep(60)\n")
    command = ["${python}", "-I", "-S", str(slow), "${args}", "${epochs}"]
    run = create(tmp_path / "runs", scripts.plain(path, search=search(path, command=command)))
    pool = Pool(Local(), run.folder, 1)
    try:
        until(lambda: pool.free(JobKind.TRAIN), lambda: pool.wait(0.05))
        pool.start(job())
        worker = pool.workers[0]
        (child,) = until(lambda: _children(worker.pid), lambda: pool.wait(0.05))
        worker.pause()
        until(lambda: child.status() == psutil.STATUS_STOPPED)
        worker.proceed()
        until(lambda: child.status() != psutil.STATUS_STOPPED)
    finally:
        pool.close()
        run.close()
    until(lambda: not child.is_running())


def _children(pid):
    return [p for p in psutil.Process(pid).children(recursive=True) if "slow.py" in " ".join(p.cmdline())]
