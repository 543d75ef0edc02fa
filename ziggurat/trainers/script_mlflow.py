"""Metrics of a script that logs with MLflow: it is given a run, and what it logs there is read.

Without a tracking server of the user's the run lives in a SQLite file in the script's output folder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ziggurat.errors import SpecError
from ziggurat.trainers.script_metrics import MetricSetting
from ziggurat.trainers.script_output import Tell

PACE_S = 2.0
"""Seconds between two questions to the tracking server."""


class TrackedRun:
    """A run that the script logs to.

    Attributes:
        environment: What the script has to be told of it.
    """

    def __init__(
        self,
        metrics: Mapping[str, MetricSetting],
        tell: Tell,
        given: Mapping[str, str],
        output: Path,
        names: tuple[str, str],
    ) -> None:
        """Make the run.

        Args:
            metrics: What is read of it, by name.
            tell: Takes what was read.
            given: The script's environment as far as it is settled.
            output: Where the SQLite file and artifacts go if no tracking server is given.
            names: Of the experiment and of the run.

        Raises:
            SpecError: The tracking server cannot be reached.
        """
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._metrics, self._tell = metrics, tell
        self._seen = dict.fromkeys(metrics, 0)
        self._next = 0.0
        uri = given.get("MLFLOW_TRACKING_URI")
        place = output / "artifacts" if uri is None else None
        uri = uri or f"sqlite:///{output / 'mlflow.db'}"
        self._client = MlflowClient(uri)
        name = given.get("MLFLOW_EXPERIMENT_NAME", names[0])
        try:
            run = self._client.create_run(_experiment(self._client, name, place), run_name=names[1])
        except MlflowException as error:
            raise SpecError(
                f"trainer.metrics: no MLflow run can be made ({str(error).splitlines()[0][:200]}); correct "
                "MLFLOW_TRACKING_URI, or leave it out for a file of each training"
            ) from None
        self._run: str = run.info.run_id
        self.environment = {
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_RUN_ID": self._run,
            "MLFLOW_EXPERIMENT_ID": run.info.experiment_id,
        }

    def poll(self, *, final: bool) -> None:
        """Tell what is new, now and then."""
        now = time.monotonic()
        if not final and now < self._next:
            return
        self._next = now + PACE_S
        from mlflow.exceptions import MlflowException

        for name, metric in self._metrics.items():
            try:
                history = self._client.get_metric_history(self._run, metric.called(name))
            except MlflowException:
                continue  # a server that is away for a moment is asked again
            history = sorted(history, key=lambda m: (m.timestamp, m.step))
            for found in history[self._seen[name] :]:
                step = float(found.step) if metric.step is not None else None
                self._tell(name, found.value * metric.scale, step)
            self._seen[name] = max(self._seen[name], len(history))


def _experiment(client: Any, name: str, place: Path | None) -> str:  # noqa: ANN401 - untyped in parts
    """The experiment of a name, made if it is missing."""
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, artifact_location=place.as_uri() if place else None))
        except MlflowException:
            known = client.get_experiment_by_name(name)  # somebody else was faster
            if known is None:
                raise
    return str(known.experiment_id)
