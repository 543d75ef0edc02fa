"""What people read of MLflow's errors, and the addresses of its pages."""

import json
from urllib.parse import parse_qs

import pytest

from ziggurat.listeners.mlflow_client import Place, runs_page, told

PLACE = Place("http://user:hunter2@host:5000/x?token=abc", "toy")
REFUSED = (
    "API request to http://user:hunter2@host:5000/api failed with exception HTTPConnectionPool(host='host'): "
    "Max retries exceeded (Caused by NewConnectionError('[Errno 111] Connection refused'))"
)
LOCKED = (
    "(raised as a result of autoflush; consider)\n(sqlite3.OperationalError) database is locked\n[SQL: x]"
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Exception(f"cannot reach {PLACE.uri}"), "Exception: cannot reach http://host:5000/x"),
        (OSError(111, "Connection refused"), "ConnectionRefusedError: [Errno 111] Connection refused"),
        (Exception(REFUSED), "no answer: Connection refused"),
        (
            Exception("API request to h failed with exception too many 503 error responses"),
            "no answer: too many 503 error responses",
        ),
        (Exception("API request to h failed with exception that nobody knows"), "no answer"),
        (Exception(LOCKED), "Exception: database is locked"),
        (Exception(""), "Exception: "),
    ],
)
def test_an_error_is_one_line_without_what_is_secret(error: Exception, words: str) -> None:
    assert told(error, PLACE) == words


def test_several_runs_are_set_side_by_side_and_a_single_one_is_opened() -> None:
    page, _, query = runs_page("7", ["a", "b"]).partition("?")
    assert page == "#/compare-runs"
    assert {k: json.loads(v[0]) for k, v in parse_qs(query).items()} == {
        "runs": ["a", "b"],
        "experiments": ["7"],
    }
    assert runs_page("7", ["a"]) == "#/experiments/7/runs/a"
