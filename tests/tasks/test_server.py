"""Prefect's embedded server as `ziggurat run` starts it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import signal
signal.signal(signal.SIGINT, lambda *_: None)
from tasks import server
server.start()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # an ended server is to vanish rather than be a zombie
print("up", flush=True)
input()
"""
LONG_ENOUGH_S = 6.0
"""Seconds in which an interrupted server is gone, even on a busy machine."""


@pytest.mark.server
@pytest.mark.soak
def test_an_interrupt_from_the_keyboard_does_not_end_the_embedded_server() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        servers = psutil.Process(process.pid).children()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        gone, alive = psutil.wait_procs(servers, timeout=LONG_ENOUGH_S)
        assert (len(gone), len(alive)) == (0, 1)
        process.communicate("\n", timeout=60)
        assert psutil.wait_procs(servers, timeout=LONG_ENOUGH_S)[1] == []
    finally:
        process.kill()
        process.wait()
