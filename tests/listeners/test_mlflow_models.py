"""Logging and registering a model with a real MLflow on SQLite."""

from pathlib import Path
from typing import Any

import pytest

from ziggurat.errors import ZigguratError
from ziggurat.listeners import Tracking, mlflow_client
from ziggurat.listeners.mlflow_client import Place
from ziggurat.listeners.mlflow_mirror import MlflowMirror
from ziggurat.listeners.mlflow_models import ModelEntry, log_best_model

pytestmark = pytest.mark.slow


@pytest.fixture
def finished(run: Any, place: Place, tmp_path: Path) -> Any:
    """A mirrored run with one trial."""
    run.run_id = tmp_path.name
    run.begin()
    run.propose(0)
    run.train(0)
    run.end()
    mirror = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
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
    entry = ModelEntry(place, finished.run_id, 0, "toy", "candidate", (("team", "a"),))
    logged = log_best_model(network, example, entry)
    assert (logged.version, logged.format) == ("1", "pt2")
    back = mlflow.pytorch.load_model("models:/toy@candidate")
    more = torch.cat([example, example])
    assert torch.allclose(back(more), network.eval()(more))
    client = mlflow_client.connect(place)
    version = client.get_model_version_by_alias("toy", "candidate")
    assert version.tags["ziggurat.trial"] == "0"
    assert version.tags["team"] == "a"
    child = mlflow_client.find(client, "1", finished.run_id)[1][0]
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

    entry = ModelEntry(place, finished.run_id, 0, None, "candidate")
    logged = log_best_model(Branching(4, 3), torch.ones(3, 4), entry)
    assert (logged.version, logged.format) == (None, "pickle")
    assert "cannot export" in caplog.text
    client = mlflow_client.connect(place)
    child = mlflow_client.find(client, "1", finished.run_id)[1][0]
    assert client.get_run(child).data.tags["ziggurat.model_format"] == "pickle"


def test_a_trial_without_a_run_in_mlflow_is_named(finished: Any, place: Place) -> None:
    import torch
    from torch import nn

    entry = ModelEntry(place, finished.run_id, 9, "toy", "candidate")
    with pytest.raises(ZigguratError, match=f"trial 9 of {finished.run_id}"):
        log_best_model(nn.Linear(1, 1), torch.ones(2, 1), entry)
