"""From stored numbers to what a network is fed: float32, bytes as 0 to 1, standardised as training shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ziggurat.datasets.verify import Array


_CONSTANT = 1e-6
"""Deviation relative to the mean up to which a channel or feature is constant but for rounding."""


def floats(x: Array) -> Array:
    """A copy as float32; bytes become 0 to 1."""
    scaled = np.array(x, dtype=np.float32, order="C")
    if x.dtype == np.uint8:
        scaled *= np.float32(1 / 255)
    return scaled


def standardize(train_x: Array, other: Array) -> None:
    """Shift and scale both, in place, by mean and deviation of each channel (or feature) in training.

    What is constant in training is only shifted.
    """
    centre = _mean(train_x)
    train_x -= centre
    other -= centre
    deviation = np.sqrt(_mean(train_x, squared=True))
    deviation[deviation <= _CONSTANT * np.abs(centre)] = 1.0
    train_x /= deviation
    other /= deviation


def _mean(x: Array, *, squared: bool = False) -> Array:
    """Mean of each channel or feature, in the shape that fits `x`.

    Pixels of one image are summed in float32, which is ten times faster, everything beyond in float64.
    """
    if x.ndim == 2:  # noqa: PLR2004 - (n, features)
        total = np.zeros(x.shape[1])
        for piece in np.array_split(x, max(1, x.nbytes >> 24)):
            total += (np.square(piece) if squared else piece).sum(axis=0, dtype=np.float64)
        return (total / len(x)).astype(np.float32)
    pixels = x.reshape(*x.shape[:2], -1)
    sums = np.einsum("nci,nci->nc", pixels, pixels) if squared else pixels.sum(axis=2)
    means: Array = sums.sum(axis=0, dtype=np.float64) / (len(x) * pixels.shape[2])
    return means.astype(np.float32).reshape(-1, 1, 1)
