"""A small measured benchmark as files, made up: four choices of three operations, error falls with size."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

OPS = ("none", "small", "large")
CELLS = np.array(list(itertools.product(range(3), repeat=4)), dtype=np.int8)
SIZE = 1.0 + CELLS.sum(axis=1)
RNG = np.random.default_rng(7)
FULL = 60.0 + 4.0 * CELLS.sum(axis=1) + RNG.normal(0, 0.5, len(CELLS))
SHORT = FULL - 15.0 + RNG.normal(0, 1.0, len(CELLS))


def schedules(folder: Path) -> dict[str, str]:
    """Architectures, scores of two schedules and a cost, as three archives."""
    np.savez(folder / "space.npz", ops=CELLS, op_names=np.array(OPS))
    np.savez(
        folder / "scores.npz",
        val_acc_4=SHORT,
        val_acc_20=np.stack([FULL, np.where(np.arange(len(FULL)) % 2, np.nan, FULL)], axis=1),
        test_acc_20=FULL - 0.5,
        train_time_20_s=100.0 + 10.0 * SIZE,
        params_m=SIZE,
    )
    np.savez(folder / "latency.npz", board=SIZE * 2.0)
    return {
        "architectures": str(folder / "space.npz"),
        "accuracy": str(folder / "scores.npz"),
        "cost": f"{folder / 'latency.npz'}:board",
    }


def curves(folder: Path, diverged: int | None = None) -> str:
    """Curves of a loss over ten epochs, one second each at first; one row may have diverged at once."""
    steps = np.arange(1, 11)
    loss = 1.0 + 9.0 / (1.0 + SIZE[:, None]) + 5.0 / steps[None, :]
    if diverged is not None:
        loss[diverged] = np.nan
    path = folder / "curves.npz"
    np.savez(path, val_loss=loss, test_loss=loss + 0.1, wall_time_s=np.ones_like(loss), params=SIZE)
    return str(path)
