"""A process that uploads a file and is killed meanwhile."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from pathlib import Path
from ziggurat import stores
stores.open_url(sys.argv[1]).upload(Path(sys.argv[2]), sys.argv[3])
"""


def upload_killed_when(url: str, path: Path, key: str, condition: Callable[[], object]) -> None:
    """Upload in a process of its own and kill it by SIGKILL once a condition holds."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", CODE, url, str(path), key], env=environment) as process:
        try:
            condition()
            assert process.poll() is None, "the upload has ended before it could be killed"
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
