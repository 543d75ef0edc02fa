"""URLs of stores: they carry everything that another machine needs, except credentials."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import ValidationError

from ziggurat.errors import near
from ziggurat.stores.base import StoreError
from ziggurat.stores.bucket import Bucket
from ziggurat.stores.directory import Directory
from ziggurat.stores.s3 import S3Store

_PARTS = frozenset({"kind", "bucket", "prefix"})


def is_url(text: str) -> bool:
    """Whether a text names a store rather than a path."""
    return "://" in text


def open_url(url: str) -> Directory | Bucket:
    """The store that a URL or an absolute path names.

    Args:
        url: `s3://bucket/prefix/run?endpoint=...&region=...`, with any other key of a store's settings;
            `file:///path/run`, or a path.

    Raises:
        StoreError: It is no such URL.
    """
    if url.startswith("s3://"):
        return Bucket(s3_setting(url))
    path = unquote(urlsplit(url).path) if url.startswith("file://") else url
    if "://" in path or not Path(path).is_absolute() or (url.startswith("file://") and urlsplit(url).netloc):
        shown = url.partition("?")[0].rpartition("@")[2]
        raise StoreError(f"'{shown}' names no store; give s3://BUCKET/PREFIX/RUN, file:///PATH or /PATH")
    return Directory(Path(path))


def s3_setting(url: str) -> S3Store:
    """The settings that an `s3://` URL stands for.

    Raises:
        StoreError: It is not well formed, or carries credentials.
    """
    parts = urlsplit(url)
    shown = f"s3://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if "@" in parts.netloc:
        raise StoreError(f"{shown}: the URL holds credentials; leave them out and set AWS_ACCESS_KEY_ID")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = S3Store.model_fields.keys() - _PARTS
    for name in query:
        if name not in known:
            raise StoreError(f"{shown}: unknown key '{name}' in the URL; {near(name, sorted(known))}")
    try:
        return S3Store.model_validate({"bucket": parts.netloc, "prefix": unquote(parts.path), **query})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(p) for p in first["loc"])
        raise StoreError(f"{shown}: {name}: {first['msg'].removeprefix('Value error, ')}") from None


def written_out(raw: object) -> object:
    """What a validator does with `store: s3://...` or `store: /path`: it stands for the settings."""
    if not isinstance(raw, str):
        return raw
    if raw.startswith("s3://"):
        try:
            return s3_setting(raw).model_dump(exclude_defaults=True) | {"kind": "s3"}
        except StoreError as error:
            raise ValueError(str(error)) from None
    path = unquote(urlsplit(raw).path) if raw.startswith("file://") else raw
    if "://" in path:
        raise ValueError(f"'{path.partition('://')[0]}://' is not known; give s3://BUCKET/PREFIX, or a path")
    return {"kind": "directory", "path": path}
