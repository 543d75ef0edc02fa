"""MLflow's client as the mirror and a worker that logs a model use it: quiet, impatient and imported late.

It finds the runs that belong to a Ziggurat run by their tags. It keeps nothing and retries nothing.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ziggurat.listeners.tracking import Tracking

RUN_ID = "ziggurat.run_id"
STAGE = "ziggurat.stage"
TRIAL = "ziggurat.trial"
CANDIDATE = "ziggurat.candidate"
KIND = "ziggurat.kind"
PARENT = "mlflow.parentRunId"

REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
"""Error codes of MLflow that no retry can heal."""

PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Where databases listen unless their address says otherwise."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}


@dataclass(frozen=True)
class Place:
    """Where runs are kept.

    Attributes:
        uri: Tracking URI.
        experiment: Name of the experiment.
        artifact_root: Folder for artifacts of a new experiment as a URI; None where a server knows its own.
    """

    uri: str
    experiment: str
    artifact_root: str | None = None

    @property
    def shown(self) -> str:
        """The tracking URI without user, password and query, for people to read."""
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme else self.uri


def place_of(settings: Tracking, runs_dir: Path, name: str) -> Place:
    """Where the runs of a spec with a name are kept."""
    root = settings.artifact_root(runs_dir)
    return Place(settings.address(runs_dir), settings.experiment or name, root)


def connect(place: Place) -> MlflowClient:
    """A client; MLflow is imported here and told to be quiet."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow", "urllib3.connectionpool"):
        # what fails comes back as an exception, and is told in one line instead of a traceback for each try
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _knock(place.uri)
    return MlflowClient(tracking_uri=place.uri, registry_uri=place.uri)


def _knock(uri: str) -> None:
    """Notice at once that a database cannot be opened; MLflow itself takes 100 s to say so.

    Raises:
        OSError: Nobody listens there, or the file cannot be opened.
    """
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    if kind == "sqlite" and parts.path.strip("/"):
        with Path(parts.path[1:]).open("ab"):
            pass
    elif kind in PORTS and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or PORTS[kind]), timeout=5).close()


def experiment_id(client: MlflowClient, place: Place) -> str:
    """The experiment of a place, created if there is none.

    Raises:
        ConnectionError: The experiment lies in MLflow's bin, so nothing can be written to it for now.
    """
    found = client.get_experiment_by_name(place.experiment)
    if found is None:
        root = None if place.artifact_root is None else f"{place.artifact_root}/{place.experiment}"
        return str(client.create_experiment(place.experiment, artifact_location=root))
    if found.lifecycle_stage != "active":
        raise ConnectionError(
            f"experiment '{place.experiment}' is deleted; restore it or choose another tracking.experiment"
        )
    return str(found.experiment_id)


def find(client: MlflowClient, experiment: str, run_id: str) -> tuple[str | None, dict[int, str]]:
    """The parent of a Ziggurat run, and its children by trial number; the oldest one if there are several."""
    parent: str | None = None
    children: dict[int, str] = {}
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment],
            filter_string=f"tags.`{RUN_ID}` = '{run_id}'",
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        for run in page:
            if run.data.tags.get(KIND) == "run":
                parent = parent or run.info.run_id
            elif run.data.tags.get(TRIAL, "").isdigit():
                children.setdefault(int(run.data.tags[TRIAL]), run.info.run_id)
        token = page.token
        if not token:
            return parent, children


def refused(error: Exception) -> bool:
    """Whether MLflow has understood a request and will never grant it."""
    return getattr(error, "error_code", None) in REFUSALS
