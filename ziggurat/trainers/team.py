"""Processes that train one model together: what each takes of a batch, and how they come to one result.

Each holds the whole model and all examples. A batch has the size that the settings say, over all of them
together, so an epoch is one pass over the data and takes as many steps as with one process. Gradients are
averaged by torch (DistributedDataParallel) with weights that make them those of the whole batch, so a model
without batch norm learns the same as in one process, up to rounding; batch norm sees each process's share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ziggurat.trainers.batches import Batches
from ziggurat.trainers.weights import score

_LEAST = 2
"""Examples in a share at least, where the batch has them: batch norm cannot use a single one."""


class Shares(Batches):
    """One process's part of each batch: examples, labels, their weights, and the size of the whole batch.

    Weights are such that the mean over processes of the weighted sum of losses is the mean loss of the batch.
    Where there is too little to share, examples are repeated with weight zero.
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, team: Team) -> None:
        """Hold all examples, (n, *shape), and labels, (n,)."""
        super().__init__(x, y, batch_size)
        self.team = team

    def __iter__(self) -> Iterator[Any]:
        """Shares of one epoch; together they are the batches of a single process."""
        rank, size = self.team.rank, self.team.size
        order = torch.randperm(len(self.y), generator=torch.Generator().manual_seed(self.seed))
        for batch in order.split(self.batch_size)[: len(self)]:
            own = batch[rank::size]
            more = batch[: max(0, min(_LEAST, len(batch)) - len(own))]
            weights = torch.zeros(len(own) + len(more))
            weights[: len(own)] = size / len(batch)
            rows = torch.cat([own, more]).to(self.x.device)
            yield (
                self.x.index_select(0, rows),
                self.y.index_select(0, rows),
                weights.to(self.x.device),
                len(batch),
            )


@dataclass(frozen=True)
class Team:
    """This process among those that train together; alone, nothing is exchanged.

    Attributes:
        rank: Its number from 0; the first one reports and writes checkpoints.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Team:
        """The team that this process has joined, if any."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def batches(self, x: Tensor, y: Tensor, batch_size: int) -> Batches:
        """Training batches, or this process's shares of them."""
        return Batches(x, y, batch_size) if self.size == 1 else Shares(x, y, batch_size, self)

    def spread(self, model: nn.Module) -> nn.Module:
        """A model whose gradients are averaged over the team.

        Candidates may have parameters that a forward pass leaves out, so these are looked for.
        """
        if self.size == 1:
            return model
        place = next(model.parameters()).device
        ids = [place.index] if place.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over the team."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def agreed(self, wish: bool, place: torch.device) -> bool:
        """What the first process wishes."""
        if self.size == 1:
            return wish
        said = torch.tensor(int(wish), device=place)
        distributed.broadcast(said, 0)
        return bool(said)

    def score(
        self, model: nn.Module, x: Tensor, y: Tensor, between: Callable[[], None] = lambda: None
    ) -> tuple[float, float]:
        """Loss and accuracy as `weights.score` has them; each process evaluates a share."""
        if self.size == 1:
            return score(model, x, y, between)
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
        own = y[self.rank :: self.size]
        loss, accuracy = score(model, x[self.rank :: self.size], own, between) if len(own) else (0.0, 0.0)
        parts = [loss * len(own), accuracy * len(own), float(len(own))]
        loss, right, count = self.total(torch.tensor(parts, dtype=torch.float64, device=y.device)).tolist()
        return (loss / count, right / count) if count else (math.nan, math.nan)
