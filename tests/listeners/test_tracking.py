"""Settings of tracking."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ziggurat.listeners import Tracking


def test_default_is_an_absolute_sqlite_file_in_the_directory_of_runs() -> None:
    address = Tracking().address(Path("runs"))
    assert address == f"sqlite:///{Path.cwd()}/runs/mlflow.db"


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_a_folder_is_refused_in_one_line_that_names_the_cure(uri: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Tracking(uri=uri)
    message = caught.value.errors()[0]["msg"]
    assert "sqlite:///" in message
    assert "\n" not in message


def test_an_unknown_scheme_is_refused_without_repeating_the_password() -> None:
    with pytest.raises(ValidationError) as caught:
        Tracking(uri="ftp://user:hunter2@host/x")
    message = caught.value.errors()[0]["msg"]
    assert "'ftp:'" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5000", "postgresql+psycopg2://u:p@h/db", "databricks", "sqlite:///x.db"]
)
def test_addresses_that_mlflow_takes_are_taken(uri: str) -> None:
    assert Tracking(uri=uri).address(Path("runs")) == uri


def test_only_a_database_needs_a_folder_for_artifacts() -> None:
    assert Tracking(uri="http://host:5000").artifact_root(Path("runs")) is None
    root = Tracking().artifact_root(Path("/data/runs"))
    assert root == "file:///data/runs/mlartifacts"


@pytest.mark.parametrize(
    ("alias", "words"),
    [("champion", "`ziggurat promote` gives"), ("latest", "MLflow keeps"), ("v3", "MLflow keeps")],
)
def test_no_run_gives_an_alias_that_others_give(alias: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Tracking(alias=alias)


def test_register_is_the_key_in_yaml() -> None:
    assert Tracking.model_validate({"register": False}).register_model is False
