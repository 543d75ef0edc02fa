"""What a trial that inherited its beginning was trained with, and the same way at another length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from ziggurat.domain import Candidate, Fidelity, Trial
from ziggurat.history import History


def stretches(history: History, trial: Trial) -> list[tuple[int, Candidate]]:
    """From which epoch on a trial was trained with which candidate; its first ancestor began at 0."""
    found: list[tuple[int, Candidate]] = []
    while trial.parent is not None:
        found.append((trial.ladder[trial.parent.rung].epochs, trial.candidate))
        trial = history.trials[trial.parent.trial]
    return [(0, trial.candidate), *reversed(found)]


def replayed(
    history: History, trial: Trial, ladder: Sequence[Fidelity]
) -> tuple[tuple[Fidelity, ...], tuple[Candidate, ...]]:
    """The way of a trial, stretched to a ladder of another length.

    Returns:
        The ladder, with a rung wherever hyperparameters change, at the same share of all epochs; and the
        candidate that is trained towards each rung, nothing if it is the same one all the time.
    """
    begun = stretches(history, trial)
    if len(begun) == 1:
        return tuple(ladder), ()
    factor = ladder[-1].epochs / trial.ladder[-1].epochs
    changes = {min(round(epoch * factor), ladder[-1].epochs - 1): candidate for epoch, candidate in begun}
    rungs = {f.epochs: f for f in ladder}
    ends = sorted({*rungs, *changes} - {0})
    full = tuple(replace(rungs[min(f for f in rungs if f >= e)], epochs=e) for e in ends)
    return full, tuple(changes[max(c for c in changes if c <= start)] for start, _ in pairwise([0, *ends]))
