"""A Ray of its own: tests that need one run in a network namespace, since Ray listens on all addresses.

`in_namespace` runs a file of tests there; inside, `cluster` starts a head without processors, to which tests
add nodes. Nothing outside the namespace can reach it, and everything ends with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
INSIDE = "ZIGGURAT_TESTS_IN_NAMESPACE"
PATIENCE_S = 280.0
NAMESPACE = ("unshare", "-n", "-p", "-f", "--mount-proc", "--kill-child")
QUICK = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
"""A node that is gone is noticed in two seconds."""

TOY = """
import os, subprocess, sys, time
from pathlib import Path


class Seat:
    '''A seat as the library has them; what a key says is done, and written into the run directory.'''

    def __init__(self, run):
        self.run, self.asked, self.grace_s, self.done, self.notice = Path(run), None, None, 0, ""
        if not self.run.is_dir():
            raise FileNotFoundError(f"{run} holds no run")

    def warm(self):
        self.note("warm", os.getpid())

    def note(self, name, about):
        (self.run / name).write_text(str(about))

    def ask_to_stop(self, reason, grace_s=None):
        self.asked, self.grace_s = reason, grace_s

    def close(self):
        pass

    def do(self, key):
        what, _, name = key.partition("-")
        self.done += 1
        print("doing", key, flush=True)
        self.note(key, f"{os.getpid()} {self.done} {os.environ.get('COLOUR')}")
        return getattr(self, what)(key)

    def good(self, key):
        return True

    def bad(self, key):
        return False

    def odd(self, key):
        raise ValueError("an odd key")

    def crash(self, key):
        print("the last thing it said", flush=True)
        os.kill(os.getpid(), 11)
        time.sleep(60)

    def notified(self, key):
        self.notice = "the cloud takes the machine"
        return False

    def flood(self, key):
        for _ in range(3000):
            sys.stdout.write("x" * 999 + chr(10))
        print("after the flood", flush=True)
        return True

    def train(self, key):
        while self.asked is None:
            time.sleep(0.01)
        self.note(key + ".stopped", f"{self.asked}; {self.grace_s}")
        self.asked = None
        return False

    def deaf(self, key):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        self.note("child", child.pid)
        time.sleep(600)
"""


def why_not() -> str | None:
    """Why tests with Ray cannot run here; None if they can."""
    if importlib.util.find_spec("ray") is None:
        return 'needs Ray (pip install -e ".[ray]")'
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "needs unshare and ip (Debian: apt-get install util-linux iproute2)"
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, check=False)
    return f"needs a network namespace: {tried.stderr.strip()}" if tried.returncode else None


def in_namespace(tests: Path) -> subprocess.CompletedProcess[str]:
    """Run a file of tests where only they can reach the Ray that they start."""
    home = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: Ray's sockets lie below it
    (home / "ray").mkdir()
    environment = {
        **os.environ,
        INSIDE: "1",
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(home),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tests)]
    script = 'ip link set lo up; exec "$@"'
    try:
        return subprocess.run(
            [*NAMESPACE, "bash", "-c", script, "bash", *pytest],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """A head without processors, inside the namespace; nodes are added by `add_node` of what it gives."""
    assert os.environ.get(INSIDE), "a Ray that everybody can reach is not started"
    import ray
    from ray.cluster_utils import Cluster

    head: Mapping[str, Any] = {"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK}
    started = Cluster(initialize_head=True, head_node_args=dict(head))
    try:
        yield started
    finally:
        ray.shutdown()
        started.shutdown()
