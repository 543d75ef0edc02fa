"""Which GPUs each local worker gets: the value of CUDA_VISIBLE_DEVICES for every one of them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ziggurat.errors import SpecError

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: numbers, UUIDs or MIG devices.

    Like CUDA itself it takes the names of the variable up to the first one that is none; where the variable
    is not set, these are all GPUs that NVIDIA's driver knows.
    """
    given = environment.get(VARIABLE)
    if given is None:
        return [str(number) for number in range(_count())]
    names: list[str] = []
    for name in (word.strip() for word in given.split(",")):
        if not name or name.startswith("-"):
            break
        names.append(name)
    return names


def _count() -> int:
    """GPUs of this machine; 0 without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


def shares(workers: int, each: int, *, share: bool, environment: Mapping[str, str] = os.environ) -> list[str]:
    """CUDA_VISIBLE_DEVICES of every worker, in turn over the GPUs that are there.

    Args:
        workers: How many there are.
        each: GPUs of a worker; with 0 nothing is said to any of them.
        share: Whether several workers may have the same GPU.
        environment: Of the controller.

    Raises:
        SpecError: There are not enough.
    """
    if not each or not workers:
        return []
    found = visible(environment)
    why = f"{VARIABLE} is {environment[VARIABLE]!r}" if VARIABLE in environment else "by NVIDIA's driver"
    if len(found) < each:
        raise SpecError(
            f"launcher.resources.gpus is {each}, but {len(found)} GPUs are visible ({why}); set it to "
            f"{len(found)}, or run where there are more"
        )
    if workers * each > len(found) and not share:
        fit = len(found) // each
        raise SpecError(
            f"launcher.resources.gpus is {each} for each of {workers} workers, but {len(found)} GPUs are "
            f"visible ({why}); lower the workers to {fit}, or set launcher.resources.share to true"
        )
    return [
        ",".join(found[(first + i) % len(found)] for i in range(each))
        for first in range(0, workers * each, each)
    ]
