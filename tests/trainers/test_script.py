"""A script is called as the spec says, its checkpoint goes from rung to rung, and what it tells is known."""

import json
import sys
import tarfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.trainers.scripts import Bench, by_name, job
from ziggurat import spec
from ziggurat.domain import Candidate, FailureKind, JobKind
from ziggurat.errors import SpecError
from ziggurat.trainers import Script, StopTraining, TrainingFailed

PRINTS = "print('val_accuracy=0.5')"
SHOWS = """
    import json, os, sys
    own = {k: v for k, v in os.environ.items() if k.startswith("ZIGGURAT_")}
    seen = [sys.argv[1:], own, os.getcwd(), os.environ.get("DATA")]
    json.dump(seen, open(os.environ["ZIGGURAT_OUTPUT_DIR"] + "/seen.json", "w"))
    print("val_accuracy=0.5")
"""
COUNTS = """
    import os, signal, sys, time
    folder, epochs, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    begun = int(open(resume[0]).read()) if resume else 0
    for epoch in range(begun + 1, epochs + 1):
        open(folder + "/last.txt", "w").write(str(epoch))
        print(f"val_accuracy={epoch / 10} begun={begun}", flush=True)
        time.sleep(float(os.environ.get("PACE", 0)))
"""
COUNTING = {"resume": ["${checkpoint_dir}/last.txt"]}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path)


def seen(bench, name="00003-train-1-0"):
    return json.loads((bench.trial / "output" / name / "seen.json").read_text())


def counting(bench, **changes):
    return bench.setting(COUNTS, "${checkpoint_dir}", "${epochs}", **{**COUNTING, **changes})


def test_choices_epochs_folders_and_seed_reach_the_script_as_arguments(bench):
    setting = bench.setting(
        SHOWS, "${args}", "--epochs", "${epochs}", "--out=${checkpoint_dir}", "data/${data_fraction}.npz",
        "${trial_id}", "${seed}", "${width}x", "${rung}", "${run_id}", "${stage}", "${top_epochs}", 3,
        flags={"rate": "--lr"},
    )  # fmt: skip
    bench.train(setting, to_rung=0)
    arguments, *_ = seen(bench, "00003-train-0-0")
    assert arguments == [
        "--lr", "0.01", "--width", "8", "--epochs", "2", f"--out={bench.trial}/checkpoint", "data/0.5.npz",
        "3", "7", "8x", "0", "run-1", "search", "4", "3",
    ]  # fmt: skip


def test_choices_reach_the_script_as_words_without_hyphens_and_as_json(bench):
    setting = bench.setting(
        SHOWS, "${args_no_hyphens}", "${args_json}", "${args_json_file}", "${arch_file}",
        flags={"rate": "optimizer.lr"},
    )  # fmt: skip
    bench.train(setting)
    arguments, *_ = seen(bench)
    assert arguments[:2] == ["optimizer.lr=0.01", "width=8"]
    assert json.loads(arguments[2]) == {"width": 8, "rate": 0.01}
    assert json.loads(Path(arguments[3]).read_text()) == {"width": 8, "rate": 0.01}
    assert json.loads(Path(arguments[4]).read_text()) == {
        "choices": {"width": 8, "rate": 0.01}, "trial": 3, "seed": 7, "epochs": 4, "data_fraction": 1.0,
    }  # fmt: skip


def test_a_script_runs_where_it_is_told_and_knows_where_it_stands_from_its_environment(bench):
    (bench.folder / "code").mkdir()
    setting = bench.setting(SHOWS, working_directory="code", environment={"DATA": "d/${data_fraction}"})
    bench.train(setting)
    _, own, folder, data = seen(bench)
    output = f"{bench.trial}/output/00003-train-1-0"
    assert folder == str(bench.folder / "code")
    assert data == "d/1"
    del own["ZIGGURAT_SCRIPT"]
    own.pop("ZIGGURAT_CONTROLLER", None)
    assert own == {
        "ZIGGURAT_RUN_ID": "run-1", "ZIGGURAT_TRIAL": "3", "ZIGGURAT_STAGE": "search", "ZIGGURAT_RUNG": "1",
        "ZIGGURAT_EPOCHS": "4", "ZIGGURAT_DATA_FRACTION": "1", "ZIGGURAT_ARCH_FILE": f"{output}/arch.json",
        "ZIGGURAT_CHECKPOINT_DIR": f"{bench.trial}/checkpoint",
        "ZIGGURAT_METRICS_FILE": f"{output}/metrics.jsonl", "ZIGGURAT_OUTPUT_DIR": output,
        "ZIGGURAT_SEED": "7",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("booleans", "arguments"),
    [
        ("flag", ["--amp"]),
        ("value", ["--amp", "true", "--ema", "false"]),
        ("no", ["--amp", "--no-ema"]),
    ],
)
def test_a_choice_that_is_true_or_false_becomes_what_the_script_understands(bench, booleans, arguments):
    setting = bench.setting(SHOWS, "${args}", booleans=booleans)
    bench.train(setting, candidate=Candidate({"amp": True, "ema": False}))
    assert seen(bench)[0] == arguments


def test_a_list_of_arguments_is_left_out_where_the_candidate_lacks_its_choice(bench):
    setting = bench.setting(SHOWS, ["--momentum", "${momentum}"], ["-w", "${width}"], "${args_no_hyphens}")
    bench.train(setting)
    assert seen(bench)[0] == ["-w", "8", "rate=0.01", "width=8"]
    with pytest.raises(SpecError, match="this candidate has no choice 'momentum'; put the arguments"):
        bench.train(bench.setting(SHOWS, "${momentum}"))


def test_a_training_goes_on_where_the_last_rung_has_left_it(bench):
    setting = counting(bench)
    assert setting.resumable
    first = bench.train(setting, to_rung=0)
    assert first.checkpoint == bench.trial / "rung-0.tar"
    assert by_name(first.measurements) == {"val_accuracy": 0.2}
    assert [m.step for m in first.measurements] == [2]
    second = bench.train(setting, first.checkpoint, from_rung=0)
    assert b"begun=2" in bench.trial.joinpath("logs/00003-train-1-0.log").read_bytes()
    assert by_name(second.measurements) == {"val_accuracy": 0.4}
    assert bench.rows == [(n, {"val_accuracy": n / 10}) for n in (1, 2, 3, 4)]
    assert list((bench.trial / "checkpoint").iterdir()) == []


def test_a_script_that_cannot_resume_begins_again(bench):
    setting = bench.setting(COUNTS, "${checkpoint_dir}", "${epochs}")
    assert not setting.resumable
    first = bench.train(setting, to_rung=0)
    bench.rows.clear()
    bench.train(setting, first.checkpoint, from_rung=0)
    assert [epoch for epoch, _ in bench.rows] == [1, 2, 3, 4]


def test_without_a_checkpoint_nothing_is_resumed(bench):
    counted = bench.train(counting(bench), to_rung=0).checkpoint.rename(bench.folder / "counted.tar")
    setting = bench.setting(SHOWS, "${epochs_left}", resume=["--resume", "${checkpoint_dir}/last.pt"])
    first = bench.train(setting, to_rung=0)
    bench.train(setting, first.checkpoint)
    assert seen(bench)[0] == ["4"]
    bench.train(setting, counted)
    assert seen(bench)[0] == ["2", "--resume", f"{bench.trial}/checkpoint/last.pt"]


def test_a_segment_that_is_tried_again_starts_from_a_clean_state(bench):
    (bench.trial / "checkpoint").mkdir(parents=True)
    (bench.trial / "checkpoint" / "last.txt").write_text("1")
    (bench.trial / "output" / "00003-train-1-0").mkdir(parents=True)
    (bench.trial / "output" / "00003-train-1-0" / "metrics.jsonl").write_text('{"train_loss": 9}\n')
    assert bench.values(counting(bench)) == {"val_accuracy": 0.4}
    assert b"begun=0" in bench.log


def test_a_stopped_script_is_asked_to_end_and_its_checkpoint_is_kept(bench):
    bench.stop_after = 2
    setting = counting(bench, environment={"PACE": "0.3"})
    with pytest.raises(StopTraining) as caught:
        bench.train(setting)
    partial = caught.value.checkpoint
    assert partial == str(bench.trial / "partial.tar")
    bench.stop_after = 0
    assert bench.values(counting(bench), Path(partial)) == {"val_accuracy": 0.4}
    assert [epoch for epoch, _ in bench.rows] == [1, 2, 3, 4]


def test_a_script_stopped_between_epochs_may_write_its_checkpoint_on_sigterm(bench):
    code = """
        import signal, sys, time
        def keep(*_):
            time.sleep(0.3)
            open(sys.argv[1] + "/last.txt", "w").write("3")
            sys.exit(0)
        signal.signal(signal.SIGTERM, keep)
        print("ready", flush=True)
        time.sleep(60)
    """
    started = bench.trial / "logs" / "00003-train-1-0.log"
    with pytest.raises(StopTraining) as caught:
        bench.train(
            bench.setting(code, "${checkpoint_dir}", resumable=True),
            stopped=lambda _: started.exists() and b"ready" in started.read_bytes(),
        )
    with tarfile.open(str(caught.value.checkpoint)) as tar:
        assert tar.extractfile("last.txt").read() == b"3"


def test_a_stopped_script_that_has_written_nothing_leaves_no_checkpoint(bench):
    bench.stop_after = 1
    code = "import time; print('val_loss=1', flush=True); time.sleep(60)"
    with pytest.raises(StopTraining) as caught:
        bench.train(bench.setting(code, metrics={"val_loss": "stdout"}))
    assert caught.value.checkpoint is None
    assert not (bench.trial / "partial.tar").exists()


def test_an_end_by_somebody_elses_signal_is_a_stop_if_one_was_asked_for(bench):
    code = """
        import os, signal
        print("val_loss=1", flush=True)
        open("ended", "w").close()
        os.kill(os.getpid(), signal.SIGTERM)
    """
    asked = bench.folder / "ended"
    with pytest.raises(StopTraining):
        bench.train(bench.setting(code), stopped=lambda _: asked.exists())
    with pytest.raises(TrainingFailed, match="the script ended with signal 15"):
        bench.train(bench.setting(code))


def test_a_stop_after_the_last_epoch_loses_nothing(bench):
    bench.stop_after = 4
    with pytest.raises(StopTraining) as caught:
        bench.train(counting(bench, environment={"PACE": "0.3"}))
    found = bench.values(counting(bench), Path(str(caught.value.checkpoint)))
    assert found == {"val_accuracy": 0.4}


def test_the_test_command_sees_the_checkpoint_and_tells_the_test_metrics(bench):
    trained = bench.train(counting(bench), to_rung=0)
    bench.script(
        "import sys; print('test_accuracy=0.' + open(sys.argv[1] + '/last.txt').read(), sys.argv[2])", "t.py"
    )
    command = [sys.executable, "-S", "t.py", "${checkpoint_dir}", "${epochs}"]
    setting = bench.setting(PRINTS, test={"command": command})
    evaluation = job(-1, key="00003-evaluate-test-0", kind=JobKind.EVALUATE, ladder=())
    (found,) = setting.test(evaluation, bench.trial, trained.checkpoint, "run-1")
    assert (found.metric, found.value, found.step) == ("test_accuracy", 0.2, None)
    assert (bench.trial / "logs/00003-evaluate-test-0.log").read_text().split()[1] == "2"
    assert bench.setting(PRINTS).test(evaluation, bench.trial, None, "run-1") == ()


def test_the_profile_command_tells_latency_of_a_device_and_size_of_the_model(bench):
    bench.script("import sys; print('latency_p50_ms: 1.5\\nparameters=120', sys.argv[1])", "p.py")
    setting = bench.setting(PRINTS, profile={"command": [sys.executable, "-S", "p.py", "${device}"]})
    measuring = job(-1, key="00003-profile-edge-0", kind=JobKind.PROFILE, ladder=())
    latency, size = setting.profile(measuring, bench.trial, None, "run-1", "edge")
    assert (latency.metric, latency.value, latency.unit, latency.device) == (
        "latency_p50_ms",
        1.5,
        "ms",
        "edge",
    )
    assert (size.metric, size.value, size.unit, size.device) == ("parameters", 120, "1", None)
    assert not latency.predicted


def test_a_command_that_measures_nothing_or_too_long_is_said(bench):
    measuring = job(-1, key="m", kind=JobKind.PROFILE)
    quiet = bench.setting(PRINTS, profile={"command": [sys.executable, "-S", "-c", "print('hello')"]})
    with pytest.raises(TrainingFailed, match=r"the profile command ended well but told no latency_p50_ms: "):
        quiet.profile(measuring, bench.trial, None, "r", "edge")
    endless = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    slow = bench.setting(PRINTS, test={"command": endless, "timeout_s": 0.2})
    with pytest.raises(TrainingFailed, match=r"the test command did not end within 0\.2 s") as caught:
        slow.test(job(-1, key="t", kind=JobKind.EVALUATE), bench.trial, None, "r")
    assert caught.value.kind is FailureKind.TIMEOUT


def refused(**changes):
    with pytest.raises(ValidationError) as caught:
        Script.model_validate({"command": ["python", "train.py"], **changes})
    return str(caught.value)


def test_what_cannot_be_meant_is_refused_when_the_spec_is_read():
    assert "'--lr=${lr' begins a placeholder" in refused(command=["python", "--lr=${lr"])
    assert "holds a placeholder without a name" in refused(resume=["${}"])
    assert "${args} becomes several arguments" in refused(command=["python", "--all=${args}"])
    assert "set for every training" in refused(environment={"ZIGGURAT_TRIAL": "1"})
    assert "resumable is false" in refused(resume=["--resume"], resumable=False)
    found = refused(metrics={"val_loss": {"from": "stdout", "pattern": "loss [0-9]+"}})
    assert "has 0 groups, but exactly one must enclose the number" in found
    assert "has 2 groups" in refused(metrics={"a": {"from": "stdout", "pattern": "(l)(o)"}})
    assert "is no regular expression" in refused(metrics={"a": {"from": "stdout", "pattern": "(l"}})
    assert "has 0 groups" in refused(metrics={"a": {"from": "stdout", "step": "epoch"}})
    assert "tag means nothing from stdout" in refused(metrics={"a": {"from": "stdout", "tag": "x"}})
    assert "it can only be 'step'" in refused(metrics={"a": {"from": "mlflow", "step": "epoch"}})
    assert "is no name for a metric" in refused(metrics={"val/acc": "stdout"})


def plain(*command, **changes):
    return Script.model_validate({"command": ["python", "train.py", *command], **changes})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (plain("${widht}"), r"trainer.command: \$\{widht\} is no choice .*did you mean width\?"),
        (plain("${args}", resume=["${checkpoint}"]), r"trainer.resume: .*did you mean checkpoint_dir\?"),
        (plain("${args}", environment={"A": "${dpeth}"}), r"trainer.environment: .*mean depth or"),
        (plain("${args}", flags={"rat": "--lr"}), r"trainer.flags: 'rat' is no choice of the space; .*rate"),
        (plain("--w", "${width}", "${depth}"), r"choice 'momentum' of the space reaches the script nowhere"),
        (
            plain("--m=${momentum}", "${args}"),
            r"not every candidate has the choice 'momentum'; put the .*list",
        ),
    ],
)
def test_names_are_held_against_the_choices_of_the_space(setting, message):
    with pytest.raises(SpecError, match=message) as caught:
        setting.check_names(["width", "rate", "depth", "momentum"], ["momentum"])
    assert "\n" not in str(caught.value)


def test_names_that_fit_are_accepted_and_a_choice_may_not_hide_a_placeholder():
    plain("${args}", flags={"rate": "--lr"}).check_names(["rate"])
    plain(["--m", "${momentum}"], "${width}").check_names(["width", "momentum"], ["momentum"])
    plain().check_names(["width"])
    with pytest.raises(SpecError, match=r"space.choices.epochs: .* rename the choice"):
        plain().check_names(["epochs"])


def test_what_is_missing_is_found_before_anything_is_started(bench):
    def said(*command, **changes):
        with pytest.raises(SpecError) as caught:
            Script.model_validate({"command": list(command), **changes}).check()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    bench.script("", "train.py")
    bench.setting(PRINTS).check()
    Script.model_validate({"command": ["${python}", "train.py"]}).check()
    assert "there is no program 'pyhton' here" in said("pyhton", "train.py")
    assert "there is no program './run.sh'" in said("./run.sh")
    assert "'./train.py' is not executable; make it so" in said("./train.py")
    assert "there is no script 'trian.py'" in said(sys.executable, "trian.py")
    assert "'nowhere' is no folder" in said(sys.executable, "train.py", working_directory="nowhere")
    found = said(sys.executable, "train.py", working_directory="${output_dir}")
    assert str(bench.folder / "train.py") in found
    shared = {"a": {"from": "csv", "path": "logs/metrics.csv"}}
    assert "is the same file for all trials" in said(sys.executable, "train.py", metrics=shared)
    Script.model_validate(
        {"command": [sys.executable, "/dev/null"], "metrics": shared, "working_directory": "${output_dir}"}
    ).model_copy(update={"command": ["sh"]}).check()
    test = {"command": [sys.executable, "tset.py"]}
    assert "trainer.test.command: there is no script 'tset.py'" in said(sys.executable, "train.py", test=test)


def test_a_setting_survives_being_written_as_plain_values():
    setting = plain(["--m", "${momentum}"], resume=["-r"], metrics={"a": {"from": "csv", "step": "epoch"}})
    again = Script.model_validate(setting.model_dump(mode="json", by_alias=True))
    assert again == setting
    assert again.resumable


SPEC = """
name: byo
space: {kind: parameters, choices: {width: [8, 16], RATE: [1, 2]}}
data: {kind: external}
objectives: [{metric: val_accuracy, reference: 0.1}]
fidelities: [{epochs: 2}, {epochs: 4}]
search:
  trials: 2
  trainer:
    kind: script
    command: [python, train.py, "${args}", "--epochs=${epochs}", "--home=${HOME}", "${width}", "${RATE}"]
    working_directory: ${ROOT_OF_CODE:code}
    environment: {DATA: "${HOME}/${data_fraction}", SEED: "${seed}"}
    metrics: {val_accuracy: {from: csv, path: "${output_dir}/a.csv"}}
validate: {enabled: false}
retrain: {enabled: false}
"""


def test_placeholders_wait_for_the_training_and_the_environment_is_filled_in_before(tmp_path, monkeypatch):
    for name, value in {"HOME": "/h", "epochs": "9", "width": "9", "seed": "9"}.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    trainer = spec.read(path)[0].search.trainer
    assert isinstance(trainer, Script)
    assert trainer.command[2:] == ["${args}", "--epochs=${epochs}", "--home=/h", "${width}", "${RATE}"]
    assert trainer.working_directory == "code"
    assert trainer.environment == {"DATA": "/h/${data_fraction}", "SEED": "${seed}"}
    assert trainer.metrics["val_accuracy"].path == "${output_dir}/a.csv"


def test_a_misspelt_placeholder_in_a_spec_is_one_line_with_what_was_meant(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.replace("--epochs=${epochs}", "--epochs=${epohcs}"))
    with pytest.raises(SpecError) as caught:
        spec.read(path)
    text = str(caught.value)
    assert "search.trainer.command: ${epohcs} is no choice of the space" in text
    assert "did you mean epochs" in text
    assert "\n" not in text
