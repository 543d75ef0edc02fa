"""MLflow's client as the mirror and a worker that logs a model use it: quiet, impatient and imported late.

It finds the runs that belong to a Ziggurat run by their tags. It keeps nothing and retries nothing.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from ziggurat.listeners.tracking import Tracking

RUN_ID = "ziggurat.run_id"
STAGE = "ziggurat.stage"
TRIAL = "ziggurat.trial"
CANDIDATE = "ziggurat.candidate"
KIND = "ziggurat.kind"
PARENT = "mlflow.parentRunId"
EXPERIMENT = "mlflow.experimentKind"
"""Tells MLflow's pages that models are made here, so that they open accordingly."""

REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
"""Error codes of MLflow that no retry can heal."""

PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Where databases listen unless their address says otherwise."""

_REASONS = (
    r"too many \d+ error responses",
    r"Connection refused",
    r"timed out",
    r"Name or service not known",
    r"[A-Z]\w+Error(?!\w)",
)
"""What MLflow's client says of a server that does not answer, inside of several lines of other words."""
_DATABASE = re.compile(r"^(?:.*\()?\((?:sqlite3|psycopg2|pymysql)\.\w[\w.]*\) ([^\n]+)", re.MULTILINE)
"""What a database says of itself, inside of what SQLAlchemy says of it."""
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
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


def connect(place: Place, *, make: bool = True) -> MlflowClient:
    """A client; MLflow is imported here and told to be quiet.

    Args:
        place: Where the runs are kept.
        make: Whether a database in a file may be made if there is none.

    Raises:
        OSError: Nobody listens there, or the file cannot be opened.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow", "urllib3.connectionpool"):
        # what fails comes back as an exception, and is told in one line instead of a traceback for each try
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _knock(place.uri, make=make)
    return MlflowClient(tracking_uri=place.uri, registry_uri=place.uri)


def _knock(uri: str, *, make: bool) -> None:
    """Notice at once that a database cannot be opened; MLflow itself takes 100 s to say so.

    Raises:
        OSError: Nobody listens there, or the file cannot be opened.
    """
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    if kind == "sqlite" and parts.path.strip("/"):
        with Path(parts.path[1:]).open("ab" if make else "rb"):
            pass
    elif kind in PORTS and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or PORTS[kind]), timeout=5).close()


def user() -> str:
    """Whose process this is, as MLflow shows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def experiment_id(client: MlflowClient, place: Place) -> str:
    """The experiment of a place, created if there is none.

    Raises:
        ConnectionError: The experiment lies in MLflow's bin, so nothing can be written to it for now.
    """
    found = client.get_experiment_by_name(place.experiment)
    if found is None:
        root = None if place.artifact_root is None else f"{place.artifact_root}/{place.experiment}"
        return str(client.create_experiment(place.experiment, root, {EXPERIMENT: "custom_model_development"}))
    if found.lifecycle_stage != "active":
        raise ConnectionError(
            f"experiment '{place.experiment}' is deleted; restore it or choose another tracking.experiment"
        )
    return str(found.experiment_id)


@dataclass
class Known:
    """A run in MLflow, as far as its writer knows it.

    Attributes:
        run_id: MLflow's identity of it.
        state: MLflow's word for its state; empty if nobody has looked.
        tags: Tags that it has.
        described: Whether it has parameters.
    """

    run_id: str
    state: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    described: bool = False


def find(client: MlflowClient, experiment: str, run_id: str) -> tuple[Known | None, dict[int, Known]]:
    """The parent of a Ziggurat run, and its children by trial number; the oldest one if there are several."""
    parent: Known | None = None
    children: dict[int, Known] = {}
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
            tags = run.data.tags
            if tags.get(KIND) == "run":
                parent = parent or _known(run)
            elif tags.get(TRIAL, "").isdigit():
                children.setdefault(int(tags[TRIAL]), _known(run))
        token = page.token
        if not token:
            return parent, children


def _known(run: Run) -> Known:
    return Known(run.info.run_id, run.info.status, dict(run.data.tags), bool(run.data.params))


def runs_page(experiment: str, runs: Sequence[str]) -> str:
    """The part of an address that opens some runs in MLflow's pages: side by side if they are several."""
    if len(runs) == 1:
        return f"#/experiments/{experiment}/runs/{runs[0]}"
    asked = {"runs": list(runs), "experiments": [experiment]}
    return "#/compare-runs?" + "&".join(f"{k}={quote(json.dumps(v))}" for k, v in asked.items())


def refused(error: Exception) -> bool:
    """Whether MLflow has understood a request and will never grant it."""
    return getattr(error, "error_code", None) in REFUSALS


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return next(iter(str(error).splitlines()), "")[:400]


def told(error: Exception, place: Place) -> str:
    """What went wrong, in one line without the address, which may hold a password."""
    text, kind = first_line(error), type(error).__name__
    if text.startswith("API request to") and "failed with exception" in text:
        known = (re.search(pattern, str(error)) for pattern in _REASONS)
        reason = next((match[0] for match in known if match), "")
        return f"no answer: {reason}" if reason else "no answer"
    inner = _DATABASE.search(str(error))
    text = inner[1][:300] if inner else text
    words = text if kind in {"MlflowException", "RestException"} else f"{kind}: {text}"
    return words.replace(place.uri, place.shown)
