"""Fully connected networks of variable depth, for data of any shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from ziggurat.choices import Choice, Choices, Range, Values
from ziggurat.setting import Setting
from ziggurat.spaces import bounds

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.domain import Candidate
    from ziggurat.protocols import Signature


LayerChoice = Literal["width", "dropout", "activation", "norm"]


class Mlp(Setting):
    """Layers of chosen widths, each followed by norm, activation and dropout; examples are flattened.

    A choice is made for each layer (`width_1`, `width_2`, ...) if `per_layer` names it, and once for all
    layers (`dropout`) otherwise.
    """

    kind: Literal["mlp"] = "mlp"
    depth: Choice = Field(default_factory=lambda: Range(min=1, max=3), description="Hidden layers, 1 to 20.")
    width: Choice = Field(
        default_factory=lambda: Values(values=[16, 32, 64, 128]),
        description="Units of a hidden layer.",
    )
    dropout: Choice = Field(
        default_factory=lambda: Range(min=0.0, max=0.5, step=0.1),
        description="Dropout after each hidden layer.",
    )
    activation: Choice = Field(
        default_factory=lambda: Values(values=list(bounds.ACTIVATION_NAMES)),
        description=f"Any of {', '.join(bounds.ACTIVATION_NAMES)}.",
    )
    norm: Choice = Field(
        default_factory=lambda: Values(values=["none", "batch"]), description="none or batch."
    )
    per_layer: list[LayerChoice] = Field(
        default=["width"],
        description="Which of these four are chosen for each layer on its own, as width_1, width_2, ...",
    )
    hyperparameters: dict[str, Choice] = Field(
        default_factory=bounds.default_hyperparameters,
        description="Choices beside the architecture, by name.",
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        bounds.whole("depth", self.depth, 1, 20)
        bounds.whole("width", self.width, 1, 65_536)
        bounds.number("dropout", self.dropout, 0, 1)
        bounds.among("activation", self.activation, bounds.ACTIVATION_NAMES)
        bounds.among("norm", self.norm, ("none", "batch"))
        bounds.unconditional({"depth": self.depth, **self._layers()})
        bounds.hyperparameters(self.hyperparameters)
        self.choices()
        return self

    def choices(self) -> Choices:
        """Depth, the choices of the layers (width, dropout, activation, norm), then hyperparameters."""
        architecture: dict[str, Values | Range] = {"depth": self.depth}
        for name, choice in self._layers().items():
            many = name in self.per_layer
            architecture |= bounds.repeated(name, choice, self.depth) if many else {name: choice}
        return bounds.joined(architecture, self.hyperparameters)

    def _layers(self) -> dict[str, Values | Range]:
        return {
            "width": self.width,
            "dropout": self.dropout,
            "activation": self.activation,
            "norm": self.norm,
        }

    def check(self, signature: Signature) -> None:
        """Data of every shape will do."""

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """(n, *shape) to (n, classes); initialised from torch's global generator."""
        from torch import nn

        from ziggurat.spaces.layers import ACTIVATIONS

        layers: list[nn.Module] = [nn.Flatten()]
        before = math.prod(signature.shape)
        for level in range(1, int(bounds.chosen(candidate, "depth")) + 1):
            width = int(bounds.levelled(candidate, "width", level))
            dropout = float(bounds.levelled(candidate, "dropout", level))
            batch_norm = bounds.levelled(candidate, "norm", level) == "batch"
            layers.append(nn.Linear(before, width, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append(ACTIVATIONS[str(bounds.levelled(candidate, "activation", level))]())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            before = width
        return nn.Sequential(*layers, nn.Linear(before, signature.classes))
