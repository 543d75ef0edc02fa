"""What is special about S3: errors that are told, what is tried again, and what a killed upload leaves."""

import http.server
import multiprocessing
import random
import socket
import threading
import time

import pytest

from tests.real import until
from tests.servers.seaweed import READER, STRANGER, WRITER, User
from tests.stores.kills import upload_killed_when
from ziggurat.stores import ABSENT, Bucket, ConflictError, StoreError

pytestmark = [pytest.mark.server, pytest.mark.s3]
MB = 1 << 20


def noise(size):
    return random.Random(0).randbytes(size)


def become(monkeypatch, user):
    for name, value in user.environment().items():
        monkeypatch.setenv(name, value)


def complaint(call, *words):
    """The one line with which a call fails; it holds some words and no secret."""
    with pytest.raises(StoreError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for user in (WRITER, READER, STRANGER):
        assert user.secret not in text
    for word in words:
        assert word in text
    return text


def every(store, tmp_path):
    """All that a store does."""
    big = tmp_path / "big"
    big.write_bytes(noise(6 * MB))
    return {
        "check": store.check,
        "put": lambda: store.put("key", b"x"),
        "create": lambda: store.put("key", b"x", only_if=ABSENT),
        "get": lambda: store.get("key"),
        "upload": lambda: store.upload(big, "key"),
        "download": lambda: store.download("key", tmp_path / "into" / "file"),
        "entries": lambda: list(store.entries()),
        "folders": store.folders,
        "delete": lambda: store.delete(["key"]),
        "tidy": store.tidy,
    }


@pytest.mark.parametrize(
    ("user", "words"),
    [
        (STRANGER, "the secret key is wrong; check AWS_SECRET_ACCESS_KEY"),
        (User("nobody-there", "x"), "the access key is not known there; check AWS_ACCESS_KEY_ID"),
    ],
)
def test_wrong_credentials_are_one_line_for_all_that_a_store_does(s3, monkeypatch, tmp_path, user, words):
    become(monkeypatch, user)
    for call in every(s3.open("run"), tmp_path).values():
        complaint(call, s3.bucket, s3.endpoint, words)


def test_missing_bucket_is_named_by_all_that_a_store_does(s3, tmp_path):
    store = s3.model_copy(update={"bucket": "nobody-made-this"}).open("run")
    words = "there is no bucket 'nobody-made-this'; create it, or correct store.bucket"
    for call in every(store, tmp_path).values():
        complaint(call, words, s3.endpoint)


def test_missing_right_is_named_with_what_it_is_needed_for(s3, monkeypatch, tmp_path):
    s3.open("run").put("key", b"x")
    become(monkeypatch, READER)
    store = s3.open("run")
    calls = every(store, tmp_path)
    where = f"arn:aws:s3:::{s3.bucket}/{s3.prefix}/run/*"
    complaint(calls["put"], f"'key' cannot be written: access denied; grant s3:PutObject on {where}")
    complaint(calls["upload"], f"'key' cannot be written: access denied; grant s3:PutObject on {where}")
    complaint(calls["delete"], f"'key' cannot be deleted: access denied; grant s3:DeleteObject on {where}")
    complaint(store.check, "access denied; grant s3:PutObject")
    assert store.get("key")[0] == b"x"
    assert [e.key for e in store.entries()] == ["key"]


def test_nothing_that_cannot_pass_is_tried_again(through, flaky, monkeypatch):
    become(monkeypatch, READER)
    complaint(lambda: through.put("key", b"x"), "access denied")
    assert len(flaky.seen) == 1


def test_credentials_that_are_missing_are_asked_for(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    complaint(s3.open("run").check, "no credentials were found; set AWS_ACCESS_KEY_ID")


def test_profile_that_is_missing_is_told(s3, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    complaint(s3.open("run").check, "AWS_PROFILE names a profile that is not there")


def test_endpoint_that_nobody_listens_on_is_tried_for_the_time_given(s3, free_port):
    endpoint = f"http://127.0.0.1:{free_port}"
    store = s3.model_copy(update={"endpoint": endpoint, "retry_s": 1.0}).open("run")
    began = time.monotonic()
    complaint(lambda: store.put("key", b"x"), "after 1 s; check store.endpoint and the network", endpoint)
    assert 1.0 <= time.monotonic() - began < 20


def test_endpoint_that_never_answers_is_given_up(s3):
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        changes = {"endpoint": endpoint, "retry_s": 0.0, "timeout_s": 0.3}
        complaint(lambda: s3.model_copy(update=changes).open("run").get("key"), "Read timeout", endpoint)


def test_endpoint_that_is_no_s3_server_is_told(s3, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        store = s3.model_copy(update={"endpoint": endpoint}).open("run")
        complaint(store.check, "check")
        complaint(lambda: list(store.entries()), "check")
        server.shutdown()


def test_scheme_that_is_wrong_is_told(s3):
    store = s3.model_copy(update={"endpoint": s3.endpoint.replace("http:", "https:")}).open("run")
    complaint(store.check, "no encrypted connection could be made; check the scheme of store.endpoint")


def test_what_is_throttled_is_tried_again(through, flaky, caplog):
    flaky.busy = 3
    version = through.put("key", b"x")
    assert through.get("key") == (b"x", version)
    assert len(flaky.seen) == 5
    told = [r.getMessage() for r in caplog.records if r.name.startswith("ziggurat")]
    assert len(told) == 1
    assert "503 SlowDown" in told[0]
    assert "trying again for up to 30 s" in told[0]


def test_what_is_throttled_for_too_long_is_told(through, flaky):
    flaky.busy = 1000
    short = Bucket(through._setting.model_copy(update={"retry_s": 0.5}))
    complaint(lambda: short.put("key", b"x"), "it answers 503 SlowDown", "after 0.5 s")


def test_create_whose_success_was_never_heard_of_is_a_success(through, flaky):
    flaky.deaf, flaky.only = 1, lambda method, path: method == "PUT"
    version = through.put("key", b"mine", only_if=ABSENT)
    assert through.get("key") == (b"mine", version)
    assert [m for m, _ in flaky.seen] == ["PUT", "PUT", "HEAD", "GET"]


def test_replacement_whose_success_was_never_heard_of_is_a_success(through, flaky):
    old = through.put("key", b"old")
    flaky.deaf = 1
    version = through.put("key", b"mine", only_if=old)
    assert through.get("key") == (b"mine", version)


def test_create_of_equal_content_by_somebody_else_is_no_success(through, flaky, s3):
    s3.open("run-1").put("key", b"same")
    flaky.deaf = 1
    with pytest.raises(ConflictError):
        through.put("key", b"same", only_if=ABSENT)


def test_parts_that_are_lost_are_sent_again(through, flaky, tmp_path):
    content = noise(17 * MB)
    (tmp_path / "file").write_bytes(content)
    flaky.busy, flaky.only = 2, lambda method, path: "partNumber" in path
    through.upload(tmp_path / "file", "key")
    assert through.download("key", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_upload_whose_last_answer_was_lost_is_there(through, flaky, tmp_path):
    (tmp_path / "file").write_bytes(noise(6 * MB))
    flaky.deaf, flaky.only = 1, _finishing
    through.upload(tmp_path / "file", "key")
    assert through.download("key", tmp_path / "back")


def _finishing(method, path):
    return method == "POST" and "uploadId" in path


def test_upload_that_was_finished_unheard_is_known_by_its_token(through, flaky, tmp_path):
    """As by servers that forget an upload as soon as it is complete."""
    (tmp_path / "file").write_bytes(noise(6 * MB))
    flaky.deaf, flaky.only = 1, _finishing
    flaky.gone, flaky.hold = 1, lambda *it: _finishing(*it) and sum(_finishing(*s) for s in flaky.seen) == 2
    through.upload(tmp_path / "file", "key")
    assert through.download("key", tmp_path / "back")


def test_upload_that_somebody_else_gave_up_is_an_error(through, flaky, tmp_path):
    (tmp_path / "file").write_bytes(noise(6 * MB))
    through.upload(tmp_path / "file", "key")
    flaky.gone, flaky.hold = 1, _finishing
    complaint(lambda: through.upload(tmp_path / "file", "key"), "'key' cannot be written", "NoSuchUpload")


def test_download_goes_on_where_it_broke(through, flaky, tmp_path):
    content = noise(12 * MB)
    (tmp_path / "file").write_bytes(content)
    through.upload(tmp_path / "file", "key")
    flaky.broken = 3
    assert through.download("key", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert flaky.ranges == [f"bytes={n}-" for n in (6 * MB, 9 * MB, 21 * MB // 2)]


def test_download_begins_again_if_the_object_was_replaced(through, flaky, tmp_path):
    old, new = noise(6 * MB), noise(7 * MB)[::-1]
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    through.upload(tmp_path / "old", "key")
    flaky.broken, flaky.held = 1, 1
    flaky.hold = lambda method, path: flaky.seen.count(("GET", path)) == 2
    reader = threading.Thread(target=through.download, args=("key", tmp_path / "back"))
    reader.start()
    until(lambda: sum(m == "GET" for m, _ in flaky.seen) == 2)
    through.upload(tmp_path / "new", "key")
    flaky.release.set()
    reader.join(60)
    assert (tmp_path / "back").read_bytes() == new


def test_failed_upload_leaves_nothing_behind(through, flaky, tmp_path, s3_server):
    (tmp_path / "file").write_bytes(noise(12 * MB))
    flaky.busy, flaky.only = 1000, lambda method, path: "partNumber=2" in path
    short = Bucket(through._setting.model_copy(update={"retry_s": 0.3}))
    complaint(lambda: short.upload(tmp_path / "file", "key"), "'key' cannot be written", "503 SlowDown")
    assert through.get("key") is None
    at = {"Bucket": s3_server.bucket, "Prefix": through._path("")}
    assert not s3_server.client().list_multipart_uploads(**at).get("Uploads")


def test_file_that_changes_while_it_is_sent_is_refused(through, flaky, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(noise(40 * MB))
    flaky.held, flaky.hold = 1, lambda method, path: "partNumber=1&" in path
    short = Bucket(through._setting.model_copy(update={"threads": 1}))
    errors = []

    def upload():
        try:
            short.upload(path, "key")
        except StoreError as error:
            errors.append(str(error))

    sender = threading.Thread(target=upload)
    sender.start()
    until(lambda: any("partNumber=1" in p for _, p in flaky.seen))
    with path.open("r+b") as file:
        file.seek(30 * MB)
        file.write(b"changed")
    flaky.release.set()
    sender.join(60)
    assert errors == [f"{path}: it changed while it was uploaded; upload it when it is whole"]
    assert through.get("key") is None


@pytest.mark.parametrize("before", [None, b"what was there before"])
def test_kill_in_mid_upload_leaves_nothing_half_visible(through, flaky, tmp_path, s3_server, before):
    if before is not None:
        through.put("key", before)
    path = tmp_path / "file"
    path.write_bytes(noise(40 * MB))
    flaky.held, flaky.hold = 8, lambda method, path: "partNumber=" in path and "partNumber=1&" not in path
    url = through.url
    upload_killed_when(
        url, path, "key", lambda: until(lambda: sum("partNumber=" in p for _, p in flaky.seen) > 2)
    )
    at = {"Bucket": s3_server.bucket, "Prefix": through._path("")}
    client = s3_server.client()
    assert len(client.list_multipart_uploads(**at)["Uploads"]) == 1, "the kill came too early or too late"
    found = through.get("key")
    assert (found and found[0]) == before
    assert [e.key for e in through.entries()] == ([] if before is None else ["key"])
    assert through.download("key", tmp_path / "back") == (before is not None)
    assert through.tidy() == 0
    assert through.tidy(-5) == 1
    assert not client.list_multipart_uploads(**at).get("Uploads")
    found = through.get("key")
    assert (found and found[0]) == before


def test_uploads_of_other_runs_are_not_tidied(s3, s3_server):
    client = s3_server.client()
    other = f"{s3.prefix}/run-10/key"
    begun = client.create_multipart_upload(Bucket=s3.bucket, Key=other)
    assert s3.open("run-1").tidy(-5) == 0
    client.abort_multipart_upload(Bucket=s3.bucket, Key=other, UploadId=begun["UploadId"])


def test_full_disk_is_told_by_a_download(s3, small_disk, tmp_path):
    (tmp_path / "file").write_bytes(noise(3 * MB))
    store = s3.open("run")
    store.upload(tmp_path / "file", "key")
    complaint(
        lambda: store.download("key", small_disk / "back"), "'key' cannot be read into", "the disk is full"
    )
    assert list(small_disk.iterdir()) == []


def test_keys_of_others_that_lead_elsewhere_are_not_listed(s3, s3_server):
    client, store = s3_server.client(), s3.open("run")
    store.put("good", b"x")
    for name in ("folder/", "line\nbreak", ".ziggurat/x"):
        client.put_object(Bucket=s3.bucket, Key=f"{s3.prefix}/run/{name}", Body=b"")
    assert [e.key for e in store.entries()] == ["good"]


def test_objects_of_others_can_be_read(s3, s3_server, tmp_path):
    s3_server.client().put_object(Bucket=s3.bucket, Key=f"{s3.prefix}/run/key", Body=b"by hand")
    assert s3.open("run").get("key")[0] == b"by hand"
    assert s3.open("run").download("key", tmp_path / "back")


def test_forked_process_has_connections_of_its_own(s3):
    store = s3.open("run")
    store.put("key", b"x")
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=lambda n=n: store.put(f"child-{n}", b"x")) for n in range(2)]
    for child in children:
        child.start()
    store.put("parent", b"x")
    for child in children:
        child.join(60)
    assert [e.key for e in store.entries()] == ["child-0", "child-1", "key", "parent"]
    assert len(store._clients) == 1


def test_server_verifies_what_arrives(through, s3_server):
    """A checksum goes with every request, so that a server refuses what was damaged on the way."""
    through.put("key", b"x")
    told = s3_server.client().get_object(
        Bucket=s3_server.bucket, Key=through._path("key"), ChecksumMode="ENABLED"
    )
    assert told["ChecksumSHA256"] == "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE="
