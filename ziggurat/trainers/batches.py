"""Batches of examples that are already in memory: a light iterable in place of a data loader with workers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ziggurat.trainers.optimizers import steps_per_epoch

_NUMBERS = 2**21
"""Numbers in a batch of evaluation, about 8 MB in float32."""


class Batches:
    """Shuffled training batches; the order is a function of `seed`, which changes with the epoch.

    The last partial batch is kept unless it is a single example among others (batch norm cannot use it).
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int) -> None:
        """Hold (n, *shape) examples and (n,) labels."""
        self.x, self.y, self.batch_size = x, y, batch_size
        self.seed = 0

    def __len__(self) -> int:
        """Number of batches."""
        return steps_per_epoch(len(self.y), self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch; the seed is read when the first one is asked for."""
        order = torch.randperm(len(self.y), generator=torch.Generator().manual_seed(self.seed))
        for rows in order.to(self.x.device).split(self.batch_size)[: len(self)]:
            yield self.x.index_select(0, rows), self.y.index_select(0, rows)


def in_order(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Big batches in the given order, for evaluation."""
    each = x[0].numel() if len(x) else 1
    size = max(64, min(4096, _NUMBERS // max(1, each)))
    return zip(x.split(size), y.split(size), strict=True)
