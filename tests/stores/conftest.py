import subprocess
import uuid

import pytest

from tests.servers.flaky import in_front_of
from tests.servers.seaweed import WRITER
from ziggurat.stores import Bucket, Directory, DirectoryStore, S3Store


@pytest.fixture
def writer(monkeypatch):
    """The environment of somebody who may write; what else there is on this machine counts for nothing."""
    for name in ("PROFILE", "REGION", "DEFAULT_REGION", "SESSION_TOKEN", "ENDPOINT_URL", "ENDPOINT_URL_S3"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    for name, value in WRITER.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3(s3_server, writer):
    """Settings of a store on the real server, with a prefix of its own."""
    return S3Store(
        bucket=s3_server.bucket,
        prefix=f"team/{uuid.uuid4().hex[:12]}",
        endpoint=s3_server.endpoint,
        region=s3_server.region,
        part_size_mb=5,
        retry_s=30,
    )


@pytest.fixture(params=["directory", pytest.param("s3", marks=[pytest.mark.server, pytest.mark.s3])])
def setting(request, tmp_path):
    """Settings of every kind of store."""
    if request.param == "s3":
        return request.getfixturevalue("s3")
    return DirectoryStore(path=tmp_path / "a store")


@pytest.fixture
def store(setting):
    """The store of one run."""
    return setting.open("run-1")


@pytest.fixture
def flaky(s3_server):
    """A proxy in front of the real server."""
    with in_front_of(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def through(s3, flaky):
    """A store behind the proxy."""
    return Bucket(s3.model_copy(update={"endpoint": flaky.endpoint, "prefix": f"{s3.prefix}/run-1"}))


@pytest.fixture
def spoil(request):
    """Change what lies under a key behind the store's back, as a broken disk or machine might."""

    def damage(store, key, data):
        if isinstance(store, Directory):
            (store.root / key).write_bytes(data)
            return
        s3_server = request.getfixturevalue("s3_server")
        at = {"Bucket": s3_server.bucket, "Key": store._path(key)}
        client = s3_server.client()
        kept = client.head_object(**at)["Metadata"]
        client.put_object(**at, Body=data, Metadata=kept)

    return damage


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own that takes 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
