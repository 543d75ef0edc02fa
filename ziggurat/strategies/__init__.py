"""Joint strategies decide what is tried and how far it is trained; each is one setting."""

from typing import Annotated

from pydantic import Field

from ziggurat.strategies.frontier import Frontier
from ziggurat.strategies.pbt import Pbt

AnyStrategy = Annotated[Frontier | Pbt, Field(discriminator="kind")]

__all__ = ["AnyStrategy", "Frontier", "Pbt"]
