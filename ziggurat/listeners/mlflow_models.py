"""Logs a trained model to MLflow under the run of its trial, sees that it loads back, and registers it.

It runs where torch is loaded, in a worker, and not in the controller. It waits for MLflow as long as MLflow's
client does; the caller gives it a time limit.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ziggurat.domain import Measurement
from ziggurat.errors import ZigguratError
from ziggurat.listeners import mlflow_client, mlflow_words
from ziggurat.listeners.mlflow_client import RUN_ID, TRIAL, Place

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models.model import ModelInfo
    from torch import Tensor, nn

log = logging.getLogger(__name__)

FORMAT = "ziggurat.model_format"
AGREEMENT = "ziggurat.agreement"
NAME = "model"
EXAMPLES = 2
"""Examples kept with the model; two keep the number of examples open in the exported graph."""
SET_BY_MLFLOW = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")
"""Variables that MLflow's module sets, and that a user's program started later would heed."""
NO_PICKLE = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"


@dataclass(frozen=True)
class ModelEntry:
    """Which model is logged, and what it is called.

    Attributes:
        place: Where the runs are kept.
        run_id: The Ziggurat run.
        trial: Number of the trial whose model it is.
        registered_name: Name in the registry; None to log the model without registering it.
        alias: Alias that the new version gets; None for no alias.
        tags: Further tags of the version.
        description: What the version is, in a sentence.
        metrics: What is known of the model, to be shown with it.
    """

    place: Place
    run_id: str
    trial: int
    registered_name: str | None
    alias: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    metrics: tuple[Measurement, ...] = ()


@dataclass(frozen=True)
class Logged:
    """A model in MLflow.

    Attributes:
        uri: Address by which MLflow loads it.
        name: Name in the registry; None if it was not registered.
        version: Version in the registry; None likewise.
        format: `pt2`, or `pickle` for a model that torch cannot export.
        agreement: Share of examples for which the model that was loaded back names the same class; None if
            it was not loaded back.
    """

    uri: str
    name: str | None
    version: str | None
    format: str
    agreement: float | None = None


def log_model(model: nn.Module, examples: Tensor, entry: ModelEntry) -> Logged:
    """Log a model with its weights, its signature and an example, and register it as a version.

    A version of the same trial that is there already, from an attempt that was cut off, is taken as it is.

    Args:
        model: With its weights, on the CPU.
        examples: (n, *shape) inputs, n of 2 or more: the first are kept with the model, on all of them the
            model that is loaded back has to agree.
        entry: Which model it is.

    Raises:
        ZigguratError: The trial has no run in MLflow, or the model that is loaded back gives other answers.
    """
    client = mlflow_client.connect(entry.place)
    experiment = mlflow_client.experiment_id(client, entry.place)
    children = mlflow_client.find(client, experiment, entry.run_id)[1]
    if entry.trial not in children:
        raise ZigguratError(
            f"trial {entry.trial} of {entry.run_id} has no run in MLflow at {entry.place.shown}; "
            "mirror the run first (`ziggurat report` does it)"
        )
    found = _registered(client, entry)
    if found is None:
        with _at(entry.place, experiment):
            found = _log_and_register(client, model, examples, entry, children[entry.trial].run_id)
    if entry.alias is not None and found.name is not None and found.version is not None:
        client.set_registered_model_alias(found.name, entry.alias, found.version)
    return found


@contextmanager
def _at(place: Place, experiment: str) -> Iterator[None]:
    """Have MLflow's module log to a place while the block lasts, and leave no trace in the environment."""
    import mlflow

    before = {name: os.environ.get(name) for name in SET_BY_MLFLOW}
    mlflow.set_tracking_uri(place.uri)
    mlflow.set_registry_uri(place.uri)
    # otherwise the model goes to MLflow's default experiment, and its files into the working directory
    mlflow.set_experiment(experiment_id=experiment)
    try:
        yield
    finally:
        mlflow.set_registry_uri(None)  # type: ignore[arg-type]  # it is what unsets it
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _registered(client: MlflowClient, entry: ModelEntry) -> Logged | None:
    """The version of the same trial that is in the registry already."""
    if entry.registered_name is None:
        return None
    for version in client.search_model_versions(f"name = '{entry.registered_name}'"):
        tags = dict(version.tags)
        if tags.get(RUN_ID) == entry.run_id and tags.get(TRIAL) == str(entry.trial):
            source = str(version.source)
            return Logged(source, entry.registered_name, str(version.version), tags.get(FORMAT, ""))
    return None


def _log_and_register(
    client: MlflowClient, model: nn.Module, examples: Tensor, entry: ModelEntry, mlflow_run: str
) -> Logged:
    import mlflow

    # an exported graph needs none of our code to be loaded; pickle is for models that cannot be exported
    used = "pt2" if _exportable(model.eval(), examples[:EXAMPLES]) else "pickle"
    info = _log(model, examples[:EXAMPLES], mlflow_run, used)
    uri = str(info.model_uri)
    agreement = _agreement(uri, model, examples) if used == "pt2" else None
    client.set_tag(mlflow_run, FORMAT, used)
    _log_metrics(client, mlflow_run, str(info.model_id), entry.metrics)
    if entry.registered_name is None:
        return Logged(uri, None, None, used, agreement)
    tags = {RUN_ID: entry.run_id, TRIAL: str(entry.trial), FORMAT: used, **entry.tags}
    if agreement is not None:
        tags[AGREEMENT] = f"{round(agreement * len(examples))} of {len(examples)} examples"
    version = mlflow.register_model(uri, entry.registered_name, tags=tags)
    client.update_model_version(entry.registered_name, str(version.version), entry.description)
    return Logged(uri, entry.registered_name, str(version.version), used, agreement)


def _exportable(model: nn.Module, example: Tensor) -> bool:
    """Whether torch can export the model as a graph for any number of examples."""
    import torch

    try:
        torch.export.export(model, (example,), dynamic_shapes=[{0: torch.export.Dim.AUTO}])
    except Exception as error:  # noqa: BLE001 - torch raises many kinds
        log.warning(
            "torch cannot export the model (%s: %s); it is logged by pickle, to be loaded only if trusted",
            type(error).__name__,
            mlflow_client.first_line(error)[:160],
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


def _log_metrics(client: MlflowClient, mlflow_run: str, model: str, found: Sequence[Measurement]) -> None:
    """Show metrics with the model; those without a step MLflow has taken from its run itself."""
    from mlflow.entities import Metric

    now = mlflow_words.ms(time.time())
    learned = [m for m in found if m.step]
    metrics = [
        Metric(mlflow_words.name(m.metric), m.value, now, m.step or 0, model_id=model) for m in learned
    ]
    client.log_batch(mlflow_run, metrics)


def _agreement(uri: str, model: nn.Module, examples: Tensor) -> float:
    """The share of examples for which what MLflow gives back names the same class as the model.

    Raises:
        ZigguratError: The outputs are not the same.
    """
    import mlflow.pyfunc
    import numpy as np
    import torch

    with torch.no_grad():
        wanted = model(examples).detach().cpu().numpy()
    with _without_pickle():
        given = np.asarray(mlflow.pyfunc.load_model(uri).predict(examples.detach().cpu().numpy()))
    if given.shape != wanted.shape or not np.allclose(given, wanted, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ZigguratError(
            f"the model that MLflow gives back from {uri} gives other answers than the checkpoint; it is not "
            "registered"
        )
    return float((given.argmax(-1) == wanted.argmax(-1)).mean())


@contextmanager
def _without_pickle() -> Iterator[None]:
    """Have MLflow refuse whatever would have to be unpickled."""
    before = os.environ.get(NO_PICKLE)
    os.environ[NO_PICKLE] = "false"
    try:
        yield
    finally:
        os.environ.pop(NO_PICKLE)
        if before is not None:
            os.environ[NO_PICKLE] = before
