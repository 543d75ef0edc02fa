"""A device reached by commands: what is handed over, what is believed, and what misbehaviour leads to."""

import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.profilers import CommandDevice, program, reply
from ziggurat.spec_files import expand

MEASURE = Path(__file__).parents[2] / "examples" / "device" / "measure.py"
SHAPE = (1, 5)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def says(code, *arguments):
    """A command that runs some Python."""
    return [sys.executable, "-c", code, *arguments]


def device(*commands, **changes):
    return CommandDevice(**{"name": "phone", "commands": commands, "retries": 0, **changes})


def profiled(one):
    return {m.metric: m for m in one.profile(model(), torch.zeros(SHAPE), Candidate({"width": 8}))}


def refused(one):
    with pytest.raises(SpecError) as caught:
        profiled(one)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert "'phone'" in text
    return text


def test_the_example_script_measures_an_exported_model_like_any_device():
    one = device(
        [sys.executable, str(MEASURE), "${onnx_file}", "--repetitions", "${repetitions}", "--warmup", "2"],
        repetitions=40,
    )
    found = profiled(one)
    assert {n: m.unit for n, m in found.items()} == {
        "latency_p50_ms": "ms", "latency_p90_ms": "ms", "latency_p99_ms": "ms",
        "latency_noise": "1", "file_size_mb": "MB",
    }  # fmt: skip
    assert {m.device for m in found.values()} == {"phone"}
    assert found["latency_p50_ms"].samples == 40
    assert 0 < found["latency_p50_ms"].value <= found["latency_p90_ms"].value <= found["latency_p99_ms"].value


def test_the_example_script_says_what_is_wrong_with_a_file(tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"no model")
    text = refused(device([sys.executable, str(MEASURE), str(tmp_path / "no.onnx")]))
    assert "failed with exit code 1" in text
    assert "no.onnx cannot be opened" in text


def test_commands_run_in_order_and_share_files_and_placeholders(tmp_path):
    first = says("import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2])", "${arch_file}", "${scratch}/a")
    second = says(
        "import json, sys; a = json.load(open(sys.argv[1]));"
        "json.dump([a, sys.argv[3:]], open(sys.argv[2], 'w')); print('latency_p50_ms=2.5')",
        "${scratch}/a", str(tmp_path / "seen"), "--runs=${repetitions}", "${warmup}", "${batch_size}",
    )  # fmt: skip
    found = profiled(device(first, second, repetitions=30, warmup=4, batch_size=2))
    assert {n: m.value for n, m in found.items()} == {"latency_p50_ms": 2.5}
    arch, arguments = json.loads((tmp_path / "seen").read_text())
    signature = {"shape": [5], "classes": 3}
    assert arch == {"choices": {"width": 8}, "signature": signature, "batch_size": 2}
    assert arguments == ["--runs=30", "4", "2"]


def test_the_file_of_torch_export_is_written_if_a_command_names_it(tmp_path):
    code = "import shutil, sys; shutil.copy(*sys.argv[1:]); print('latency_p50_ms=3')"
    profiled(device(says(code, "${export_file}", str(tmp_path / "m.pt2")), batch_size=2))
    loaded, x = torch.export.load(tmp_path / "m.pt2").module(), torch.rand(2, 5)
    torch.testing.assert_close(loaded(x), model()(x))


def test_what_cannot_be_exported_is_said_before_any_command_runs(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x.T @ x).real[None, :3]

    one = device(says("open('ran', 'w')", "${onnx_file}"))
    with pytest.raises(SpecError, match=r"device 'phone': operation \S*linalg_eig\S* cannot be exported"):
        one.profile(Odd(), torch.zeros(SHAPE))


def test_nothing_is_left_of_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    profiled(device(says("print('latency_p50_ms=1')", "${arch_file}")))
    refused(device(says("1/0", "${arch_file}")))
    assert list(tmp_path.iterdir()) == []


def test_pairs_json_and_samples_are_read_among_other_lines():
    def values(text):
        return {m.metric: m.value for m in reply.measurements(text, "d")}

    noise = "starting 3 runs\nloss=0.1\n[ok]\n{not json}\n"
    assert values(noise + "latency_p50_ms=1.5\n peak_memory_mb = 12\nenergy_mj=3e0\n") == {
        "latency_p50_ms": 1.5, "peak_memory_mb": 12.0, "energy_mj": 3.0,
    }  # fmt: skip
    assert values(noise + '{"latency_p50_ms": 2}\n{"latency_p99_ms": 3, "board": "x"}\n') == {
        "latency_p50_ms": 2.0, "latency_p99_ms": 3.0,
    }  # fmt: skip
    assert values(noise + '{\n  "latency_p50_ms": 2,\n  "dram_mb": 7\n}\ndone') == {
        "latency_p50_ms": 2.0, "dram_mb": 7.0,
    }  # fmt: skip
    for text in ("[1, 2, 3, 4, 10]", "samples_ms=[1, 2, 3, 4, 10]", '{"samples_ms": [1, 2, 3, 4, 10]}'):
        found = values(noise + text + "\n")
        assert found["latency_p50_ms"] == 3.0
        assert found["latency_p90_ms"] == pytest.approx(7.6)
        assert found["latency_noise"] > 0


@given(st.text() | st.lists(st.sampled_from('[{"=\n:,1}] latency_p50_ms')).map("".join))
def test_any_text_gives_measurements_or_one_reason(text):
    try:
        found = reply.measurements(text, "d")
    except ValueError as error:
        reason = str(error)
        assert reason.isprintable()
    else:
        assert all(m.value > 0 for m in found)


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("''", "printed nothing"),
        ("'ready\\n\\x1b[31mok'", "printed no measurement but 'ready ?[31mok'"),
        ("'accuracy=0.9'", "printed no measurement but 'accuracy=0.9'"),
        ("'latency_p50_ms=fast'", "latency_p50_ms = 'fast', which is no number"),
        ("'latency_p50_ms=true'", "which is no number"),
        ("'latency_p50_ms=nan'", "latency_p50_ms = nan, which cannot be a measurement"),
        ("'latency_p50_ms=-3'", "latency_p50_ms = -3, which cannot be a measurement"),
        ("'latency_p50_ms=0'", "latency_p50_ms = 0, which cannot be a measurement"),
        ("'latency_p50_ms=1e999'", "latency_p50_ms = inf, which cannot be a measurement"),
        ("'latency_p50_ms=3\\nlatency_p99_ms=2'", "latency_p99_ms = 2 below latency_p50_ms = 3"),
        ("'samples_ms=[1, 2]'", "printed 2 samples, but percentiles need at least 5"),
        ("'samples_ms=[1, 2, 3, 4, NaN]'", "samples_ms[4] = nan"),
        ("'samples_ms=7'", "samples_ms = '7', which is no list of numbers"),
        ("'[' * 100000", "printed no measurement but"),
    ],
)
def test_nonsense_is_one_line_that_names_device_command_and_what_is_expected(printed, words):
    text = refused(device(says("pass"), says(f"print({printed}, end='')")))
    assert words in text
    assert f"device 'phone': command 2 ({Path(sys.executable).name}) printed" in text
    assert "latency_p50_ms=NUMBER or samples_ms=[NUMBER, ...]" in text


def test_binary_garbage_is_one_line():
    text = refused(device(says("import os, sys; sys.stdout.buffer.write(os.urandom(5000))")))
    assert "printed no measurement but" in text
    assert len(text) < 600


def test_a_failing_command_gives_its_code_and_last_words():
    text = refused(device(says("import sys; print('no phone attached', file=sys.stderr); sys.exit(4)")))
    assert "command 1" in text
    assert "failed with exit code 4, its last words: 'no phone attached'" in text
    assert "failed with signal 9" in refused(device(says("import os; os.kill(os.getpid(), 9)")))


def test_a_later_command_does_not_run_after_a_failed_one(tmp_path):
    refused(device(says("1/0"), says("open(__import__('sys').argv[1], 'w')", str(tmp_path / "ran"))))
    assert not (tmp_path / "ran").exists()


def test_a_silent_command_is_ended_with_all_it_has_started(tmp_path):
    code = (
        "import os, subprocess, sys, time; p = subprocess.Popen(['sleep', '60']);"
        "open(sys.argv[1], 'w').write(str(p.pid)); time.sleep(60)"
    )
    began = time.monotonic()
    text = refused(device(says(code, str(tmp_path / "pid")), timeout_s=1.0))
    assert "did not end within 1 s" in text
    assert time.monotonic() - began < 30
    child = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_command_that_ignores_being_asked_is_ended_by_force(monkeypatch):
    monkeypatch.setattr(program, "GRACE_S", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    ended = program.run(says(code), 1.0)
    assert (ended.late, ended.code) == (True, -9)


def test_a_child_that_holds_the_output_open_does_not_hold_up_the_measurement_and_ends_with_it(tmp_path):
    code = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '60']);"
        "open(sys.argv[1], 'w').write(str(p.pid)); print('latency_p50_ms=1')"
    )
    began = time.monotonic()
    assert profiled(device(says(code, str(tmp_path / "pid"))))["latency_p50_ms"].value == 1.0
    assert time.monotonic() - began < 30
    child = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_of_much_output_the_end_is_kept():
    code = "import sys\nfor _ in range(300): print('x' * 9999)\nprint('latency_p50_ms=1')"
    ended = program.run(says(code), 30.0)
    assert len(ended.out) == program.KEPT
    assert ended.out.endswith("latency_p50_ms=1\n")


def test_a_failed_measurement_is_tried_again_as_often_as_allowed(tmp_path):
    code = (
        "import sys; f = open(sys.argv[1], 'a'); f.write('.'); f.flush();"
        "n = len(open(sys.argv[1]).read()); print('latency_p50_ms=%d' % n) if n > 2 else sys.exit(1)"
    )
    assert profiled(device(says(code, str(tmp_path / "n")), retries=2))["latency_p50_ms"].value == 3
    (tmp_path / "n").unlink()
    assert refused(device(says(code, str(tmp_path / "n")), retries=1)).endswith("(2 tries)")


def test_the_environment_is_handed_down_and_no_shell_reads_arguments(monkeypatch):
    monkeypatch.setenv("BOARD", "3")
    code = "import os, sys; assert sys.argv[1] == '$(id); *'; print('latency_p50_ms=' + os.environ['BOARD'])"
    assert profiled(device(says(code, "$(id); *")))["latency_p50_ms"].value == 3


def test_a_missing_program_is_named_before_anything_runs():
    with pytest.raises(SpecError, match=r"devices: 'phone' needs the program 'adbx' \(command 2\)"):
        device(says("pass"), ["adbx", "shell"]).check()
    with pytest.raises(SpecError, match=r"needs the program 'adby' \(identify\)"):
        device(says("pass"), identify=["adby"]).check()
    device(says("pass")).check()
    assert "cannot be started" in refused(device(["adbx", "shell"]))


def test_a_fingerprint_holds_what_identify_prints_and_changes_with_the_commands():
    one = device(says("pass"), identify=says("print('soc=x1\\nAndroid 15\\nrev = 2')"))
    found = one.fingerprint()
    assert (found["soc"], found["rev"], found["device"]) == ("x1", "2", "Android 15")
    assert found["commands"] != device(says("0")).fingerprint()["commands"]
    with pytest.raises(SpecError, match="device 'phone': identify failed with exit code 1"):
        device(says("pass"), identify=says("1/0")).fingerprint()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"commands": []}, "at least 1 item"),
        ({"commands": [[]]}, "at least 1 item"),
        ({"commands": ["adb shell bench"]}, "valid list"),
        ({"commands": [["bench", "${onnx_fil}"]]}, "neither an environment variable nor a placeholder"),
        ({"commands": [["bench"]], "identify": ["${x}"]}, "neither an environment variable"),
        ({"commands": [["bench"]], "timeout_s": 0}, "greater than 0"),
        ({"commands": [["bench", True]]}, "valid string"),
        ({"commands": [["bench"]], "shell": True}, "not permitted"),
        ({"commands": [["bench"]], "launcher": {"kind": "simulated"}}, "has no machines"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, words):
    with pytest.raises(ValidationError, match=words):
        CommandDevice(**wrong)


def test_numbers_among_arguments_are_text():
    assert device(["bench", 5, 0.5]).commands == [["bench", "5", "0.5"]]


def test_placeholders_live_beside_environment_variables():
    from ziggurat.profilers.command import is_placeholder

    plain = {"name": "${NAME}", "devices": [{"commands": [["${BIN}", "${warmup}", "${scratch}/${NAME}"]]}]}
    environment = {"NAME": "n", "BIN": "adb", "warmup": "no", "scratch": "no"}
    found = expand(plain, environment, leave=is_placeholder)
    commands = [["adb", "${warmup}", "${scratch}/n"]]
    assert found == {"name": "n", "devices": [{"commands": commands}]}
    found = expand({"devices": [{"commands": [["${onnx_fil}"]]}]}, {}, leave=is_placeholder)
    with pytest.raises(ValidationError, match=r"onnx_fil\} is neither"):
        CommandDevice(**found["devices"][0])
    with pytest.raises(SpecError, match="environment variable warmup is not set"):
        expand({"name": "${warmup}"}, {}, leave=is_placeholder)
    assert "NAME" not in os.environ
