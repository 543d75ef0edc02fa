"""Layers that the spaces share; imported only when a model is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "relu6": nn.ReLU6,
    "hard_swish": nn.Hardswish,
}
"""Activations by name; each space says which of them it takes."""


POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "max": lambda: nn.MaxPool2d(2),
    "avg": lambda: nn.AvgPool2d(2),
}
"""Ends of a block by name."""


class DropPath(nn.Module):
    """Drops a residual branch for some examples while training, and scales it up for the others.

    A trainer sets `rate` on all modules of this name; at 0, or in eval mode, the input passes unchanged.

    Source: Huang et al. 2016, Deep Networks with Stochastic Depth, arXiv 1603.09382; here for each example
    and with the scaling in training rather than in use, as is usual since.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """The branch, (n, ...), with whole examples set to 0 at probability `rate`."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        mask = branch.new_empty((branch.shape[0],) + (1,) * (branch.ndim - 1)).bernoulli_(keep)
        return branch * mask / keep if keep > 0 else branch * mask

    def extra_repr(self) -> str:
        """The rate, in a printed model."""
        return f"rate={self.rate}"


class ConvBlock(nn.Module):
    """Convolution, batch norm and activation, optionally beside a skip connection, then halving of the map.

    The skip connection is a 1 x 1 convolution with batch norm where the number of channels changes. (n, c, h,
    w) becomes (n, channels, h, w), or half the height and width if there is a pooling layer.
    """

    def __init__(
        self, channels: tuple[int, int], kernel: int, *, skip: bool, act: nn.Module, pool: nn.Module
    ) -> None:
        super().__init__()
        before, after = channels
        self.branch = nn.Sequential(
            nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(after)
        )
        self.drop_path = DropPath() if skip else None
        self.shortcut: nn.Module | None = None
        if skip:
            self.shortcut = nn.Identity() if before == after else _projection(before, after)
        self.act = act
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, channels, h', w')."""
        y: Tensor = self.branch(x)
        if self.shortcut is not None and self.drop_path is not None:
            y = self.drop_path(y) + self.shortcut(x)
        pooled: Tensor = self.pool(self.act(y))
        return pooled


def _projection(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
