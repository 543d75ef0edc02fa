"""Compound scaling: one coefficient makes a network deeper, wider and sharper-sighted at once."""

from __future__ import annotations

import math

from pydantic import Field

from ziggurat.choices import Choice, Values
from ziggurat.setting import Setting

Shape = tuple[int, ...]


class Scaling(Setting):
    """Depth, width and resolution scaled together: each by its base to the power of one coefficient.

    Widths are rounded to multiples of 8, but not below 90 % of the exact value; depths are rounded up; images
    are resized inside the model. Coefficient 0 changes nothing.

    Source: Tan & Le 2019, EfficientNet, arXiv 1905.11946, section 3.3; the bases are those of section 4.
    """

    coefficient: Choice = Field(
        default_factory=lambda: Values(values=[0]), description="The exponent phi, from 0 to below 10."
    )
    depth: float = Field(default=1.2, ge=1, le=2, description="Base of the number of blocks of a stage.")
    width: float = Field(default=1.1, ge=1, le=2, description="Base of all widths: stem, stages and head.")
    resolution: float = Field(default=1.15, ge=1, le=2, description="Base of the height and width of images.")

    def widened(self, width: int, phi: float) -> int:
        """A width at a coefficient."""
        factor: float = self.width**phi
        if factor == 1 or width == 0:
            return width
        exact = width * factor
        near = max(8, int(exact + 4) // 8 * 8)
        return near if near >= 0.9 * exact else near + 8

    def deepened(self, depth: int, phi: float) -> int:
        """A number of blocks at a coefficient."""
        factor: float = self.depth**phi
        return math.ceil(depth * factor - 1e-9)

    def resized(self, shape: Shape, phi: float) -> Shape:
        """The shape of an image, (channels, height, width), at a coefficient."""
        factor: float = self.resolution**phi
        return (shape[0], *(int(side * factor + 0.5) for side in shape[1:]))
