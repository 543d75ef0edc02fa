"""What surrounds a run: each check made to fail, with its cure."""

import shutil
import sqlite3
import subprocess
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.real import plain
from ziggurat import spec
from ziggurat.checks import Check
from ziggurat.errors import SpecError
from ziggurat.stages import surroundings

Usage = namedtuple("Usage", "total used free")


def parsed(**changes):
    return spec.parse(plain(**changes), "test")


def tracked(tmp_path, uri):
    (check,) = surroundings.tracking(parsed(tracking={"uri": uri}), tmp_path)
    return check


@pytest.mark.parametrize(
    ("free_mb", "size", "ok", "cure"),
    [
        (100, 0.0, False, "make at least 200 MB free"),
        (1000, 200.0, None, "make room, or keep fewer with checkpoints.keep"),
        (1000, 1.0, True, ""),
    ],
)
def test_a_full_disk_is_told(tmp_path, monkeypatch, free_mb, size, ok, cure):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free_mb * 1e6))
    check = surroundings.disk(tmp_path, size, 10)
    assert (check.name, check.ok, check.cure) == ("disk", ok, cure)


def test_a_channel_that_apprise_cannot_use_fails():
    with pytest.raises(SpecError, match=r"alerts\.urls\[0\]"):
        surroundings.alerts(parsed(alerts={"urls": ["nonsense://x"]}))
    assert surroundings.alerts(parsed())[0].text.startswith("no channel")


def test_old_prices_are_told(monkeypatch):
    monkeypatch.setattr(surroundings.table_prices, "aged", lambda *_: ["launcher.price is 31 days old"])
    (check,) = surroundings.prices(parsed())
    assert (check.name, check.ok) == ("prices", None)
    assert "ziggurat prices refresh" in check.cure


class Server:
    """Answers every request with one status."""

    def __init__(self, status, body):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def answering():
    """Starts servers."""
    started = []

    def start(status, body="{}"):
        started.append(Server(status, body))
        return started[-1].uri

    yield start
    for server in started:
        server.server.shutdown()
        server.server.server_close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_tracking_server_that_knows_us_not_is_told_apart(tmp_path, answering, status):
    check = tracked(tmp_path, answering(status, "You are not authenticated."))
    assert check.ok is None
    assert "refuses the credentials" in check.text
    assert check.cure.startswith("set MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN")


def test_a_tracking_server_that_is_none_is_told(tmp_path, answering):
    check = tracked(tmp_path, answering(200, "<html>hello</html>"))
    assert check.ok is None
    assert "does not answer" in check.text


def test_nobody_at_the_address_of_the_tracking_server_is_a_warning(tmp_path, free_port, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    check = tracked(tmp_path, f"http://127.0.0.1:{free_port}")
    assert check.ok is None
    assert f"127.0.0.1:{free_port} does not answer" in check.text
    assert check.cure == "start the server or correct the address; until then events are kept and replayed"


def test_a_server_with_the_experiment_or_without_passes(tmp_path, answering):
    body = '{"experiment": {"experiment_id": "1", "name": "small", "lifecycle_stage": "%s"}}'
    assert "'small' is there" in tracked(tmp_path, answering(200, body % "active")).text
    missing = answering(404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}')
    assert "'small' will be made" in tracked(tmp_path, missing).text
    deleted = tracked(tmp_path, answering(200, body % "deleted"))
    assert (deleted.ok, "restore it or choose another" in deleted.text) == (None, True)


def test_a_database_is_opened_and_a_new_one_not_made(tmp_path):
    file = tmp_path / "mlflow.db"
    assert tracked(tmp_path, f"sqlite:///{file}").text == f"MLflow in a new sqlite database, {file}"
    assert not file.exists()
    sqlite3.connect(file).execute("create table experiments (name text)").connection.commit()
    assert tracked(tmp_path, f"sqlite:///{file}").text == "MLflow in a sqlite database with MLflow's tables"
    file.write_bytes(b"no database at all, but a text file")
    broken = tracked(tmp_path, f"sqlite:///{file}")
    assert broken.ok is None
    assert "not a database" in broken.text
    (tmp_path / "plain").write_text("a file", encoding="utf-8")
    assert tracked(tmp_path, f"sqlite:///{tmp_path}/plain/mlflow.db").ok is None


def test_a_password_in_the_address_is_not_repeated(tmp_path, free_port):
    check = tracked(tmp_path, f"postgresql+psycopg2://me:geheim@127.0.0.1:{free_port}/mlflow")
    assert check.ok is None
    assert "geheim" not in check.text + check.cure


def test_a_driver_that_is_missing_is_told(tmp_path):
    check = tracked(tmp_path, "mssql+nosuchdriver://127.0.0.1/mlflow")
    assert check.ok is None
    assert "does not answer" in check.text


def test_the_cause_is_what_came_first():
    error = RuntimeError("many words about it")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert surroundings.cause(error) == "ConnectionRefusedError: [Errno 111] Connection refused"


def test_checks_that_wait_are_made_side_by_side():
    meeting = threading.Barrier(3, timeout=20)

    def look(name):
        def found():
            meeting.wait()  # each waits for all
            return [Check(name, True, "met")]

        return found

    with surroundings.together({n: look(n) for n in "abc"}) as asked:
        found = asked.found()
    assert [(c.name, c.ok) for c in found] == [("a", True), ("b", True), ("c", True)]
    assert all(c.seconds > 0 for c in found)


def test_what_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(surroundings, "PATIENCE_S", 0.05)
    never = threading.Event()
    with surroundings.together({"store": lambda: [Check("store", never.wait(20), "late")]}) as asked:
        (check,) = asked.found()
        never.set()
    assert (check.name, check.ok, check.text) == ("store", None, "no answer within 0.05 s")


def test_an_error_of_one_check_is_a_finding():
    def fails():
        raise SpecError("store.bucket: no such bucket; make it")

    with surroundings.together({"store": fails, "alerts": lambda: [Check("alerts", True, "none")]}) as asked:
        assert [(c.name, c.ok) for c in asked.found()] == [("store", False), ("alerts", True)]


def git(folder, *words):
    names = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *names, *words], check=True, capture_output=True)


def test_the_commit_of_the_users_code_is_noted_and_changes_are_told(tmp_path):
    own = parsed(data={"kind": "python", "function": "mine:load"})
    (tmp_path / "mine.py").write_text("x = 1\n", encoding="utf-8")
    (check,), facts = surroundings.reproducible(own, tmp_path)
    assert (check.ok, facts["commit"]) == (None, "")
    assert "in no git repository" in check.text
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    (check,), facts = surroundings.reproducible(own, tmp_path)
    assert (check.ok, len(facts["commit"]), facts["changed"]) == (True, 40, False)
    (tmp_path / "mine.py").write_text("x = 2\n", encoding="utf-8")
    (check,), facts = surroundings.reproducible(own, tmp_path)
    assert (check.ok, facts["changed"]) == (None, True)
    assert "differs from commit" in check.text
    assert check.cure.startswith("commit it")


def test_without_code_of_the_user_versions_and_seed_are_enough(tmp_path):
    (check,), facts = surroundings.reproducible(parsed(seed=7), tmp_path)
    assert check.ok is True
    assert facts["seed"] == 7
    assert facts["version.torch"]
