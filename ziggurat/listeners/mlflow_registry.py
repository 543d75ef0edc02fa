"""MLflow's registry and runs as the command line uses them: read a version, give it an alias, fetch a spec.

Whatever goes wrong is one line. Nothing that MLflow holds is unpickled or run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ziggurat.errors import SpecError, ZigguratError
from ziggurat.listeners import mlflow_client, mlflow_versions
from ziggurat.listeners.mlflow_about import SPEC
from ziggurat.listeners.mlflow_client import KIND, PARENT, RUN_ID, TRIAL, Place
from ziggurat.listeners.mlflow_models import FORMAT
from ziggurat.listeners.mlflow_versions import Facts

if TYPE_CHECKING:
    from mlflow import MlflowClient

LARGEST_SPEC = 1_000_000
"""Bytes of a spec that is fetched; none that anybody has written is so long."""
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    name: str
    number: str
    facts: Facts

    @property
    def shown(self) -> str:
        """What it is called."""
        return f"{self.name}/{self.number}"


@dataclass(frozen=True)
class Origin:
    """A run in MLflow that can be repeated.

    Attributes:
        run: MLflow's identity of the parent run.
        run_id: The Ziggurat run.
        spec: Its spec as YAML.
        sha256: Hash of what the spec was when it ran; empty if nobody knows.
    """

    run: str
    run_id: str
    spec: str
    sha256: str


class Registry:
    """MLflow at one place."""

    def __init__(self, place: Place) -> None:
        """Connect; nothing is made there.

        Raises:
            ZigguratError: Nobody answers.
        """
        self._place = place
        with self._one_line("cannot be opened"):
            self._client: MlflowClient = mlflow_client.connect(place, make=False)

    @contextmanager
    def _one_line(self, what: str) -> Iterator[None]:
        try:
            yield
        except ZigguratError:
            raise
        except Exception as error:  # noqa: BLE001 - MLflow, its database and its network raise many kinds
            text = mlflow_client.told(error, self._place)
            raise ZigguratError(f"MLflow at {self._place.shown}: {what} ({text})") from None

    def version(self, name: str, number: str) -> Version:
        """A version of a registered model.

        Raises:
            ZigguratError: There is none, or nothing is known of it.
        """
        with self._one_line(f"version {number} of a model '{name}' cannot be read"):
            found = self._client.get_model_version(name, number)
        return self._version(name, number, dict(found.tags))

    def holder(self, name: str, alias: str) -> Version | None:
        """The version that has an alias now; None if none has.

        Raises:
            ZigguratError: There is no such model, or nothing is known of the version.
        """
        with self._one_line(f"model '{name}' cannot be read"):
            aliases = self._client.get_registered_model(name).aliases
        return self.version(name, str(aliases[alias])) if alias in aliases else None

    def of_trial(self, name: str, run_id: str, trial: int) -> Version:
        """The version that a trial of a run was registered as.

        Raises:
            ZigguratError: There is none.
        """
        with self._one_line(f"the versions of '{name}' cannot be listed"):
            for found in self._client.search_model_versions(f"name = '{name.replace(chr(39), '')}'"):
                tags = dict(found.tags)
                if (tags.get(RUN_ID), tags.get(TRIAL)) == (run_id, str(trial)):
                    return self._version(name, str(found.version), tags)
        raise ZigguratError(
            f"MLflow at {self._place.shown} has no version of '{name}' of trial {trial} of {run_id}; models "
            "are registered at the end of a run, unless tracking.register is false or a script trains them"
        )

    def _version(self, name: str, number: str, tags: Mapping[str, str]) -> Version:
        facts = mlflow_versions.read(tags, f"version {number} of '{name}'")
        return Version(name, number, replace(facts, model_format=tags.get(FORMAT, facts.model_format)))

    def promote(self, version: Version, alias: str, tags: Mapping[str, str]) -> None:
        """Give a version an alias; its tags say why, and are there before the alias is.

        Raises:
            ZigguratError: MLflow does not let us.
        """
        with self._one_line(f"{version.shown} cannot be given the alias '{alias}'"):
            for key, value in tags.items():
                self._client.set_model_version_tag(version.name, version.number, key, value)
            self._client.set_registered_model_alias(version.name, alias, version.number)

    def origin(self, run: str, folder: Path) -> Origin:
        """The spec of a run, by its parent's identity in MLflow or by that of a trial.

        Args:
            run: MLflow's identity.
            folder: An empty folder to download to.

        Raises:
            SpecError: There is no such run, it is not one of Ziggurat's, or it has no spec that can be used.
        """
        if _RUN.fullmatch(run) is None:
            raise SpecError(
                f"--from-mlflow {run[:80]!r}: not an identity of a run in MLflow; copy it from the run's page"
            )
        with self._one_line(f"run '{run}' cannot be read"):
            found = self._client.get_run(run)
            if found.data.tags.get(KIND) == "trial" and PARENT in found.data.tags:
                found = self._client.get_run(found.data.tags[PARENT])
        tags = found.data.tags
        if tags.get(KIND) != "run":
            raise SpecError(f"--from-mlflow {run}: this run was not made by Ziggurat; name one that was")
        parent = str(found.info.run_id)
        return Origin(
            parent, tags.get(RUN_ID, ""), self._spec(parent, folder), tags.get("ziggurat.spec_sha256", "")
        )

    def _spec(self, parent: str, folder: Path) -> str:
        """The text of the artifact, if it is a plain file of a reasonable size."""
        with self._one_line(f"the artifacts of run {parent} cannot be read"):
            sizes = {f.path: f.file_size for f in self._client.list_artifacts(parent) if not f.is_dir}
        if SPEC not in sizes:
            raise SpecError(
                f"--from-mlflow {parent}: the run has no artifact {SPEC}; it was not mirrored to its end, so "
                "run its spec from a file"
            )
        if (sizes[SPEC] or 0) > LARGEST_SPEC:
            raise SpecError(
                f"--from-mlflow {parent}: {SPEC} has {sizes[SPEC]:,} bytes, allowed are {LARGEST_SPEC:,}; it "
                "is no spec"
            )
        with self._one_line(f"{SPEC} of run {parent} cannot be read"):
            path = Path(self._client.download_artifacts(parent, SPEC, str(folder)))
            plain = path.is_file() and not path.is_symlink() and folder.resolve() in path.resolve().parents
            if not plain or path.stat().st_size > LARGEST_SPEC:
                raise SpecError(f"--from-mlflow {parent}: {SPEC} is no plain file of a reasonable size")
            return path.read_text(encoding="utf-8")
