"""What MLflow is told of a run beside its events, without MLflow."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import real
from tests.support import LADDER, Story
from ziggurat import publishing
from ziggurat import spec as specs
from ziggurat.domain import Candidate
from ziggurat.history import History

RUNS = {"parent": "p", "experiment": "3", "trials": {"0": "a", "1": "b", "2": "c"}}


@pytest.mark.parametrize(
    ("plain", "shown"),
    [
        ({"alerts": {"urls": ["slack://T/x/y"]}}, {"alerts": {"urls": ["${ZIGGURAT_ALERTS_URLS_0}"]}}),
        ({"store": "s3://key:secret@bucket/x"}, {"store": "${ZIGGURAT_STORE}"}),
        ({"trainer": {"environment": {"API_KEY": "abc"}}},
         {"trainer": {"environment": {"API_KEY": "${ZIGGURAT_TRAINER_ENVIRONMENT_API_KEY}"}}}),
        ({"alerts": {"urls": ["${SLACK_URL}"]}}, {"alerts": {"urls": ["${SLACK_URL}"]}}),
        ({"space": {"choices": {"token_length": ["short", "long"]}}},
         {"space": {"choices": {"token_length": ["short", "long"]}}}),
        ({"a": 1, "b": None, "c": True, "d": "", "e": "https://host/x"},
         {"a": 1, "b": None, "c": True, "d": "", "e": "https://host/x"}),
    ],
)  # fmt: skip
def test_what_may_be_secret_becomes_a_variable_and_nothing_else_changes(plain: Any, shown: Any) -> None:
    assert publishing.without_secrets(plain) == shown


def test_a_spec_without_its_secrets_is_the_same_spec_once_they_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = real.create(tmp_path, real.plain(alerts={"urls": ["json://u:hunter2@127.0.0.1:9/x"]}))
    run.close()
    text = publishing.spec_text(run.folder)
    assert "hunter2" not in text
    monkeypatch.setenv("ZIGGURAT_ALERTS_URLS_0", "json://u:hunter2@127.0.0.1:9/x")
    path = tmp_path / "again.yaml"
    path.write_text(text)
    assert specs.read(path)[0].sha256() == run.spec.sha256()


def test_mlflow_is_told_of_dataset_and_settings(tmp_path: Path) -> None:
    run = real.create(tmp_path, real.plain(data={"kind": "external", "path": str(tmp_path), "classes": 10,
                                                 "shape": [64]}, **_scripted()))  # fmt: skip
    run.close()
    about = publishing.about(run.folder, run.spec)
    assert about.dataset == f"external {tmp_path.name}"
    assert yaml.safe_load(about.spec) == about.settings
    assert about.projected is not None
    assert about.projected(run.history) >= 0.0


def _scripted() -> dict[str, Any]:
    """A search of a script, which alone reads data of this kind."""
    script = {
        "kind": "script",
        "command": ["python", "x.py"],
        "metrics": {"val_accuracy": {"from": "stdout", "key": "acc"}},
    }
    space = {"kind": "parameters", "choices": {"lr": {"min": 0.1, "max": 1.0}}}
    search = {"trainer": script, "trials": 3, "workers": 1}
    objectives = [{"metric": "val_accuracy", "reference": 0.1}]
    return {"space": space, "search": search, "objectives": objectives, "retrain": {"enabled": False}}


def retrained(*accuracies: float) -> History:
    """A history with retrained models of different architectures."""
    story = Story(stage="retrain")
    for width, accuracy in enumerate(accuracies):
        number = story.propose(Candidate({"width": width}), {"parameters": 10.0})
        for _ in LADDER:
            story.finish(number, val_accuracy=accuracy)
    return story.history


@pytest.mark.parametrize(
    ("uri", "history", "server", "page"),
    [
        ("https://host/mlflow/", retrained(0.8, 0.9), "", "https://host/mlflow/#/compare-runs?runs=%5B%22b%22%2C"),
        ("https://host", retrained(0.8), "", "https://host/#/experiments/3/runs/a"),
        ("https://host", History(), "", "https://host/#/experiments/3/runs/p"),
        ("sqlite:////x/m.db", History(), "mlflow server --host 127.0.0.1 --port 5000 --backend-store-uri",
         "http://127.0.0.1:5000/#/experiments/3/runs/p"),
    ],
)  # fmt: skip
def test_the_page_of_the_finalists_is_named_exactly(
    tmp_path: Path, uri: str, history: History, server: str, page: str
) -> None:
    spec = specs.parse(real.plain(tracking={"uri": uri}), "test")
    (tmp_path / "mlflow.json").write_text(json.dumps(RUNS))
    found = publishing.look(tmp_path, spec, history)
    assert found[0].startswith(server)
    assert found[1].startswith(page)
    assert publishing.look_command(tmp_path, spec, history).endswith(f"open {found[1]}")


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"trials": 3}'])
def test_without_a_mirrored_run_the_server_alone_is_named(tmp_path: Path, content: str | None) -> None:
    spec = specs.parse(real.plain(tracking={"uri": "https://host"}), "test")
    if content is not None:
        (tmp_path / "mlflow.json").write_text(content)
    assert publishing.look(tmp_path, spec, History()) == ("", "https://host/")


def test_nothing_is_named_where_nothing_is_tracked(tmp_path: Path) -> None:
    spec = specs.parse(real.plain(), "test")
    assert publishing.look_command(tmp_path, spec, History()) == ""
    assert publishing.mirror_of(tmp_path, spec) is None
