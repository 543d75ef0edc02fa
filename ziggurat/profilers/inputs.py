"""What a measured model is given: one example, repeated to a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    Example = Tensor | tuple[Tensor, ...]
    """One example as a batch, (1, *shape); several for a model with several inputs."""


def batches(example: Example, size: int) -> tuple[Tensor, ...]:
    """One (size, *shape) tensor for each input of a model."""
    several = example if isinstance(example, tuple) else (example,)
    return tuple(one[:1].repeat(size, *(1,) * (one.dim() - 1)) for one in several)
