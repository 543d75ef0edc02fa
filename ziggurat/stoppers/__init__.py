"""Stoppers decide how far a trial is trained; each is one setting whose methods are its algorithm."""

from typing import Annotated

from pydantic import Field

from ziggurat.stoppers.asha import Asha
from ziggurat.stoppers.median import Median
from ziggurat.stoppers.never import Never
from ziggurat.stoppers.percentile import Percentile

AnyStopper = Annotated[Never | Asha | Median | Percentile, Field(discriminator="kind")]

__all__ = ["AnyStopper", "Asha", "Median", "Never", "Percentile"]
