"""Settings and URLs of stores: what may be written, what is carried, and that no secret is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ziggurat.stores import AnyStore, Bucket, Checkpoints, Directory, StoreError, is_url, key_rules, open_url

STORE = TypeAdapter(AnyStore)
S3 = {"kind": "s3", "bucket": "experiments"}


def test_url_carries_all_that_is_not_usual():
    plain = {
        **S3,
        "prefix": "/team a/nas/",
        "endpoint": "http://127.0.0.1:8333/",
        "region": "eu-west-1",
        "part_size_mb": 64,
        "sse": "aws:kms",
        "kms_key": "arn:aws:kms:eu-west-1:1:key/2",
        "retry_s": 0.5,
        "addressing": "virtual",
    }
    setting = STORE.validate_python(plain)
    url = setting.url("run-1")
    assert url.startswith(
        "s3://experiments/team%20a/nas/run-1?endpoint=http%3A%2F%2F127.0.0.1%3A8333&region="
    )
    again = open_url(url)
    assert again._setting == setting.model_copy(update={"prefix": "team a/nas/run-1"})
    assert again.url == url


def test_url_without_options_is_short():
    assert STORE.validate_python(S3).url("run-1") == "s3://experiments/run-1"


def test_urls_as_people_write_them_are_understood():
    store = open_url("s3://bucket/prefix/run?endpoint=http://127.0.0.1:8333&region=us-east-1")
    assert isinstance(store, Bucket)
    assert str(store) == "store s3://bucket/prefix/run at http://127.0.0.1:8333"
    assert open_url("/shared/run 1").url == "file:///shared/run%201"
    assert open_url("file:///shared/run%201").root == Path("/shared/run 1")
    assert is_url("s3://a/b")
    assert not is_url("/a/b")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://key:s3cr3t@bucket/run", "s3://bucket/run: the URL holds credentials; leave them out"),
        ("s3://bucket/run?secret_key=s3cr3t", "unknown key 'secret_key' in the URL; known"),
        ("s3://bucket/run?regio=eu", "did you mean region"),
        ("s3://bucket/run?endpoint=http://me:s3cr3t@host", "endpoint holds credentials"),
        ("s3://bucket/run?endpoint=host:1", "give a URL such as http://"),
        ("s3://bucket/../run", "has an empty part, '.' or '..'"),
        ("s3://b/run", "bucket"),
        ("gs://bucket/run", "'gs://bucket/run' names no store; give s3://BUCKET"),
        ("runs/1", "names no store"),
        ("file://host/path", "names no store"),
        ("https://me:s3cr3t@host/x", "names no store"),
    ],
)
def test_url_that_is_none_is_one_line_without_secrets(url, words):
    with pytest.raises(StoreError) as caught:
        open_url(url)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_a_url_or_a_path_stands_for_settings():
    assert STORE.validate_python("s3://bucket/team?region=eu-west-1") == STORE.validate_python(
        {"kind": "s3", "bucket": "bucket", "prefix": "team", "region": "eu-west-1"}
    )
    assert STORE.validate_python("/shared/x").path == Path("/shared/x")
    assert STORE.validate_python("file:///shared/x").path == Path("/shared/x")
    with pytest.raises(ValidationError, match="'gs://' is not known; give s3://BUCKET/PREFIX"):
        STORE.validate_python("gs://bucket")
    with pytest.raises(ValidationError, match="unknown key 'regio'"):
        STORE.validate_python("s3://bucket/team?regio=eu")


@pytest.mark.parametrize(
    "changes",
    [
        {"bucket": "a/b"},
        {"prefix": "../up"},
        {"endpoint": "http://me:secret@host"},
        {"endpoint": "ftp://host"},
        {"part_size_mb": 1},
        {"kms_key": "x"},
        {"access_key": "x"},
        {"retry_s": -1},
    ],
)
def test_settings_that_cannot_be_are_refused(changes):
    with pytest.raises(ValidationError):
        STORE.validate_python({**S3, **changes})


@pytest.mark.parametrize("path", ["", "/", "."])
def test_directory_needs_a_name(path):
    with pytest.raises(ValidationError):
        STORE.validate_python({"kind": "directory", "path": path})


def test_relative_directory_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = STORE.validate_python({"kind": "directory", "path": "store"}).open("run")
    assert isinstance(store, Directory)
    assert store.url == f"file://{tmp_path}/store/run"


@pytest.mark.parametrize("run_id", ["", "..", "a/../..", "/etc"])
def test_run_that_leads_elsewhere_is_refused(run_id, tmp_path):
    for setting in (S3, {"kind": "directory", "path": str(tmp_path)}):
        with pytest.raises(StoreError):
            STORE.validate_python(setting).open(run_id)


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["a", "..", ".", "", "/", "b.c", "~"]), max_size=6).map("/".join)
)
def test_allowed_keys_stay_below_their_folder(key):
    folder = Path("/base/folder")
    if key_rules.fault(key):
        with pytest.raises(StoreError):
            key_rules.below(folder, key)
        return
    path = Path(os.path.normpath(key_rules.below(folder, key)))
    assert path.is_relative_to(folder)
    assert path.relative_to(folder).as_posix() == key


def test_settings_import_no_library_of_amazon():
    heavy = ("boto3", "botocore", "stamina")
    code = f"import sys, ziggurat.stores; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_checkpoints_are_swept_by_default():
    assert Checkpoints().keep == "last_and_best"
