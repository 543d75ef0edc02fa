"""Settings of the launcher over TorchX: processes on this machine, containers, Slurm or Kubernetes.

What a scheduler can be told beyond resources stands under `settings` and is checked against what TorchX's
own scheduler knows, whose module is imported only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from ziggurat.launchers.remote import EXTRA_S, LingeringSetting

if TYPE_CHECKING:
    from ziggurat.domain import Job
    from ziggurat.launchers.scheduler import Scheduler

Backend = Literal["local_cwd", "local_docker", "slurm", "kubernetes"]
OURS = {
    "job_dir": "logs are kept in the run directory",
    "log_dir": "logs are kept in the run directory",
    "image_repo": "give launcher.image",
    "workspace_type": "give launcher.image to run in a container",
    "auto_set_cuda_visible_devices": "resources.gpus pins GPUs by itself",
    "env": "give launcher.environment",
    "copy_env": "give launcher.environment",
}
"""Options of TorchX's schedulers that are decided here, and what to do instead."""
Plain = str | int | float | bool


class TorchX(LingeringSetting):
    """One process for each segment, started through TorchX on this machine or by a cluster's scheduler."""

    kind: Literal["torchx"] = "torchx"
    backend: Backend = Field(
        alias="scheduler",
        description="Who runs the jobs: this machine, its Docker, Slurm, or Volcano on Kubernetes.",
    )
    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Container image with Ziggurat in it; on Slurm it needs the pyxis plugin.",
    )
    settings: dict[str, Plain] = Field(
        default_factory=dict,
        description="Options of TorchX's scheduler, such as partition, account, qos and time on Slurm, queue "
        "and namespace on Kubernetes.",
    )
    mounts: list[str] = Field(
        default_factory=list,
        description="What containers see of machines: type=bind,src=PATH,dst=PATH[,readonly] or "
        "type=volume,src=NAME,dst=PATH, a volume claim on Kubernetes.",
    )
    pod: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Merged into the pods on Kubernetes, such as spec.tolerations and spec.nodeSelector.",
    )

    @property
    def needs_store(self) -> bool:
        """Whether the machines cannot see the run directory in any case."""
        return self.backend == "kubernetes" and not self.mounts

    @model_validator(mode="after")
    def _image_where_needed(self) -> Self:
        if self.image is None and self.backend in {"local_docker", "kubernetes"}:
            raise ValueError(
                f"launcher.scheduler is {self.backend}, which runs containers; give launcher.image"
            )
        if self.image is not None and self.backend == "local_cwd":
            raise ValueError("launcher.scheduler local_cwd runs no containers; remove launcher.image")
        if self.mounts and self.backend in {"local_cwd", "slurm"}:
            raise ValueError(f"launcher.scheduler {self.backend} has no mounts; remove launcher.mounts")
        if self.pod and self.backend != "kubernetes":
            raise ValueError(f"launcher.scheduler {self.backend} has no pods; remove launcher.pod")
        return self

    @model_validator(mode="after")
    def _known_settings(self) -> Self:
        if self.settings or self.backend == "kubernetes":
            from ziggurat.launchers.torchx_app import checked_settings

            checked_settings(self)
        if self.mounts:
            from ziggurat.launchers.torchx_app import parsed_mounts

            parsed_mounts(self.mounts)
        return self

    def options(self) -> Mapping[str, Any]:
        """The settings as TorchX's scheduler takes them, with its own defaults for all others."""
        from ziggurat.launchers.torchx_app import checked_settings

        return checked_settings(self)

    def waits_s(self, job: Job) -> float:
        """Seconds to wait for a next segment; none on this machine with a GPU that others could have."""
        own = self.backend == "local_cwd" and self.resources.gpus > 0
        return 0.0 if own else super().waits_s(job)

    def lasts_s(self, job: Job) -> float:
        """Seconds that the machine of a job has; less where Slurm is given a shorter time."""
        from ziggurat.launchers.slurm import seconds_of

        own = super().lasts_s(job)
        given = seconds_of(str(self.settings.get("time", ""))) if self.backend == "slurm" else 0.0
        return min(own, given - self.grace_s - EXTRA_S) if given else own

    def scheduler(self, folder: Path) -> Scheduler:
        """The scheduler's own side of it, for a run directory; nothing is reached for yet."""
        from ziggurat.launchers.torchx_scheduler import opened

        return opened(self, folder)
