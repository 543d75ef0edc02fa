"""Convolutional networks for images, searched at the level of whole blocks (macro search)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from ziggurat.choices import Choice, Choices, Range, Values
from ziggurat.errors import SpecError
from ziggurat.setting import Setting
from ziggurat.spaces import bounds

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.domain import Candidate
    from ziggurat.protocols import Signature

_IMAGE_DIMENSIONS = 3
BlockChoice = Literal["channels", "kernel", "skip", "pooling"]


class Cnn(Setting):
    """Blocks of one convolution each, with or without skip connection and pooling, and one linear layer.

    A choice of a block is made for each block (`channels_1`, `channels_2`, ...) if `per_block` names it, and
    once for all blocks (`kernel`) otherwise. Pooling halves the map and is left out where the map is already
    one pixel high or wide. The last map is averaged over all its pixels.

    Source of the skip connections: He et al. 2015, Deep Residual Learning, arXiv 1512.03385.
    """

    kind: Literal["cnn"] = "cnn"
    depth: Choice = Field(default_factory=lambda: Range(min=1, max=4), description="Blocks, 1 to 20.")
    channels: Choice = Field(
        default_factory=lambda: Values(values=[8, 16, 32, 64]), description="Channels of a block."
    )
    kernel: Choice = Field(
        default_factory=lambda: Values(values=[3, 5]), description="Side of a block's kernel, odd, 1 to 15."
    )
    skip: Choice = Field(
        default_factory=lambda: Values(values=[False, True]),
        description="Whether a block has a skip connection.",
    )
    pooling: Choice = Field(
        default_factory=lambda: Values(values=["max", "avg"]), description="End of a block: none, max or avg."
    )
    per_block: list[BlockChoice] = Field(
        default=["channels"],
        description="Which of these four are chosen for each block on its own.",
    )
    activation: Choice = Field(
        default_factory=lambda: Values(values=["relu", "gelu", "silu"]),
        description=f"Any of {', '.join(bounds.ACTIVATION_NAMES)}.",
    )
    dropout: Choice = Field(
        default_factory=lambda: Range(min=0.0, max=0.4, step=0.1),
        description="Dropout before the last layer.",
    )
    hyperparameters: dict[str, Choice] = Field(
        default_factory=bounds.default_hyperparameters,
        description="Choices beside the architecture, by name.",
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        bounds.whole("depth", self.depth, 1, 20)
        bounds.whole("channels", self.channels, 1, 65_536)
        bounds.among("kernel", self.kernel, range(1, 16, 2))
        bounds.among("skip", self.skip, (False, True))
        bounds.among("pooling", self.pooling, ("none", "max", "avg"))
        bounds.among("activation", self.activation, bounds.ACTIVATION_NAMES)
        bounds.number("dropout", self.dropout, 0, 1)
        bounds.unconditional(self._blocks())
        bounds.unconditional({"depth": self.depth, "activation": self.activation, "dropout": self.dropout})
        bounds.hyperparameters(self.hyperparameters)
        self.choices()
        return self

    def choices(self) -> Choices:
        """Depth, the choices of the blocks, those of the whole network, then hyperparameters."""
        architecture: dict[str, Values | Range] = {"depth": self.depth}
        for name, choice in self._blocks().items():
            many = name in self.per_block
            architecture |= bounds.repeated(name, choice, self.depth) if many else {name: choice}
        architecture |= {"activation": self.activation, "dropout": self.dropout}
        return bounds.joined(architecture, self.hyperparameters)

    def _blocks(self) -> dict[str, Values | Range]:
        return {
            "channels": self.channels,
            "kernel": self.kernel,
            "skip": self.skip,
            "pooling": self.pooling,
        }

    def check(self, signature: Signature) -> None:
        """Refuse data that are no images."""
        if len(signature.shape) != _IMAGE_DIMENSIONS:
            raise SpecError(
                f"space.kind is 'cnn', which needs data of shape (channels, height, width), but an example "
                f"has shape {signature.shape}; use space.kind mlp, or images (for digits: data.image: true)"
            )

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """(n, channels, height, width) to (n, classes); initialised from torch's global generator."""
        from torch import nn

        from ziggurat.spaces.layers import ACTIVATIONS, POOLINGS, ConvBlock

        self.check(signature)
        activation = ACTIVATIONS[str(bounds.chosen(candidate, "activation"))]
        before, height, width = signature.shape
        blocks: list[nn.Module] = []
        for level in range(1, int(bounds.chosen(candidate, "depth")) + 1):
            after = int(bounds.levelled(candidate, "channels", level))
            kernel = int(bounds.levelled(candidate, "kernel", level))
            skip = bool(bounds.levelled(candidate, "skip", level))
            pooling = str(bounds.levelled(candidate, "pooling", level)) if min(height, width) > 1 else "none"
            pool = POOLINGS[pooling]()
            blocks.append(ConvBlock((before, after), kernel, skip=skip, act=activation(), pool=pool))
            if pooling != "none":
                height, width = height // 2, width // 2
            before = after
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(float(bounds.chosen(candidate, "dropout")))]
        return nn.Sequential(*blocks, *head, nn.Linear(before, signature.classes))
