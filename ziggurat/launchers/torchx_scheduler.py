"""TorchX's schedulers behind our own protocol: which of them a setting means.

Each is a module of its own: a job is described to TorchX once (`torchx_app`), TorchX turns it into a request,
and the part that TorchX leaves out is done here: names under which another controller finds a job again, one
question for all jobs, signals with a grace, and the cause of an end.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ziggurat.launchers.scheduler import Scheduler
    from ziggurat.launchers.torchx import TorchX


def opened(setting: TorchX, folder: Path) -> Scheduler:
    """The scheduler of a setting, for a run directory; nothing is reached for yet."""
    match setting.backend:
        case "local_cwd":
            from ziggurat.launchers.torchx_local import LocalScheduler

            return LocalScheduler(setting, folder)
        case "local_docker":
            from ziggurat.launchers.torchx_docker import DockerScheduler

            return DockerScheduler(setting, folder)
        case "slurm":
            from ziggurat.launchers.torchx_slurm import SlurmScheduler

            return SlurmScheduler(setting, folder)
        case "kubernetes":
            from ziggurat.launchers.torchx_kubernetes import KubernetesScheduler

            return KubernetesScheduler(setting, folder)
