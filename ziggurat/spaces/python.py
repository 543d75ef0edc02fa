"""The user's own models: a function that builds one, and choices declared in YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from ziggurat import choices as choice_rules
from ziggurat.choices import Choice, Choices
from ziggurat.imports import FunctionName
from ziggurat.setting import Setting
from ziggurat.spaces import bounds
from ziggurat.spaces.called import network_from, prepared

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.domain import Candidate
    from ziggurat.protocols import Signature


class PythonSpace(Setting):
    """A function of the choices (a dictionary), and of the data's signature if it takes two arguments.

    It gets the active choices that `choices` declares, not the hyperparameters, and returns an `nn.Module`
    that maps (n, *shape) to (n, classes).
    """

    kind: Literal["python"] = "python"
    function: FunctionName = Field(
        description="module:function, on sys.path or in the working directory; it returns an nn.Module."
    )
    declared: dict[str, Choice] = Field(alias="choices", description="Choices of the architecture, by name.")
    hyperparameters: dict[str, Choice] = Field(
        default_factory=bounds.default_hyperparameters,
        description="Choices beside the architecture, by name.",
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        choice_rules.check(self.declared)
        bounds.hyperparameters(self.hyperparameters)
        self.choices()
        return self

    def choices(self) -> Choices:
        """The declared choices, then hyperparameters."""
        return bounds.joined(self.declared, self.hyperparameters)

    def check(self, signature: Signature) -> None:
        """Look whether the function is there and takes one or two arguments; it is not called."""
        prepared(self.function, {}, signature)

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """What the function returns; initialised from torch's global generator."""
        picked = {name: candidate.choices[name] for name in self.declared if name in candidate.choices}
        return network_from(self.function, picked, signature)
