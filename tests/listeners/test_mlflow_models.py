"""Logging and registering a model with a real MLflow on SQLite."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ziggurat.errors import ZigguratError
from ziggurat.listeners import Tracking, mlflow_client
from ziggurat.listeners.mlflow_about import About
from ziggurat.listeners.mlflow_client import Place
from ziggurat.listeners.mlflow_mirror import MlflowMirror
from ziggurat.listeners.mlflow_models import ModelEntry, log_model

pytestmark = pytest.mark.slow


@pytest.fixture
def finished(run: Any, place: Place, tmp_path: Path) -> Any:
    """A mirrored run with one trial."""
    run.run_id = tmp_path.name
    run.begin()
    run.propose(0)
    run.train(0)
    run.end()
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    mirror.replay(run.events)
    assert mirror.close(60) == 0
    return run


def test_the_best_model_can_be_loaded_by_its_alias_without_our_code(
    finished: Any, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import torch
    from torch import nn

    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))
    example = torch.linspace(-1, 1, 12).reshape(3, 4)
    entry = ModelEntry(place, finished.run_id, 0, "toy", "candidate", {"team": "a"})
    logged = log_model(network, example, entry)
    assert (logged.version, logged.format) == ("1", "pt2")
    assert not {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"} & set(os.environ)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.uri)
    back = mlflow.pytorch.load_model("models:/toy@candidate")
    more = torch.cat([example, example])
    assert torch.allclose(back(more), network.eval()(more))
    client = mlflow_client.connect(place)
    version = client.get_model_version_by_alias("toy", "candidate")
    assert version.tags["ziggurat.trial"] == "0"
    assert version.tags["team"] == "a"
    assert version.tags["ziggurat.agreement"] == "3 of 3 examples"
    child = mlflow_client.find(client, "1", finished.run_id)[1][0].run_id
    assert client.get_run(child).info.status == "FINISHED"
    assert client.get_run(child).data.tags["ziggurat.model_format"] == "pt2"
    signature = mlflow.models.get_model_info(logged.uri).signature
    assert signature.inputs.inputs[0].shape == (-1, 4)
    assert list(tmp_path.glob("mlruns")) == []


def test_a_model_that_cannot_be_exported_is_logged_by_pickle_and_says_so(
    finished: Any, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    import torch
    from torch import nn

    class Branching(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x) if x.sum().item() > 0 else -super().forward(x)

    entry = ModelEntry(place, finished.run_id, 0, None)
    logged = log_model(Branching(4, 3), torch.ones(3, 4), entry)
    assert (logged.version, logged.format) == (None, "pickle")
    assert "cannot export" in caplog.text
    client = mlflow_client.connect(place)
    child = mlflow_client.find(client, "1", finished.run_id)[1][0].run_id
    assert client.get_run(child).data.tags["ziggurat.model_format"] == "pickle"


def test_a_trial_without_a_run_in_mlflow_is_named(finished: Any, place: Place) -> None:
    import torch
    from torch import nn

    entry = ModelEntry(place, finished.run_id, 9, "toy", "candidate")
    with pytest.raises(ZigguratError, match=f"trial 9 of {finished.run_id}"):
        log_model(nn.Linear(1, 1), torch.ones(2, 1), entry)


def test_a_model_is_registered_once_however_often_it_is_tried(finished: Any, place: Place) -> None:
    import torch
    from torch import nn

    entry = ModelEntry(place, finished.run_id, 0, "twice", "candidate", description="a line")
    network, example = nn.Linear(4, 3), torch.ones(3, 4)
    first, second = log_model(network, example, entry), log_model(network, example, entry)
    assert (first.version, second.version, second.name) == ("1", "1", "twice")
    assert mlflow_client.connect(place).get_model_version("twice", "1").description == "a line"


def test_a_model_is_read_back_without_unpickling_and_compared(
    finished: Any, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import torch
    from torch import nn

    network = nn.Sequential(nn.Linear(4, 3))
    entry = ModelEntry(place, finished.run_id, 0, "other", "candidate")
    given = mlflow.pyfunc.load_model

    def forgetful(uri: str) -> Any:
        assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
        return SimpleNamespace(predict=lambda x: given(uri).predict(x) + 1)

    monkeypatch.setattr(mlflow.pyfunc, "load_model", forgetful)
    with pytest.raises(ZigguratError, match="gives other answers"):
        log_model(network, torch.linspace(-1, 1, 12).reshape(3, 4), entry)
    assert not mlflow_client.connect(place).search_model_versions("name = 'other'")
    assert "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" not in os.environ
