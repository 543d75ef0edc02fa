"""Where a run is tracked: the settings of the MLflow mirror, without MLflow.

Finding out where the tracking server is belongs here; talking to it belongs to `mlflow_mirror`.
"""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ziggurat.setting import Setting

if TYPE_CHECKING:
    from pathlib import Path

CHAMPION = "champion"
GIVEN_ELSEWHERE = (CHAMPION, "latest")
"""Aliases that no run gives."""
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""Schemes of databases that MLflow opens itself."""
REMOTE = ("http", "https", "databricks", "databricks-uc", "uc")
"""Schemes of tracking servers."""


class Tracking(Setting):
    """Mirror a run to MLflow: one parent run, one child for each trial."""

    enabled: bool = Field(default=True, description="Whether runs are mirrored to MLflow.")
    uri: str | None = Field(
        default=None,
        min_length=1,
        description="Tracking URI of MLflow; by default the file mlflow.db in the directory of runs.",
    )
    experiment: str | None = Field(
        default=None, min_length=1, description="Experiment of MLflow; by default the name of the spec."
    )
    register_model: bool = Field(
        default=True, alias="register", description="Whether the best model is registered."
    )
    model_name: str | None = Field(
        default=None,
        min_length=1,
        description="Name of the registered model; by default the name of the spec.",
    )
    alias: str = Field(
        default="candidate",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$",
        description="Alias that the best model gets in the registry.",
    )
    tags: dict[str, str] = Field(default_factory=dict, description="Further tags of every run in MLflow.")

    @field_validator("alias")
    @classmethod
    def _earned(cls, alias: str) -> str:
        if alias.lower() in GIVEN_ELSEWHERE or re.fullmatch(r"[vV]\d+", alias):
            how = "`ziggurat promote` gives" if alias.lower() == CHAMPION else "MLflow keeps for itself"
            raise ValueError(f"'{alias}' is an alias that {how}; choose another, such as candidate")
        return alias

    @model_validator(mode="after")
    def _usable(self) -> Self:
        # checked on the model, not on the field: a refused address may hold a password and is not repeated
        if self.uri is None or self.uri in REMOTE:
            return self
        scheme = urlsplit(self.uri).scheme.partition("+")[0]
        if scheme in {"", "file"}:
            raise ValueError(
                f"uri '{self.uri}' is a folder, and MLflow 3 stores no runs in folders; "
                f"write sqlite:///{urlsplit(self.uri).path or 'mlflow.db'} or the address of a server"
            )
        if scheme not in (*DATABASES, *REMOTE):
            plugins = {e.name for e in entry_points(group="mlflow.tracking_store")}
            if scheme not in plugins:
                raise ValueError(
                    f"uri starts with '{scheme}:', which MLflow does not know; "
                    f"use one of {', '.join((*DATABASES, *REMOTE))}"
                )
        return self

    def address(self, runs_dir: Path) -> str:
        """The tracking URI of a run in a directory of runs."""
        return self.uri or f"sqlite:///{(runs_dir / 'mlflow.db').absolute()}"

    def artifact_root(self, runs_dir: Path) -> str | None:
        """Where artifacts go if MLflow's database is used without a server; a server knows its own place."""
        if urlsplit(self.address(runs_dir)).scheme.partition("+")[0] in DATABASES:
            return (runs_dir / "mlartifacts").absolute().as_uri()
        return None
