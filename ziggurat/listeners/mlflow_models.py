"""Logs a trained model to MLflow under the run of its trial, and registers it.

It runs where torch is loaded, in a worker, and not in the controller. It waits for MLflow as long as MLflow's
client does; the caller gives it a time limit.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.errors import ZigguratError
from ziggurat.listeners import mlflow_client
from ziggurat.listeners.mlflow_client import RUN_ID, TRIAL, Place

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo
    from torch import Tensor, nn

log = logging.getLogger(__name__)

FORMAT = "ziggurat.model_format"
NAME = "model"


@dataclass(frozen=True)
class ModelEntry:
    """Which model is logged, and what it is called.

    Attributes:
        place: Where the runs are kept.
        run_id: The Ziggurat run.
        trial: Number of the trial whose model it is.
        registered_name: Name in the registry; None to log the model without registering it.
        alias: Alias that the new version gets.
        tags: Further tags of the version.
    """

    place: Place
    run_id: str
    trial: int
    registered_name: str | None
    alias: str
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Logged:
    """A model in MLflow.

    Attributes:
        uri: Address by which MLflow loads it.
        version: Version in the registry; None if it was not registered.
        format: `pt2`, or `pickle` for a model that torch cannot export.
    """

    uri: str
    version: str | None
    format: str


def log_best_model(model: nn.Module, example: Tensor, entry: ModelEntry) -> Logged:
    """Log a model with its weights, its signature and an example, and give its version the alias.

    Args:
        model: With its weights, on the CPU.
        example: (n, *shape) inputs; n of 2 or more keeps the number of examples open in the exported model.
        entry: Which model it is.

    Raises:
        ZigguratError: The trial has no run in MLflow.
    """
    import mlflow

    client = mlflow_client.connect(entry.place)
    experiment = mlflow_client.experiment_id(client, entry.place)
    children = mlflow_client.find(client, experiment, entry.run_id)[1]
    if entry.trial not in children:
        raise ZigguratError(
            f"trial {entry.trial} of {entry.run_id} has no run in MLflow at {entry.place.shown}; "
            "mirror the run first (`ziggurat report` does it)"
        )
    mlflow.set_tracking_uri(entry.place.uri)
    mlflow.set_registry_uri(entry.place.uri)
    # otherwise the model goes to MLflow's default experiment, and its files into the working directory
    mlflow.set_experiment(experiment_id=experiment)
    # an exported graph needs none of our code to be loaded; pickle is for models that cannot be exported
    used = "pt2" if _exportable(model.eval(), example) else "pickle"
    info = _log(model, example, children[entry.trial], used)
    client.set_tag(children[entry.trial], FORMAT, used)
    if entry.registered_name is None:
        return Logged(str(info.model_uri), None, used)
    version = mlflow.register_model(
        str(info.model_uri),
        entry.registered_name,
        tags={RUN_ID: entry.run_id, TRIAL: str(entry.trial), FORMAT: used, **dict(entry.tags)},
    )
    client.set_registered_model_alias(entry.registered_name, entry.alias, str(version.version))
    return Logged(str(info.model_uri), str(version.version), used)


def _exportable(model: nn.Module, example: Tensor) -> bool:
    """Whether torch can export the model as a graph for any number of examples."""
    import torch

    try:
        torch.export.export(model, (example,), dynamic_shapes=[{0: torch.export.Dim.AUTO}])
    except Exception as error:  # noqa: BLE001 - torch raises many kinds
        log.warning(
            "torch cannot export the model (%s: %s); it is logged by pickle, to be loaded only if trusted",
            type(error).__name__,
            next(iter(str(error).splitlines()), "")[:160],
        )
        return False
    return True


def _log(model: nn.Module, example: Tensor, mlflow_run: str, form: str) -> ModelInfo:
    import mlflow.pytorch
    import torch
    from mlflow.models import Model, infer_signature

    inputs = example.detach().cpu().numpy()
    with torch.no_grad():
        outputs = model(example).detach().cpu().numpy()
    # with the run's id, so that its state and times stay what they are
    info: ModelInfo = Model.log(
        artifact_path=None,
        name=NAME,
        flavor=mlflow.pytorch,
        run_id=mlflow_run,
        pytorch_model=model,
        signature=infer_signature(inputs, outputs),
        input_example=inputs,
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}", "mlflow"],
        serialization_format=form,
    )
    return info
