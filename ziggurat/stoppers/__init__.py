"""Stoppers decide how far a trial is trained; each is one setting whose methods are its algorithm."""

from typing import Annotated

from pydantic import Field

from ziggurat.stoppers.asha import Asha
from ziggurat.stoppers.never import Never

AnyStopper = Annotated[Never | Asha, Field(discriminator="kind")]

__all__ = ["AnyStopper", "Asha", "Never"]
