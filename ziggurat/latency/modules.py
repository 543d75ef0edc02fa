"""Modules that stand around an operation while it is measured; imported only when one is."""

from __future__ import annotations

from torch import Tensor, nn


class Repeated(nn.Module):
    """An operation of several inputs as a model of one: every input is the same."""

    def __init__(self, inner: nn.Module, inputs: int) -> None:
        super().__init__()
        self.inner, self.inputs = inner, inputs

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) to what the operation leaves."""
        y: Tensor = self.inner(*(x,) * self.inputs)
        return y
