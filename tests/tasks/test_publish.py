"""Artifacts of a run on Prefect's page: what is asked of the server, how often, and what a dead one costs."""

import socket
import time
import uuid

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks import publish
from tasks.publish import Publisher
from tests.searched import searched
from tests.servers.answers import answering
from ziggurat.domain import RunStatus
from ziggurat.events import StageFinished, StageStarted

FLOW_RUN = "0f0c2b3a-0000-4000-8000-000000000000"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", FLOW_RUN)
    taken = searched(tmp_path)
    yield taken
    taken.close()


class Api:
    """As much of Prefect's API as artifacts need."""

    def __init__(self):
        self.there = {}

    def __call__(self, method, path, query, body):
        if path.endswith("/csrf-token"):
            return 422, {"detail": "CSRF protection is disabled."}
        if path.endswith("/artifacts/filter"):
            return 200, list(self.there.values())
        if method == "POST" and path.endswith("/artifacts/"):
            made = {**body, "id": str(uuid.uuid4())}
            self.there[made["id"]] = made
            return 201, made
        if method == "PATCH":
            self.there[path.rsplit("/", 1)[-1]].update(body)
            return 200, {}
        return 200, {}


@pytest.fixture
def api():
    shown = Api()
    with answering(shown) as server:
        url = f"http://127.0.0.1:{server.port}/api"
        with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
            yield shown, server


def of_artifacts(server):
    return [(method, path) for method, path, _ in server.asked if "/artifacts" in path]


def settled(publisher):
    assert publisher._idle.wait(20), "a round of calls ends"


def test_artifacts_are_made_once_and_changed_in_place(run, api):
    shown, server = api
    publisher = Publisher(run, every_s=0)
    publisher.tick(0.0)
    settled(publisher)
    kinds = sorted(a["type"] for a in shown.there.values())
    assert kinds == ["markdown", "progress", "table", "table"]
    assert all(a["flow_run_id"] == FLOW_RUN for a in shown.there.values())
    made = len(of_artifacts(server))
    assert made == 5, "one question what there is, and one call for each artifact"
    run.record([StageStarted("retrain"), StageFinished("retrain", "ok")])
    publisher.tick(1.0)
    settled(publisher)
    later = of_artifacts(server)[made:]
    assert {method for method, _ in later} == {"PATCH"}
    assert len(later) == 2, "the front and the outcome say the same as before"
    publisher.close()
    assert len(shown.there) == 4


def test_a_second_try_goes_on_with_the_artifacts_of_the_first(run, api):
    shown, _ = api
    for _ in range(2):
        publisher = Publisher(run)
        publisher.close()
    assert len(shown.there) == 4


def test_nothing_is_asked_while_nothing_happens_or_it_is_too_soon(run, api):
    _, server = api
    publisher = Publisher(run, every_s=20)
    publisher.tick(0.0)
    settled(publisher)
    before = len(server.asked)
    publisher.tick(100.0)  # nothing new
    run.record([StageStarted("retrain")])
    publisher.tick(100.0)
    settled(publisher)
    assert len(server.asked) > before, "something new, and it is time"
    before = len(server.asked)
    run.record([StageFinished("retrain", "ok")])
    publisher.tick(119.0)
    settled(publisher)
    assert len(server.asked) == before, "too soon"
    publisher.close()


def test_a_server_that_does_not_answer_never_holds_up_the_run(run, monkeypatch):
    monkeypatch.setattr(publish, "LAST_S", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
            publisher = Publisher(run, every_s=0)
            began = time.monotonic()
            for now in range(50):
                run.record([StageStarted("retrain")])
                publisher.tick(float(now))
            publisher.close()
            assert time.monotonic() - began < 15, "the first call alone would wait for a minute"
    publisher._thread.join(30)  # it notices that the server is gone


def test_after_three_failures_only_the_last_round_is_tried(run, caplog):
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        publisher = Publisher(run, every_s=0)
        for now in range(6):
            run.record([StageStarted("retrain")])
            publisher.tick(float(now))
            settled(publisher)
        assert sum("not up to date" in r.message for r in caplog.records) == publish.TIRED
        run.finish(RunStatus.COMPLETED)
        publisher.close()
        assert sum("not up to date" in r.message for r in caplog.records) == publish.TIRED + 1
