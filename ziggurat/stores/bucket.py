"""A store in a bucket, under a prefix.

Each object carries its SHA-256, and a token of whoever wrote it, by which a writer that never heard of its
success knows it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from ziggurat.stores import drafts, faults, key_rules, s3_transfer
from ziggurat.stores.base import ABSENT, STALE_S, ConflictError, Entry, StoreError

if TYPE_CHECKING:
    from ziggurat.stores.s3 import S3Store

T = TypeVar("T")
CHECK_S = 10.0
"""Seconds at most for which a check tries again."""
BATCH = 1000
"""Keys that one request may delete."""


class Bucket:
    """The store of one run in a bucket, under a prefix."""

    def __init__(self, setting: S3Store) -> None:
        """Nothing is reached for yet."""
        self._setting = setting
        self._clients: dict[int, Any] = {}

    @property
    def url(self) -> str:
        """Where it is, as `open_url` takes it; without secrets."""
        plain = self._setting.model_dump(exclude_defaults=True, exclude={"kind", "bucket", "prefix"})
        query = f"?{urlencode(plain)}" if plain else ""
        return f"s3://{self._setting.bucket}/{quote(self._setting.prefix)}{query}"

    def __str__(self) -> str:
        at = f" at {self._setting.endpoint}" if self._setting.endpoint else ""
        return f"store s3://{self._setting.bucket}/{self._setting.prefix}{at}"

    def check(self) -> None:
        """Write, read back and delete something small, and see that nothing is overwritten unasked."""
        quick = Bucket(self._setting.model_copy(update={"retry_s": min(self._setting.retry_s, CHECK_S)}))
        key = f"{key_rules.RESERVED}/check-{uuid.uuid4().hex}"
        if quick._get(f"{key}-absent") is not None:
            raise StoreError(f"{self}: it holds what was never written; check store.endpoint")
        version = quick._put(key, b"check", only_if=ABSENT)
        found = quick._get(key)
        if found != (b"check", version):
            raise StoreError(f"{self}: what was written reads back otherwise; check store.endpoint")
        for condition, words in ((ABSENT, "If-None-Match"), ("0" * 32, "If-Match")):
            try:
                quick._put(key, b"other", only_if=condition)
            except ConflictError:
                continue
            raise StoreError(
                f"{self}: the server ignores {words}, so two controllers could write one run; use a server "
                "with conditional writes"
            )
        next(quick.entries("nothing/"), None)
        quick._delete([key])

    def put(self, key: str, data: bytes, *, only_if: str | None = None) -> str:
        """Write a small thing and return its version."""
        return self._put(key_rules.checked(key), data, only_if=only_if)

    def _put(self, key: str, data: bytes, *, only_if: str | None = None) -> str:
        """Write, recognising a success that this writer never heard of by its token."""
        sha256, token = hashlib.sha256(data), uuid.uuid4().hex
        condition = {} if only_if is None else _condition(only_if)
        ours = self._meta(sha256.hexdigest(), token)

        def call(client: Any) -> Any:  # noqa: ANN401 - boto3 has no types
            return client.put_object(
                **self._at(key),
                **ours,
                **condition,
                Body=data,
                ChecksumSHA256=base64.b64encode(sha256.digest()).decode(),
            )

        with self._told("written", key):
            try:
                return _etag(self._call(call))
            except Exception as error:
                if not condition or not _conflicting(error):
                    raise
                there = self._head(key)
                if there is not None and there.get("Metadata", {}).get(s3_transfer.TOKEN) == token:
                    return _etag(there)
                raise ConflictError(f"{self}: somebody else has written '{key}' first") from None

    def _head(self, key: str) -> Mapping[str, Any] | None:
        """What a server tells of an object without its content; None if it is not there."""
        return self._unless_absent(lambda client: client.head_object(**self._at(key)))

    def get(self, key: str) -> tuple[bytes, str] | None:
        """A small thing and its version; None if it is not there."""
        return self._get(key_rules.checked(key))

    def _get(self, key: str) -> tuple[bytes, str] | None:
        def call(client: Any) -> Any:  # noqa: ANN401 - boto3 has no types
            answer = client.get_object(**self._at(key))
            return {**answer, "data": answer["Body"].read()}

        with self._told("read", key):
            found = self._unless_absent(call)
        if found is None:
            return None
        data: bytes = found["data"]
        self._verify(key, hashlib.sha256(data).hexdigest(), found)
        return data, _etag(found)

    def upload(self, path: Path, key: str) -> None:
        """Write a file of any size, with a checksum that is verified."""
        part_size = self._setting.part_size_mb << 20
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size <= part_size:
                    data = file.read()
                    sha256 = ""
                else:
                    sha256 = drafts.copy(file)
        except OSError as error:
            raise faults.disk(error, f"{path}", f"it cannot be read for '{key}'") from None
        if not sha256:
            self.put(key, data)
            return
        ours = self._meta(sha256, uuid.uuid4().hex)
        whole = s3_transfer.Whole(path, sha256, part_size, self._setting.threads)
        with self._told("written", key_rules.checked(key)):
            s3_transfer.send(self._call, self._at(key), ours, whole)

    def download(self, key: str, path: Path) -> bool:
        """Read into a file, which is there whole or not at all; False if the key is not there."""
        key_rules.checked(key)
        try:
            with drafts.draft(path.parent) as (file, name):
                into = s3_transfer.Into(file)
                with self._told("read", key):
                    found = s3_transfer.fetch(self._call, self._at(key), into)
                if found is None:
                    return False
                self._verify(key, into.sha256, found)
                drafts.flush(file)
                name.replace(path)
                drafts.sync_folder(path.parent)
                return True
        except OSError as error:
            raise faults.disk(error, str(self), f"'{key}' cannot be read into {path}") from None

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """What lies under keys with a prefix, in the order of the key_rules."""
        found: list[Entry] = []
        for page in self._pages(prefix):
            for thing in page.get("Contents", []):
                key = self._key(thing["Key"])
                if key and not key_rules.fault(key):
                    found.append(Entry(key, int(thing["Size"]), _etag(thing)))
        # servers that keep folders list them in an order of their own
        yield from sorted(found, key=lambda e: e.key)

    def folders(self) -> list[str]:
        """Names of the folders one level down, in order."""
        found = [
            self._key(thing["Prefix"]).rstrip("/")
            for page in self._pages("", Delimiter="/")
            for thing in page.get("CommonPrefixes", [])
        ]
        return sorted(name for name in found if not name.startswith(".") and not key_rules.fault(name))

    def _pages(self, prefix: str, **more: str) -> Iterator[Mapping[str, Any]]:
        asked = {"Bucket": self._setting.bucket, "Prefix": self._path(prefix), **more}
        while True:
            with self._told("listed", prefix):
                page = self._call(lambda client: client.list_objects_v2(**asked))
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, keys: Iterable[str]) -> None:
        """Remove things; what is not there is no error."""
        self._delete([key_rules.checked(key) for key in keys])

    def _delete(self, all_keys: list[str]) -> None:
        for begin in range(0, len(all_keys), BATCH):
            batch = [{"Key": self._path(key)} for key in all_keys[begin : begin + BATCH]]

            def call(client: Any, batch: list[dict[str, str]] = batch) -> None:  # noqa: ANN401
                wanted = {"Objects": batch, "Quiet": True}
                answer = client.delete_objects(Bucket=self._setting.bucket, Delete=wanted)
                s3_transfer.raise_first(answer.get("Errors", []))

            with self._told("deleted", all_keys[begin]):
                self._call(call)

    def tidy(self, older_s: float = STALE_S) -> int:
        """Give up uploads in parts that killed processes have left, if older than that; how many."""
        with self._told("tidied", ""):
            return s3_transfer.tidy(self._call, self._setting.bucket, self._path(""), older_s)

    def utc(self) -> float | None:
        """The server's time, as it stands in its answers."""
        asked = {"Bucket": self._setting.bucket, "Prefix": self._path("nothing/"), "MaxKeys": 1}
        with self._told("listed", ""):
            answer = self._call(lambda client: client.list_objects_v2(**asked))
        told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        return None if told is None else parsedate_to_datetime(told).timestamp()

    def _path(self, key: str) -> str:
        return f"{self._setting.prefix}/{key}" if self._setting.prefix else key

    def _key(self, path: str) -> str:
        """The key of a path in the bucket; nothing if it is none."""
        begin = self._path("")
        return path[len(begin) :] if path.startswith(begin) else ""

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._setting.bucket, "Key": self._path(key)}

    def _meta(self, sha256: str, token: str) -> dict[str, Any]:
        """What is kept with an object, and how it is encrypted."""
        found: dict[str, Any] = {"Metadata": {s3_transfer.SHA256: sha256, s3_transfer.TOKEN: token}}
        if self._setting.sse:
            found["ServerSideEncryption"] = self._setting.sse
        if self._setting.kms_key:
            found["SSEKMSKeyId"] = self._setting.kms_key
        return found

    def _verify(self, key: str, sha256: str, answer: Mapping[str, Any]) -> None:
        wanted = answer.get("Metadata", {}).get(s3_transfer.SHA256, sha256)
        if wanted != sha256:
            raise faults.damaged(str(self), key)

    def _call(self, call: Callable[[Any], T]) -> T:
        """Call with the client, and again while what fails may pass."""
        client = self._client()
        return faults.again(lambda: call(client), self._setting.retry_s, str(self))

    def _unless_absent(self, call: Callable[[Any], T]) -> T | None:
        try:
            return self._call(call)
        except Exception as error:
            if faults.answer_of(error)[0] in faults.ABSENT_CODES:
                return None
            raise

    def _client(self) -> Any:  # noqa: ANN401 - boto3 has no types
        """The client, made when it is first needed; threads share it, forked processes do not."""
        mine = os.getpid()
        if mine not in self._clients:
            self._clients[mine] = s3_transfer.connect(self._setting)
        return self._clients[mine]

    @contextmanager
    def _told(self, deed: str, key: str) -> Iterator[None]:
        """Turn errors of botocore into one line."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, faults.Passing, ConnectionError, TimeoutError) as error:
            text = faults.refused(
                error,
                deed,
                bucket=self._setting.bucket,
                prefix=self._path(""),
                seconds=self._setting.retry_s,
            )
            what = f"'{key}' cannot be {deed}" if key else f"it cannot be {deed}"
            raise StoreError(f"{self}: {what}: {text}") from None


def _condition(only_if: str) -> dict[str, str]:
    return {"IfNoneMatch": "*"} if only_if == ABSENT else {"IfMatch": f'"{only_if}"'}


def _conflicting(error: BaseException) -> bool:
    """Whether a condition was not met; after all tries, another writer in the middle of it counts as well."""
    code, status = faults.answer_of(error)
    return status in {faults.CONFLICT, 409} or code == "NoSuchKey"


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer["ETag"]).strip('"')
