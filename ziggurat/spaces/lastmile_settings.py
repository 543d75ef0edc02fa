"""What a user may write about channels and bits of a backbone."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ziggurat.choices import Choice, Range, Values
from ziggurat.setting import Setting
from ziggurat.spaces import bounds, named

FULL = 32
"""Bits of a weight that is not rounded."""
BITS = (FULL, 8, 4)
LEAST = min(BITS)
_LAYERS = "Names of layers or blocks, or a text such as 'last 3 convs' (or linears, or layers)."


class PruneSetting(Setting):
    """Channels taken out of layers, those of the smallest weights first; a choice `prune_1`, ... for each.

    A named layer loses channels, and so do those whose outputs are added to its own. In a named block, those
    layers lose some that share their channels with nothing outside of it.
    """

    layers: list[str] | str = Field(description=_LAYERS)
    ratio: Choice = Field(description="Share of the channels that is taken out, from 0 to below 1.")
    importance: Literal["l1", "l2"] = Field(
        default="l2", description="Norm of the weights of a channel by which channels are ranked."
    )
    round_to: int = Field(
        default=1, ge=1, le=256, description="The channels that stay are a multiple of this number."
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        named.well_formed(self.layers)
        bounds.number("ratio", self.ratio, 0, 1)
        bounds.unconditional({"ratio": self.ratio})
        return self

    def choices(self) -> dict[str, Values | Range]:
        """One for each entry."""
        return {f"prune_{i + 1}": _in_order(self.ratio) for i in range(named.well_formed(self.layers))}


class QuantiseSetting(Setting):
    """Bits of the weights of layers, rounded while training; a choice `bits_1`, ... for each entry.

    Below 32, activations that go into and out of a layer are rounded to 8 bits. Four bits count in
    `model_size_mb` alone: runtimes run them as 8.
    """

    layers: list[str] | str = Field(description=_LAYERS)
    bits: Choice = Field(
        default_factory=lambda: Values(values=[*BITS]), description="Bits of a weight: 32, 8 or 4."
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        named.well_formed(self.layers)
        bounds.among("bits", self.bits, BITS)
        bounds.unconditional({"bits": self.bits})
        return self

    def choices(self) -> dict[str, Values | Range]:
        """One for each entry."""
        return {f"bits_{i + 1}": _in_order(self.bits) for i in range(named.well_formed(self.layers))}

    @property
    def least(self) -> int:
        """The fewest bits that a weight can have."""
        return min(int(v) for v in self.bits.values) if isinstance(self.bits, Values) else FULL


def _in_order(choice: Values | Range) -> Values | Range:
    """A choice of numbers with its values in growing order, so that neighbours are neighbours in meaning."""
    if isinstance(choice, Range):
        return choice
    return choice.model_copy(update={"values": sorted(choice.values)})
