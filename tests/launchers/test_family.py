"""Whatever a worker has started stops, goes on and ends with it, wherever that has gone."""

import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from tests.real import until
from ziggurat.launchers.family import Family

WORKER = """
import os, subprocess, sys, time
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
names = {"child": subprocess.Popen(sleep, process_group=0).pid}  # as scripts are started


def orphan(leave):
    read, write = os.pipe()
    if os.fork() == 0:
        if leave:
            os.setsid()
        os.write(write, str(subprocess.Popen(sleep, process_group=None if leave else 0).pid).encode())
        os._exit(0)
    os.wait()
    return int(os.read(read, 20))


names["orphan"], names["runaway"] = orphan(False), orphan(True)
print(*names.values(), flush=True)
for line in sys.stdin:
    new = subprocess.Popen(sleep)
    print(new.pid, flush=True)
"""
BREEDER = """
import os, subprocess, sys, time
print("ready", flush=True)
sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
while True:  # every child leads a group of its own
    if os.fork() == 0:
        os.setpgid(0, 0)
        time.sleep(0.2)
        os._exit(0)
    time.sleep(0.002)
    while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
        pass
"""


class Worker:
    """A process that leads a session, as workers do."""

    def __init__(self, code):
        self.family = Family()
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, **self.family.environment},
        )  # fmt: skip
        self.pid = self.process.pid

    def numbers(self):
        return [int(word) for word in self.process.stdout.readline().split()]

    def close(self):
        os.kill(self.pid, signal.SIGSTOP)
        self.family.end(self.pid, everywhere=True)
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def start():
    made = []

    def begin(code=WORKER):
        made.append(Worker(code))
        return made[-1]

    yield begin
    for worker in made:
        worker.close()


def state(pid):
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "gone"
    return {psutil.STATUS_STOPPED: "stopped", psutil.STATUS_ZOMBIE: "gone"}.get(status, "runs")


def states(pids):
    return [state(pid) for pid in pids]


def test_children_orphans_and_runaways_stop_and_go_on(start):
    worker = start()
    pids = worker.numbers()
    os.kill(worker.pid, signal.SIGSTOP)
    worker.family.hold(worker.pid, everywhere=True)
    assert states([worker.pid, *pids]) == ["stopped"] * 4
    worker.family.let_go()
    assert states(pids) == ["runs"] * 3
    os.kill(worker.pid, signal.SIGCONT)


def test_only_those_that_were_stopped_here_go_on(start):
    worker = start()
    child, orphan, runaway = worker.numbers()
    os.kill(child, signal.SIGSTOP)
    until(lambda: state(child) == "stopped")
    os.kill(worker.pid, signal.SIGSTOP)
    worker.family.hold(worker.pid, everywhere=False)
    assert states([child, orphan, runaway]) == ["stopped", "stopped", "runs"]
    worker.family.let_go()
    assert states([child, orphan]) == ["stopped", "runs"]


def test_those_of_another_worker_are_left_alone(start):
    one, other = start(), start()
    mine, theirs = one.numbers(), other.numbers()
    os.kill(one.pid, signal.SIGSTOP)
    one.family.hold(one.pid, everywhere=True)
    assert states(theirs) == ["runs"] * 3
    one.family.end(one.pid, everywhere=True)
    assert states([*mine, *theirs]) == ["gone"] * 3 + ["runs"] * 3


def test_nobody_is_left_behind_a_worker_that_died_while_all_were_stopped(start):
    worker = start()
    pids = worker.numbers()
    os.kill(worker.pid, signal.SIGSTOP)
    worker.family.hold(worker.pid, everywhere=True)
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: state(worker.pid) == "gone")
    worker.family.end(worker.pid, everywhere=True)
    assert states(pids) == ["gone"] * 3


def test_one_that_starts_others_all_the_time_is_stopped_with_all_of_them(start):
    worker = start(f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {BREEDER!r}])")
    assert worker.process.stdout.readline() == "ready\n"
    for _ in range(5):
        os.kill(worker.pid, signal.SIGSTOP)
        worker.family.hold(worker.pid, everywhere=False)
        family = psutil.Process(worker.pid).children(recursive=True)
        assert {state(p.pid) for p in family} <= {"stopped", "gone"}
        worker.family.let_go()
        os.kill(worker.pid, signal.SIGCONT)
        threading.Event().wait(0.05)
