"""A segment of work: a job with its forecast and its end, and how much training it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ziggurat.domain import Fidelity, Job
from ziggurat.events import SegmentFinished


def share(fidelity: Fidelity) -> float:
    """What an epoch takes, as a share of one on all of the training part in full resolution."""
    return fidelity.data_fraction * fidelity.resolution**2


def units(ladder: Sequence[Fidelity], from_rung: int, to_rung: int, *, resumable: bool = True) -> float:
    """Epochs on the whole training part that a segment stands for; all of them where nothing is resumed."""
    done = ladder[from_rung].epochs if from_rung >= 0 and resumable else 0
    return (ladder[to_rung].epochs - done) * share(ladder[to_rung])


def climb(ladder: Sequence[Fidelity], *, resumable: bool = True) -> float:
    """Epochs on the whole training part that a trial takes from nothing over every rung to the top."""
    return sum(units(ladder, rung - 1, rung, resumable=resumable) for rung in range(len(ladder)))


@dataclass(frozen=True)
class Segment:
    """A job with its forecast and its end, if it has one."""

    job: Job
    planned_utc: float
    forecast_s: float
    forecast_usd: float
    started_utc: float | None = None
    handle: str | None = None
    finished_utc: float | None = None
    end: SegmentFinished | None = None
