"""Parameters of a script that brings its own model: choices without anything to build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from ziggurat import choices as choice_rules
from ziggurat.choices import Choice, Choices
from ziggurat.errors import SpecError, near
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.domain import Candidate
    from ziggurat.protocols import Signature


class Parameters(Setting):
    """Named choices that are handed to the script of a trainer of kind `script`, and nothing else.

    Nothing is known of a candidate without training it, unless the script's `profile` command tells.
    """

    kind: Literal["parameters"] = "parameters"
    declared: dict[str, Choice] = Field(
        alias="choices", description="What the script is given, by name: values, or min, max, log and step."
    )
    beside: list[str] = Field(
        default_factory=list,
        alias="hyperparameters",
        description="Names of those choices that leave the model as it is, so that a checkpoint fits "
        "whatever their values; population-based training changes these alone.",
    )

    @field_validator("beside", mode="before")
    @classmethod
    def _listed(cls, raw: object) -> object:
        if isinstance(raw, Mapping):
            names = ", ".join(map(str, raw))
            raise ValueError(
                f"is a list of names here; declare {names or 'them'} under choices and write [{names}]"
            )
        return raw

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        choice_rules.check(self.declared)
        for index, name in enumerate(self.beside):
            if name not in self.declared:
                raise ValueError(
                    f"hyperparameters[{index}]: '{name}' is no choice of the space; "
                    f"{near(name, self.declared)}"
                )
        repeated = sorted({n for n in self.beside if self.beside.count(n) > 1})
        if repeated:
            raise ValueError(f"hyperparameters name '{repeated[0]}' twice; name each once")
        return self

    @property
    def hyperparameters(self) -> dict[str, Choice]:
        """The choices that leave the model as it is."""
        return {name: choice for name, choice in self.declared.items() if name in self.beside}

    def choices(self) -> Choices:
        """All choices, in the order of declaration."""
        return self.declared

    def check(self, signature: Signature) -> None:
        """Nothing is known of the data; the script reads them."""
        del signature

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """There are no models.

        Raises:
            SpecError: Always.
        """
        del candidate, signature
        raise SpecError(
            "space.kind 'parameters' has no models to build, its script has them; use a space with models "
            "(mlp, cnn, cell, mbconv, backbone, python) where one is to be built"
        )
