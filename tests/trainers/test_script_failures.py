"""Scripts that misbehave: each ends as one line that says what happened, and leaves nothing behind."""

import resource
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.trainers.scripts import Bench
from ziggurat.domain import FailureKind
from ziggurat.performing import classify
from ziggurat.trainers import Diverged, Script, StopTraining, TrainingFailed

FORKS = """
    import os, subprocess, sys, time
    start = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]
    children = [subprocess.Popen(start), subprocess.Popen(start, start_new_session=True)]
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            children = [subprocess.Popen(start)]
            open(sys.argv[1], "a").write(f"{os.getpid()} {children[0].pid} ")
            os.close(1)
            time.sleep(300)
        os._exit(0)
    os.wait()
    while not os.path.exists(sys.argv[1]) or len(open(sys.argv[1]).read().split()) < 2:
        time.sleep(0.01)
    open(sys.argv[1], "a").write(" ".join(str(c.pid) for c in children))
    print("val_accuracy=0.5", flush=True)
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path)


def failed(bench, setting, error=TrainingFailed, **changes):
    with pytest.raises(error) as caught:
        bench.train(setting, **changes)
    failure = classify(caught.value)
    assert "\n" not in failure.text
    assert failure.text.isprintable()
    return failure


def command(*words, **changes):
    return Script.model_validate({"command": list(words), **changes})


def test_a_script_that_cannot_be_started_is_named_with_the_cure(bench):
    Path("train.sh").write_text("#!/bin/sh\necho val_accuracy=1\n")
    found = failed(bench, command("./train.sh"))
    assert found.kind is FailureKind.USER_ERROR
    assert "'./train.sh' cannot be started (Permission denied); make it executable (chmod +x)" in found.text
    assert "'nowhere' cannot be started (No such file" in failed(bench, command("nowhere")).text
    found = failed(bench, command("true", working_directory="${output_dir}/x"))
    assert "the working directory" in found.text
    Path("train.sh").chmod(0o755)
    bench.train(command("./train.sh"))
    Path("odd").write_text("what is this")
    Path("odd").chmod(0o755)
    assert (
        "(Exec format error); give it a first line such as #!/bin/sh" in failed(bench, command("./odd")).text
    )
    Path("odd").write_text("#!/no/such/shell\n")
    assert "the interpreter in its first line is missing" in failed(bench, command("./odd")).text
    assert "null byte" in failed(bench, command("true", "a\0b")).text


def test_an_error_is_told_by_its_last_line(bench):
    found = failed(
        bench, bench.setting("print('val_accuracy=0.5'); raise ValueError('no such file: data.npz')")
    )
    assert found.kind is FailureKind.USER_ERROR
    assert (
        "the script ended with exit code 1; its last words: ValueError: no such file: data.npz" in found.text
    )
    assert "(log: trials/00003/logs/00003-train-1-0.log)" in found.text
    assert b"Traceback" in bench.log


def test_no_message_repeats_the_secrets_of_a_script(bench):
    code = """
        import os
        raise SystemExit("no login with " + os.environ["HUB_TOKEN"] + " in " + os.environ["PWD"])
    """
    found = failed(bench, bench.setting(code, environment={"HUB_TOKEN": "hunter2", "PWD": "/home/here"}))
    assert "no login with (hidden) in /home/here" in found.text


def test_a_number_that_is_none_is_told_in_the_words_of_the_spec(bench):
    found = failed(bench, bench.setting("print('a=nan')", metrics={"a": "stdout"}), Diverged)
    assert (found.kind, found.text) == (FailureKind.DIVERGED, "a is nan")


def test_a_missing_interpreter_argument_is_told(bench):
    found = failed(bench, command(sys.executable, "-S", "missing.py"))
    assert "exit code 2" in found.text
    assert "missing.py" in found.text


def test_a_script_that_prints_no_metric_has_failed_though_it_ended_well(bench):
    found = failed(bench, bench.setting("print('accuracy is good')"))
    assert found.kind is FailureKind.NO_METRIC
    assert "told no val_accuracy: no line of standard output holds val_accuracy=NUMBER" in found.text
    assert "its last words: accuracy is good; have it tell that, or set metrics" in found.text
    assert "val_loss" not in found.text
    metrics = {"loss": {"from": "stdout", "pattern": "L=(.*)"}, "a": {"from": "csv"}}
    found = failed(bench, bench.setting("", metrics=metrics))
    assert (
        "told no loss: no line of standard output matches 'L=(.*)'; ${output_dir}/**/metrics.csv"
        in found.text
    )
    assert "it printed nothing" in found.text


def test_one_that_tells_less_than_it_should_hands_back_its_last_words(bench):
    metrics = {"val_accuracy": "stdout", "loss": "stdout"}
    assert bench.train(bench.setting("print('val_accuracy=0.5 and no more')", metrics=metrics)).said == (
        "val_accuracy=0.5 and no more"
    )
    assert bench.train(bench.setting("print('val_accuracy=0.5 loss=1')", metrics=metrics)).said == ""


def test_garbage_and_binary_output_is_passed_over(bench):
    code = """
        import os, sys
        os.write(1, bytes(range(256)) * 500 + b"\\nval_accuracy=oops\\nval_accuracy=\\nval_accuracy=0.5\\n")
        os.write(2, b"\\xff\\x1b[31mred\\x07\\n")
        os.write(1, b"val_loss=1" + bytes(200) + b"\\xf0\\x9f")
    """
    assert bench.values(bench.setting(code)) == {"val_accuracy": 0.5, "val_loss": 1.0}
    found = failed(bench, bench.setting(code + "    sys.exit(3)"))
    assert "its last words: \ufffd?[31mred?" in found.text


def test_lines_of_many_megabytes_do_not_fill_the_memory(bench):
    code = """
        import os
        for _ in range(600):
            os.write(1, b"val_accuracy=0.1 " * 6000)
        os.write(1, b"\\nval_accuracy=0.5\\n")
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert bench.values(bench.setting(code, output_limit_mb=0.1))["val_accuracy"] == 0.5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KB


def test_a_flood_of_output_leaves_its_beginning_and_its_end(bench):
    code = """
        import os
        print("first", flush=True)
        for n in range(300):
            os.write(1, b"%07d " % n * 16384)
        print("\\nval_accuracy=0.5\\nlast")
    """
    assert bench.values(bench.setting(code, output_limit_mb=1)) == {"val_accuracy": 0.5}
    log = bench.log
    assert 750_000 <= len(log) <= 1_000_100
    assert log.startswith(b"first\n0000000 ")
    assert log.endswith(b"last\n")
    assert b" bytes are left out here ...]" in log
    assert [p.name for p in (bench.trial / "logs").iterdir()] == ["00003-train-1-0.log"]


def test_a_metric_printed_a_hundred_thousand_times_is_one_row_an_epoch(bench):
    code = "import sys\nfor n in range(100_000): sys.stdout.write(f'val_accuracy={n / 1e6}\\n')"
    assert bench.values(bench.setting(code)) == {"val_accuracy": 0.099999}
    assert [epoch for epoch, _ in bench.rows] == [1, 2, 3, 4]


def test_a_script_that_ignores_sigterm_is_killed_after_the_grace(bench):
    code = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open("pid", "w").write(str(__import__("os").getpid()))
        print("val_loss=1", flush=True)
        time.sleep(300)
    """
    bench.stop_after = 1
    began = time.monotonic()
    with pytest.raises(StopTraining):
        bench.train(bench.setting(code, grace_s=0.3, metrics={"val_loss": "stdout"}))
    assert 0.3 < time.monotonic() - began < 60
    assert not psutil.pid_exists(int(Path("pid").read_text()))


def test_children_do_not_outlive_the_script_wherever_they_have_gone(bench):
    assert bench.values(bench.setting(FORKS, "pids"))["val_accuracy"] == 0.5
    pids = [int(p) for p in Path("pids").read_text().split()]
    assert len(pids) == 4
    assert [p for p in pids if _lives(p)] == []


def _lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_children_do_not_outlive_a_stop_or_a_fault_of_our_own(bench):
    def report(row):
        raise RuntimeError("no")

    bench.report = report
    code = FORKS.replace("start_new_session=True", "start_new_session=True, env={}") + "    time.sleep(300)"
    with pytest.raises(RuntimeError):
        bench.train(bench.setting(code, "pids", metrics={"val_accuracy": "stdout"}))
    pids = [int(p) for p in Path("pids").read_text().split()]
    assert [p for p in pids if _lives(p)] == []


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN"])
def test_a_metric_that_is_not_finite_ends_the_training_as_diverged(bench, value):
    code = f"import time; print('val_loss={value}', flush=True); time.sleep(300)"
    assert failed(bench, bench.setting(code), Diverged).kind is FailureKind.DIVERGED


def test_an_accuracy_in_per_cent_is_refused_with_the_cure(bench):
    found = failed(bench, bench.setting("print('val_accuracy=91.5')"))
    assert "the script gave 91.5, but it must lie between 0 and 1; give scale: 0.01" in found.text
    assert bench.values(bench.setting("print('val_accuracy: 91.5 %')"))["val_accuracy"] == pytest.approx(
        0.915
    )
    metrics = {"val_accuracy": {"from": "stdout", "scale": 0.01}}
    setting = bench.setting("print('val_accuracy=91.5')", metrics=metrics)
    assert bench.values(setting)["val_accuracy"] == pytest.approx(0.915)


@pytest.mark.parametrize(
    "words",
    ["torch.OutOfMemoryError: CUDA out of memory.", "MemoryError", "bad_alloc", "Cannot allocate memory"],
)
def test_running_out_of_memory_is_told_apart(bench, words):
    found = failed(bench, bench.setting(f"import sys; sys.exit({words!r})"))
    assert found.kind is FailureKind.OUT_OF_MEMORY


def test_the_kernels_kill_for_lack_of_memory_is_told_apart_from_others(bench, monkeypatch):
    code = "import os; os.kill(os.getpid(), 9)"
    assert failed(bench, bench.setting(code)).kind is FailureKind.USER_ERROR
    kills = iter([5, 6])
    monkeypatch.setattr("ziggurat.trainers.script_session.kernel_kills", lambda: next(kills))
    found = failed(bench, bench.setting(code))
    assert found.kind is FailureKind.OUT_OF_MEMORY
    assert "the kernel ended the script for lack of memory" in found.text


def test_a_checkpoint_that_is_being_written_when_the_script_is_killed_is_not_kept(bench):
    code = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        file = open(sys.argv[1] + "/last.pt", "wb")
        print("val_loss=1", flush=True)
        while True:
            file.write(b"half"); file.flush(); time.sleep(0.01)
    """
    bench.stop_after = 1
    setting = bench.setting(code, "${checkpoint_dir}", grace_s=0.4, metrics={"val_loss": "stdout"})
    with pytest.raises(StopTraining) as caught:
        bench.train(setting)
    assert caught.value.checkpoint is None


def test_a_stop_waits_for_a_checkpoint_that_is_being_written(bench):
    code = """
        import sys, time
        with open(sys.argv[1] + "/last.pt", "w") as file:
            print("val_loss=1", flush=True)
            file.write("ha"); file.flush(); time.sleep(0.5); file.write("lf")
        time.sleep(300)
    """
    bench.stop_after = 1
    with pytest.raises(StopTraining) as caught:
        bench.train(bench.setting(code, "${checkpoint_dir}", metrics={"val_loss": "stdout"}, grace_s=60))
    assert b"half" in Path(str(caught.value.checkpoint)).read_bytes()


def test_a_checkpoint_beyond_the_limit_is_refused(bench):
    code = "import sys; open(sys.argv[1] + '/a', 'wb').write(bytes(200_000)); print('val_loss=1')"
    found = failed(bench, bench.setting(code, "${checkpoint_dir}", checkpoint_limit_mb=0.1))
    assert "the script's checkpoint folder holds 0.2 MB; raise the limit" in found.text


def test_waiting_for_a_quiet_script_takes_little_time_of_a_processor(bench):
    began = time.process_time()
    bench.train(bench.setting("import time; time.sleep(1); print('val_loss=1')"))
    assert time.process_time() - began < 0.25


def test_sigterm_reaches_the_whole_group(bench):
    code = """
        import os, signal, subprocess, sys
        inner = "import signal, sys, time; signal.signal(15, lambda *_: (open('told', 'w'), sys.exit(0)));"
        inner += "print('val_loss=1', flush=True); time.sleep(300)"
        sys.exit(subprocess.call([sys.executable, "-S", "-c", inner]))
    """
    bench.stop_after = 1
    with pytest.raises(StopTraining):
        bench.train(bench.setting(code, metrics={"val_loss": "stdout"}))
    assert Path("told").exists()
