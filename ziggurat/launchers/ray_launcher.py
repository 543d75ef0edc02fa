"""Settings of the Ray launcher: workers of a Ray cluster that stay warm between the jobs of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from ziggurat.launchers.remote import RemoteSetting

if TYPE_CHECKING:
    from ziggurat.launchers.ray_scheduler import RayScheduler

_HOST = r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]"
ADDRESS = re.compile(rf"auto|(ray://)?({_HOST}):[0-9]{{1,5}}")


class Ray(RemoteSetting):
    """Actors of a Ray cluster, one for each job that runs at a time; each keeps torch and the data warm."""

    kind: Literal["ray"] = "ray"
    address: str | None = Field(
        default=None,
        description="auto (the cluster this machine belongs to), HOST:PORT, or ray://HOST:PORT for a machine "
        "outside it; by default a Ray of its own is started on this machine and ends with the controller.",
    )
    namespace: str = Field(
        default="ziggurat", pattern=r"^[A-Za-z0-9_-]{1,63}$", description="Ray namespace of the workers."
    )
    custom_resources: dict[str, float] = Field(
        default_factory=dict,
        description="Further resources that a worker takes of its node, as nodes declare them: {spot: 1}.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict,
        description="Labels that a worker's node must have, such as {ray.io/market-type: spot}.",
    )
    runtime_env: dict[str, Any] = Field(
        default_factory=dict,
        description="Ray's runtime_env of the workers: working_dir, pip, py_modules, ...",
    )
    wait_for_nodes: bool = Field(
        default=False,
        description="Jobs may wait for nodes that are not there yet, as with spot machines or an autoscaler.",
    )
    keep_warm_s: float = Field(
        default=600, ge=1, description="Seconds without a job after which a worker ends itself."
    )
    start_timeout_s: float = Field(
        default=600, ge=10, description="Seconds a worker's process has to import and load what jobs need."
    )

    @field_validator("address")
    @classmethod
    def _known_form(cls, address: str | None) -> str | None:
        if address is not None and not ADDRESS.fullmatch(address):
            raise ValueError(f"'{address}' is none of auto, HOST:PORT, ray://HOST:PORT")
        return address

    @field_validator("custom_resources")
    @classmethod
    def _not_plain(cls, wanted: dict[str, float]) -> dict[str, float]:
        for name, amount in wanted.items():
            if name in {"CPU", "GPU", "memory"}:
                raise ValueError(f"'{name}' is set by resources: cpus, gpus, memory_mb")
            if amount <= 0:
                raise ValueError(f"'{name}' is {amount:g}; give more than 0, or leave it out")
        return wanted

    def scheduler(self, folder: Path) -> RayScheduler:
        """The workers of a run on Ray; nothing is reached for yet."""
        from ziggurat.launchers.ray_scheduler import RayScheduler

        return RayScheduler(self, folder)
