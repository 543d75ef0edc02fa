"""What passes between here and S3: requests, large files in parts, downloads that go on where they broke.

An upload in parts is there when its last request has succeeded, and before that not at all.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ziggurat.stores import drafts, faults
from ziggurat.stores.base import StoreError

if TYPE_CHECKING:
    from ziggurat.stores.s3 import S3Store

Call = Callable[[Callable[[Any], Any]], Any]
"""Calls a function with the client, again while what fails may pass."""
SHA256, TOKEN = "ziggurat-sha256", "ziggurat-token"
"""Names under which they are kept with an object."""
MOST_PARTS = 10_000
RESTARTS = 5
CONNECT_S = 10.0


@dataclass(frozen=True)
class Whole:
    """A large file to be sent.

    Attributes:
        path: Where it is.
        sha256: Its checksum in hexadecimal.
        part_size: Bytes of a part, if that is not too many parts.
        threads: Parts that are sent at the same time.
    """

    path: Path
    sha256: str
    part_size: int
    threads: int


@dataclass
class Into:
    """A file that is being received."""

    file: IO[bytes]
    offset: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    first: Mapping[str, Any] | None = None

    @property
    def sha256(self) -> str:
        """Checksum of what has come so far."""
        return str(self.digest.hexdigest())

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self.file.write(chunk)
        self.digest.update(chunk)
        self.offset += len(chunk)

    def restart(self) -> None:
        """Forget what has come."""
        self.file.seek(0)
        self.file.truncate()
        self.offset, self.digest, self.first = 0, hashlib.sha256(), None


def connect(setting: S3Store) -> Any:  # noqa: ANN401 - boto3 has no types
    """A client that itself tries everything once; credentials come from boto3's own chain."""
    import boto3
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=min(CONNECT_S, setting.timeout_s),
        read_timeout=setting.timeout_s,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=max(10, setting.threads),
        s3={"addressing_style": setting.addressing or ("path" if setting.endpoint else "auto")},
        # checksums are given and verified here, which servers other than Amazon's take as well
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        core = botocore.session.Session()
        core.register_component("data_loader", _loader())
        session = boto3.session.Session(botocore_session=core, region_name=setting.region)
        region = session.region_name or ("us-east-1" if setting.endpoint else None)
        return session.client("s3", region_name=region, endpoint_url=setting.endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        text = faults.BOTOCORE.get(type(error).__name__, faults.said(error))
        raise StoreError(f"store s3://{setting.bucket}: {text}") from None


@cache
def _loader() -> Any:  # noqa: ANN401 - botocore has no types
    """Descriptions of the service, which take most of the time of making a client; read once."""
    import botocore.session

    return botocore.session.Session().get_component("data_loader")


def send(call: Call, at: Mapping[str, Any], ours: Mapping[str, Any], whole: Whole) -> None:
    """Send a file in parts, several at a time; what cannot be completed is given up and leaves nothing.

    Args:
        call: Makes a request.
        at: Bucket and key.
        ours: Metadata and encryption of the object.
        whole: The file.
    """
    begun = call(lambda c: c.create_multipart_upload(**at, **ours, ChecksumAlgorithm="SHA256"))
    upload = {**at, "UploadId": begun["UploadId"]}
    try:
        parts = _send_parts(call, upload, whole)
        _complete(call, upload, parts, ours["Metadata"][TOKEN])
    except BaseException:
        _give_up(call, upload)
        raise


def _send_parts(call: Call, upload: Mapping[str, Any], whole: Whole) -> list[dict[str, Any]]:
    """Send all parts; no more are in memory than are on their way."""
    size = max(whole.part_size, math.ceil(whole.path.stat().st_size / MOST_PARTS))
    parts: list[dict[str, Any]] = []
    waiting: deque[Future[dict[str, Any]]] = deque()
    digest = hashlib.sha256()
    with ThreadPoolExecutor(whole.threads, "upload") as pool, whole.path.open("rb") as file:
        try:
            for number in range(1, MOST_PARTS + 1):
                data = file.read(size)
                if not data:
                    break
                digest.update(data)
                if len(waiting) >= whole.threads:
                    parts.append(waiting.popleft().result())
                waiting.append(pool.submit(_send_part, call, upload, number, data))
            parts += [w.result() for w in waiting]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if digest.hexdigest() != whole.sha256:
        raise StoreError(f"{whole.path}: it changed while it was uploaded; upload it when it is whole")
    return parts


def _send_part(call: Call, upload: Mapping[str, Any], number: int, data: bytes) -> dict[str, Any]:
    checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
    answer = call(lambda c: c.upload_part(**upload, PartNumber=number, Body=data, ChecksumSHA256=checksum))
    return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}


def _complete(call: Call, upload: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], token: str) -> None:
    """Make the parts one object; a success that was never heard of is known by its token."""
    at = {name: upload[name] for name in ("Bucket", "Key")}
    try:
        call(lambda c: c.complete_multipart_upload(**upload, MultipartUpload={"Parts": list(parts)}))
    except Exception as error:
        if faults.answer_of(error)[0] != "NoSuchUpload":
            raise
        there = call(lambda c: c.head_object(**at))
        if there.get("Metadata", {}).get(TOKEN) != token:
            raise


def _give_up(call: Call, upload: Mapping[str, Any]) -> None:
    """Have the server forget the parts; what cannot be reached now is tidied up later."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _abort(call, upload)
    except (BotoCoreError, ClientError, OSError) as error:
        faults.log.warning("the parts of an interrupted upload are left there (%s)", faults.said(error))


def fetch(call: Call, at: Mapping[str, Any], into: Into) -> Mapping[str, Any] | None:
    """Receive an object, going on where a connection broke; None if it is not there.

    Tries are counted anew whenever something has come, so a long download may break often.
    """
    restarts = 0
    while True:
        before = into.offset
        try:
            call(lambda client: _receive(client, at, into))
            return into.first
        except Exception as error:
            code, status = faults.answer_of(error)
            if code in faults.ABSENT_CODES:
                return None
            if status == faults.CONFLICT and restarts < RESTARTS:
                restarts += 1
                into.restart()  # it was replaced meanwhile
            elif not faults.passes(error) or into.offset == before:
                raise


def _receive(client: Any, at: Mapping[str, Any], into: Into) -> None:  # noqa: ANN401 - boto3 has no types
    rest: dict[str, str] = {}
    if into.first is not None:
        if into.offset >= int(into.first["ContentLength"]):
            return
        rest = {"Range": f"bytes={into.offset}-", "IfMatch": into.first["ETag"]}
    answer = client.get_object(**at, **rest)
    if into.first is None:
        into.first = answer
    for chunk in answer["Body"].iter_chunks(drafts.CHUNK):
        into.add(chunk)
    if into.offset < int(into.first["ContentLength"]):
        raise faults.Passing("the answer ended too early")


def raise_first(errors: Sequence[Mapping[str, str]]) -> None:
    """Raise the first of the refusals that one request has met."""
    from botocore.exceptions import ClientError

    for error in errors:
        if error.get("Code") not in faults.ABSENT_CODES:
            status = 403 if error.get("Code") == "AccessDenied" else 500
            answer = {"Error": dict(error), "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, "DeleteObjects")


def tidy(call: Call, bucket: str, prefix: str, older_s: float) -> int:
    """Give up uploads in parts that have begun longer ago than that; how many there were."""
    limit = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(seconds=older_s)
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    count = 0
    while True:
        page = call(partial(_uploads, asked=dict(asked)))
        for upload in page.get("Uploads", []):
            if upload["Initiated"] < limit and upload["Key"].startswith(prefix):
                _abort(call, {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]})
                count += 1
        if not page.get("IsTruncated"):
            return count
        asked |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _uploads(client: Any, asked: Mapping[str, Any]) -> Any:  # noqa: ANN401 - boto3 has no types
    return client.list_multipart_uploads(**asked)


def _abort(call: Call, upload: Mapping[str, Any]) -> None:
    call(lambda c: c.abort_multipart_upload(**upload))
