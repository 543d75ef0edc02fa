"""Children forked from the template: what they are, when they are refused, and what dies with whom."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.real import ROOT, until
from ziggurat import processes
from ziggurat.launchers import forks
from ziggurat.launchers.child import Start
from ziggurat.launchers.forks import Forked, Refused

pytestmark = pytest.mark.slow

START_S = 180.0
"""Deadline of what waits for a template; its imports take long on a busy machine."""

FACTS = """
import json, os, random, sys
import numpy as np, torch
torch.ones(200, 200) @ torch.ones(200, 200)
facts = {
    "pid": os.getpid(), "sid": os.getsid(0), "cwd": os.getcwd(), "argv": sys.argv[1:], "path": sys.path[0],
    "main": __name__, "own": os.environ.get("OWN"), "nvml": os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK"),
    "threads": torch.get_num_threads(), "draw": [random.random(), float(np.random.rand())],
    "files": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
}
print(json.dumps(facts), flush=True)
print("a word on standard error", file=sys.stderr, flush=True)
sys.stdin.read()
sys.exit(int(os.environ.get("CODE", "0")))
"""


class Probe:
    """A forked process that tells about itself and waits for its input to end."""

    def __init__(self, folder: Path, code: str = FACTS, **environment: str) -> None:
        (folder / "probe.py").write_text(code)
        stdin, self.input = os.pipe()
        self.output, stdout = os.pipe()
        self.log = folder / "probe.log"
        path = f"{folder}{os.pathsep}{ROOT}"
        variables = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
        self.start = Start("probe", ("one", "two"), variables, self.log, stdin, stdout)
        self.child = Forked(self.start)

    def facts(self) -> dict:
        there(self)
        return json.loads(os.read(self.output, 1 << 16))

    def end(self) -> int:
        os.close(self.input)
        code = until(lambda: self.child.poll() is not None and [self.child.poll()])[0]
        self.close()
        return code

    def close(self) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.close(10)
        os.close(self.output)


def there(probe: Probe) -> int:
    """The number of a probe, as soon as the template has imported and forked."""
    deadline = time.monotonic() + START_S
    while not probe.child.pid:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return probe.child.pid


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def refusal(probe: Probe) -> str:
    """Why a probe is refused."""

    def said() -> str:
        try:
            probe.child.poll()
        except Refused as error:
            return str(error)
        return ""

    why = until(said)
    for fd in (probe.input, probe.output, probe.start.stdin, probe.start.stdout):
        os.close(fd)
    return why


def test_a_forked_process_is_what_a_fresh_one_would_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK", raising=False)  # Lightning sets it where it is loaded
    probe = Probe(tmp_path, OWN="mine", CODE="5")
    facts = probe.facts()
    assert facts["pid"] == facts["sid"] == probe.child.pid
    assert (facts["cwd"], facts["path"]) == (str(tmp_path), str(tmp_path))
    assert (facts["argv"], facts["main"], facts["own"]) == (["one", "two"], "__main__", "mine")
    assert (facts["threads"], facts["nvml"]) == (1, None)
    assert len(facts["files"]) <= 4, "standard streams and the listing itself, nothing of the template"
    process = psutil.Process(probe.child.pid)
    assert process.cmdline() == [sys.executable, "-m", "probe", "one", "two"]
    assert process.ppid() == forks.template(probe.start.environment).pid
    assert probe.end() == 5
    assert probe.log.read_text() == "a word on standard error\n"


def test_it_is_found_by_its_mark_from_the_moment_its_number_is_known(tmp_path):
    value = f"{tmp_path}::a-token"
    probe = Probe(tmp_path, **{processes.MARK: value})
    there(probe)
    assert [p.pid for p in processes.marked(f"{tmp_path}::")] == [probe.child.pid]
    assert processes.marked(f"{tmp_path}::", but=value) == []
    other = Probe(tmp_path)
    there(other)
    assert [p.pid for p in processes.marked(f"{tmp_path}::")] == [probe.child.pid]
    probe.child.send_signal(signal.SIGTERM)
    assert until(probe.child.poll) == -signal.SIGTERM
    probe.close()
    other.close()


def test_a_mark_without_room_is_refused_rather_than_cut(tmp_path):
    probe = Probe(tmp_path, **{processes.MARK: "x" * 5000})
    assert "has room for 4500 bytes" in refusal(probe)


def test_all_are_forked_from_one_template_and_draw_other_numbers(tmp_path):
    probes = [Probe(tmp_path) for _ in range(2)]
    told = [probe.facts() for probe in probes]
    assert len(told[1]["files"]) <= 4, "nothing of the other one either"
    first, second = (facts["draw"] for facts in told)
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert len({psutil.Process(probe.child.pid).ppid() for probe in probes}) == 1
    for probe in probes:
        probe.close()


def test_more_threads_are_given_after_the_fork(tmp_path):
    probe = Probe(tmp_path, OMP_NUM_THREADS="2")
    assert probe.facts()["threads"] == 2
    until(lambda: psutil.Process(probe.child.pid).num_threads() >= 2)
    probe.close()


@pytest.mark.parametrize("name", ["torch.py", "pytorch_lightning/__init__.py"])
def test_a_library_that_the_user_brings_is_not_replaced_by_the_templates(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    assert refusal(Probe(tmp_path)) == f"{name.split('/')[0].removesuffix('.py')} is also in {tmp_path}"


def test_variables_that_libraries_read_when_loaded_have_a_template_of_their_own(tmp_path):
    plain = Probe(tmp_path, TORCH_OURS="1")  # so that no pool of another test lives on this template
    there(plain)
    before = forks.template(plain.start.environment)
    assert forks.template({**plain.start.environment, "OWN": "1", "CUDA_VISIBLE_DEVICES": "3"}) is before
    after = forks.template({**plain.start.environment, "TORCH_LOGS": "dynamo"})
    assert after is not before
    assert alive(plain.child.pid), "the old template stays as long as its children"
    plain.close()
    until(lambda: not before.alive())
    assert after.alive()


def test_segfaults_and_exit_codes_hurt_nobody_else(tmp_path):
    ends = {"import ctypes; ctypes.string_at(0)": -signal.SIGSEGV, "import os; os._exit(9)": 9, "1 / 0": 1}
    for code, expected in ends.items():
        probe = Probe(tmp_path, code)
        assert until(lambda probe=probe: probe.child.poll()) == expected
        probe.close()
    assert "ZeroDivisionError" in probe.log.read_text()
    probe = Probe(tmp_path)
    assert forks.template(probe.start.environment).alive()
    assert probe.facts()["pid"] == probe.child.pid
    assert probe.end() == 0


def test_letting_go_of_one_that_runs_ends_it_and_its_group(tmp_path):
    code = (
        "import subprocess, sys\nprint(subprocess.Popen(['sleep', '600']).pid, flush=True)\nsys.stdin.read()"
    )
    probe = Probe(tmp_path, code)
    there(probe)
    child = int(os.read(probe.output, 99))
    probe.child._leash.close()  # what the end of a controller does to it
    until(lambda: not alive(child) and not psutil.pid_exists(probe.child.pid))
    os.close(probe.input)
    os.close(probe.output)


def test_children_outlive_their_template_and_are_still_seen_to_end(tmp_path):
    probe = Probe(tmp_path)
    there(probe)
    old = forks.template(probe.start.environment)
    os.kill(old.pid, signal.SIGKILL)
    until(lambda: not old.alive())
    assert probe.child.poll() is None
    fresh = Probe(tmp_path)  # from a new template
    assert probe.end() == forks.UNKNOWN_CODE
    there(fresh)
    assert forks.template(fresh.start.environment) is not old
    fresh.close()


def test_one_that_is_not_there_yet_can_be_stopped_and_taken_back(tmp_path):
    living = Probe(tmp_path)
    there(living)
    template = forks.template(living.start.environment)
    os.kill(template.pid, signal.SIGSTOP)
    stopped, ended = Probe(tmp_path), Probe(tmp_path)
    try:
        assert (stopped.child.pid, stopped.child.poll()) == (0, None)
        stopped.child.send_signal(signal.SIGSTOP)
        ended.child.kill()
        assert ended.child.poll() == -signal.SIGKILL
        ended.close()
    finally:
        os.kill(template.pid, signal.SIGCONT)
    pid = there(stopped)
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    stopped.child.send_signal(signal.SIGCONT)
    until(lambda: psutil.Process(pid).status() != psutil.STATUS_STOPPED)
    stopped.close()
    living.close()


def test_a_template_that_cannot_import_is_not_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(forks, "_shared", [])
    monkeypatch.setattr(forks, "_broken", set())
    (tmp_path / "torch.py").write_text("raise ImportError('broken')")
    probe = Probe(tmp_path)
    assert "the template has died" in refusal(probe)
    until(lambda: not forks._shared[0].alive())
    with pytest.raises(Refused, match="could not be started"):
        forks.template(probe.start.environment)
    forks.template({**probe.start.environment, "PYTHONPATH": str(ROOT)}).end()


BROOD = """
import subprocess, time
subprocess.Popen(["sleep", "600"], start_new_session=True)
print("on", flush=True)
time.sleep(600)
"""
KILLED = """
import os, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from ziggurat import processes
from ziggurat.launchers import forks
from ziggurat.launchers.child import Start

folder = Path(sys.argv[1])
reaper = processes.Reaper(processes.mark(folder))
children = []
for i in range(2):
    stdin, keep = os.pipe()
    out, stdout = os.pipe()
    children.append(forks.Forked(Start("probe", (), dict(os.environ), folder / "log", stdin, stdout)))
print(forks.template(os.environ).pid, flush=True)
while not all(child.pid for child in children):
    time.sleep(0.02)
os.read(out, 99)
os.kill(children[0].pid, 19)
print(*(child.pid for child in children), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("early", [True, False])
def test_nothing_outlives_a_killed_controller(tmp_path, early):
    (tmp_path / "probe.py").write_text(BROOD)
    controller = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), str(ROOT)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    template = int(controller.stdout.readline())
    if not early:
        pids = {int(pid) for pid in controller.stdout.readline().split()}
        found = {p.pid for p in processes.marked(f"{tmp_path}::")}
        assert pids < found, "both, one of them stopped, and what they have started"
    controller.kill()
    controller.wait()
    until(lambda: not alive(template))
    until(lambda: not processes.marked(f"{tmp_path}::"))
    controller.stdout.close()
