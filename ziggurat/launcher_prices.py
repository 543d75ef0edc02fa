"""What a worker of a launcher costs: its own number, or a machine of the price table, looked up once.

A launcher whose `usd_per_hour` is given is left as it is. So the prices of a run stand in its own spec from
its first moment on, and no later table changes its money.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ziggurat.errors import SpecError
from ziggurat.launchers import AnyLauncher, Local
from ziggurat.launchers.scheduler import Resources
from ziggurat.pricing.resolve import Crew, Need, worker_price, worker_usd
from ziggurat.pricing.table import Table
from ziggurat.setting import Setting

S = TypeVar("S", bound=Setting)
MB_OF_A_GB = 1024
MB_OF_A_CPU = 2048
"""Memory of a worker for each of its processors, where nothing is said."""


def need_of(launcher: AnyLauncher) -> Need:
    """What one worker of a launcher takes of a machine."""
    resources = getattr(launcher, "resources", None)
    if isinstance(resources, Resources):
        memory_mb = resources.memory_mb or MB_OF_A_CPU * resources.cpus
        return Need(resources.cpus, memory_mb / MB_OF_A_GB, resources.gpus, resources.gpu)
    if isinstance(launcher, Local):
        cpus = launcher.threads * launcher.resources.processes
        memory_mb = int(launcher.memory_limit_mb or MB_OF_A_CPU * cpus)
        return Need(cpus, memory_mb / MB_OF_A_GB, launcher.resources.gpus)
    return Need(1, MB_OF_A_CPU / MB_OF_A_GB)


def crew_of(launcher: AnyLauncher, workers: int) -> Crew:
    """Who shares the machines of a launcher; on `local` all workers are processes of one machine."""
    return Crew(need_of(launcher), workers, one_machine=isinstance(launcher, Local))


def settled(launcher: AnyLauncher, key: str, workers: int, table: Callable[[], Table]) -> AnyLauncher:
    """A launcher with the price of an hour of a worker as a number, and where it comes from.

    Args:
        launcher: Its `price` is looked up unless it has `usd_per_hour`.
        key: Where it stands in the spec, for messages.
        workers: How many of its workers are busy at the same time.
        table: Loads the price table.

    Raises:
        SpecError: The table has no such price, or the machine is too small for a worker.
    """
    if launcher.price is None or "usd_per_hour" in launcher.model_fields_set:
        return launcher
    prices, crew = table(), crew_of(launcher, workers)
    region = getattr(launcher, "region", None)
    try:
        usd = worker_usd(prices, launcher.price, crew, region)
        price = worker_price(prices, launcher.price, crew, region)
    except SpecError as error:
        raise SpecError(f"{key}.price.{error}") from None
    return launcher.model_copy(update={"usd_per_hour": round(usd, 9), "price": price})


def replaced(setting: S, launcher: AnyLauncher | None) -> S:
    """A setting with another launcher; itself if it is the same."""
    same = getattr(setting, "launcher", None) is launcher
    return setting if same else setting.model_copy(update={"launcher": launcher})
