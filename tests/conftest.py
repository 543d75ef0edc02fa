"""What all tests share: an environment that reaches nothing outside, a free port, and skips that say why."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers.mailbox import hook, mailbox  # noqa: F401 - fixtures
from tests.servers.postgres import postgres, programs  # noqa: F401 - a fixture
from tests.servers.prefect import prefect_server  # noqa: F401 - a fixture
from tests.servers.seaweed import s3_server  # noqa: F401 - a fixture
from tests.servers.slurm import slurm_server  # noqa: F401 - a fixture

# Set on import: torch and Prefect read their environment when test modules import them.
_PREFECT_HOME = Path(tempfile.mkdtemp(prefix="ziggurat-tests-prefect-"))
for _name in ("MLFLOW_TRACKING_URI", "PREFECT_API_KEY", "PREFECT_API_URL", "PREFECT_PROFILE"):
    os.environ.pop(_name, None)
os.environ.update(
    OMP_NUM_THREADS="1",
    PREFECT_HOME=str(_PREFECT_HOME),
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",  # by default 20 s, too short on two busy cores
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="true",
    MPLBACKEND="Agg",
)

# the first call of a property imports libraries, so no call has a deadline
settings.register_profile("ziggurat", deadline=None, max_examples=50)
settings.load_profile("ziggurat")

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def pytest_unconfigure() -> None:
    """Remove Prefect's home of this process."""
    shutil.rmtree(_PREFECT_HOME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs PostgreSQL where its programs are missing."""
    if programs() is not None:
        return
    skip = pytest.mark.skip(reason="needs PostgreSQL's programs (Debian: apt-get install postgresql)")
    for item in items:
        if item.get_closest_marker("postgres"):
            item.add_marker(skip)


@pytest.fixture
def free_port() -> int:
    """A TCP port on loopback that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def fashion_mnist() -> Path:
    """Folder with Fashion-MNIST as gzipped IDX files."""
    if not (FASHION_MNIST / "train-images-idx3-ubyte.gz").exists():
        pytest.skip("needs Fashion-MNIST (Debian: apt-get install dataset-fashion-mnist)")
    return FASHION_MNIST
